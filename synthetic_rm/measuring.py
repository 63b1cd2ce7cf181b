"""F7: one proxy under best-of-n: its curve as records, and the responses it likes best."""

from typing import Any

import numpy as np
import pandas as pd

from synthetic_rm.comparisons import held_out_groups
from synthetic_rm.curves import Curves, recentred
from synthetic_rm.simulation import ProxyGroup, Simulation
from synthetic_rm.types import EOS, Curve


def setting_columns(simulation: Simulation, group: ProxyGroup, optimizer: str, kl_coef: float) -> dict[str, Any]:
    """The columns of records.csv that name the setting of a curve."""
    settings = simulation.settings
    comparisons = settings.comparisons
    pairs = comparisons.group_size * (comparisons.group_size - 1) // 2
    training = comparisons.num - held_out_groups(comparisons.num, comparisons.held_out)
    learnt = settings.proxy.num_comparisons or training
    return {
        "environment": simulation.world.environment.name,
        "scale": settings.scale,
        "optimizer": optimizer,
        "mitigation": "none",
        "labels": comparisons.labels,
        "policy_params": simulation.policy.total,
        "proxy_params": group.artifact.facts["total"],
        "num_comparisons": learnt * pairs,
        "label_noise": comparisons.noise,
        "kl_coef": kl_coef,
    }


def curve_records(
    simulation: Simulation, group: ProxyGroup, seed: int, run: str, curves: Curves, curve: Curve
) -> pd.DataFrame:
    """The rows of records.csv of one curve (`displayed`), one for each n."""
    settings = simulation.settings
    return pd.DataFrame(
        {
            "run": run,
            **setting_columns(simulation, group, "best_of_n", np.nan),
            "proxy_seed": seed,
            "policy_seed": settings.best_of_n.seed,
            "pressure": curve.pressure,
            "kl": curve.kl,
            "kl_se": 0.0,
            "proxy": curve.proxy.mean(0),
            "proxy_se": standard_error(curve.proxy),
            "gold": curve.gold.mean(0),
            "gold_se": standard_error(curve.gold),
            "response_length": curves.response_length[seed],
            "num_prompts": curve.gold.shape[0],
            "num_samples": settings.best_of_n.samples,
            "kl_support": curves.kl_support[seed],
            "proxy_params_nonembedding": group.artifact.facts["non_embedding"],
            "proxy_init": settings.proxy.init,
            "proxy_epochs": settings.proxy.epochs,
            "proxy_native": curves.proxy[seed].mean(0),
        }
    )


def standard_error(curve: np.ndarray) -> np.ndarray:
    """Over prompts, of the gain over the reference on the same prompt: curve [prompts, k], n = 1 first -> [k]."""
    gain = curve - curve[:, :1]
    return gain.std(axis=0, ddof=1) / np.sqrt(len(gain))


def sample_rows(
    simulation: Simulation, group: ProxyGroup, seed: int, curves: Curves, scale: float
) -> list[dict[str, Any]]:
    """Best of the first n of one random order of the pool, n = 1, 3, 10, 30, ...: the paper's Table 2."""
    environment, pool = simulation.world.environment, simulation.open_pool()
    largest = int(simulation.pressures()[-1])
    ns = [n for power in range(6) for n in (10**power, 3 * 10**power) if n < largest] + [largest]
    shown = slice(simulation.settings.best_of_n.table_prompts)
    means = {name: curves.figure(seed, name) for name in ("proxy_mean", "gold_mean")}
    proxy, gold = recentred(simulation.proxy_scores(group)[seed, shown], simulation.gold_scores()[shown], **means)
    rows = []
    for i in range(len(proxy)):
        order = np.random.default_rng([simulation.settings.best_of_n.seed, i]).permutation(proxy.shape[1])
        for n in ns:
            best = order[:n][np.argmax(proxy[i, order[:n]])]
            tokens = pool.tokens[i, best, : pool.length[i, best]]
            cut = "" if tokens[-1] == EOS else " …"
            rows.append(
                {
                    "prompt_id": i,
                    "prompt": environment.decode(pool.prompts[i]),
                    "n": n,
                    "proxy_params": group.artifact.facts["total"],
                    "proxy_seed": seed,
                    "proxy": float(scale * proxy[i, best]),
                    "gold": float(gold[i, best]),
                    "response": environment.decode(tokens) + cut,
                }
            )
    return rows
