"""F7: one proxy under best-of-n: its curve as records, and the responses it likes best."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from synthetic_rm.comparisons import held_out_groups
from synthetic_rm.estimators import best_of_n_curve
from synthetic_rm.optimizers.best_of_n import measure, support_kl
from synthetic_rm.reading import open_npy
from synthetic_rm.simulation import ProxyGroup, Simulation
from synthetic_rm.types import EOS, Curve


class Scores(NamedTuple):
    """What one proxy and gold say of the pool, both recentred on it; proxies rank by `proxy`, in their own logits."""

    proxy: np.ndarray
    """[prompts, N] native logits"""
    gold: np.ndarray
    """[prompts, N] standard deviations of the reference"""
    scale: float
    """what a native logit counts on the displayed scale: the recalibration factor over gold's native scale. Negative
    where the proxy orders held-out pairs against gold; what is displayed then falls as n grows"""


def scores_of(raw: np.ndarray, gold: np.ndarray, scale: float) -> Scores:
    """Raw scores [prompts, N], recentred on the pool."""
    native = np.asarray(raw, np.float64)
    return Scores(native - native.mean(), gold - gold.mean(), scale)


def starts(raw: np.ndarray, gold: np.ndarray, scale: float) -> dict[str, float]:
    """What a policy scores before it is optimized, which recentring takes away: policies can be compared by it.

    Args:
        raw, gold: [prompts, N] scores of the pool as they are: the proxy's logits, gold's standard deviations.
        scale: as in `Scores`.
    Returns:
        gold_start, in SDs of the reference; proxy_start, on the displayed scale, up to a constant of the proxy's.
    """
    return {
        "gold_start": float(np.mean(gold, dtype=np.float64)),
        "proxy_start": scale * float(np.mean(raw, dtype=np.float64)),
    }


def displayed_curve(scores: Scores, ns: np.ndarray) -> Curve:
    """The best-of-n curve by the proxy's own ranking, its proxy scores on the displayed scale."""
    curve = measure(scores.proxy, scores.gold, ns)
    return curve._replace(proxy=scores.scale * curve.proxy)


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
    simulation: Simulation, group: ProxyGroup, seed: int, run: str, scores: Scores, curve: Curve
) -> pd.DataFrame:
    """The rows of records.csv of one curve (`displayed_curve`), one for each n."""
    settings, ns = simulation.settings, simulation.pressures()
    pool = simulation.open_pool()
    identity = open_npy(simulation.pool.path / "identity.npy")
    native, lengths = best_of_n_curve(scores.proxy, np.asarray(pool.length, np.float64), ns)
    return pd.DataFrame(
        {
            "run": run,
            **setting_columns(simulation, group, "best_of_n", np.nan),
            "proxy_seed": seed,
            "policy_seed": settings.best_of_n.seed,
            "pressure": ns,
            "kl": curve.kl,
            "kl_se": 0.0,
            "proxy": curve.proxy.mean(0),
            "proxy_se": standard_error(curve.proxy),
            "gold": curve.gold.mean(0),
            "gold_se": standard_error(curve.gold),
            "response_length": lengths.mean(0),
            "num_prompts": curve.gold.shape[0],
            "num_samples": settings.best_of_n.samples,
            "kl_support": support_kl(scores.proxy, identity, ns),
            "proxy_params_nonembedding": group.artifact.facts["non_embedding"],
            "proxy_init": settings.proxy.init,
            "proxy_epochs": settings.proxy.epochs,
            "proxy_native": native.mean(0),
        }
    )


def standard_error(curve: np.ndarray) -> np.ndarray:
    """Over prompts, of the gain over the reference on the same prompt: curve [prompts, k], n = 1 first -> [k]."""
    gain = curve - curve[:, :1]
    return gain.std(axis=0, ddof=1) / np.sqrt(len(gain))


def sample_rows(simulation: Simulation, group: ProxyGroup, seed: int, scores: Scores) -> list[dict[str, Any]]:
    """Best of the first n of one random order of the pool, n = 1, 3, 10, 30, ...: the paper's Table 2."""
    environment, pool = simulation.world.environment, simulation.open_pool()
    largest = int(simulation.pressures()[-1])
    ns = [n for power in range(6) for n in (10**power, 3 * 10**power) if n < largest] + [largest]
    rows = []
    for i in range(min(simulation.settings.best_of_n.table_prompts, len(pool.prompts))):
        order = np.random.default_rng([simulation.settings.best_of_n.seed, i]).permutation(scores.proxy.shape[1])
        for n in ns:
            best = order[:n][np.argmax(scores.proxy[i, order[:n]])]
            tokens = pool.tokens[i, best, : pool.length[i, best]]
            cut = "" if tokens[-1] == EOS else " …"
            rows.append(
                {
                    "prompt_id": i,
                    "prompt": environment.decode(pool.prompts[i]),
                    "n": n,
                    "proxy_params": group.artifact.facts["total"],
                    "proxy_seed": seed,
                    "proxy": float(scores.scale * scores.proxy[i, best]),
                    "gold": float(scores.gold[i, best]),
                    "response": environment.decode(tokens) + cut,
                }
            )
    return rows
