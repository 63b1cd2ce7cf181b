"""F7: what a best-of-n experiment leaves: records, runs, per-prompt curves and sample responses, as tables."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from synthetic_rm.estimators import best_of_n_curve
from synthetic_rm.optimizers.best_of_n import measure, support_kl
from synthetic_rm.simulation import ProxyGroup, Simulation
from synthetic_rm.store import Artifact
from synthetic_rm.types import EOS


class Tables(NamedTuple):
    """The tables of an experiment, before they are written."""

    records: pd.DataFrame
    runs: pd.DataFrame
    samples: pd.DataFrame
    curves: dict[str, np.ndarray]
    environment: dict[str, Any]


def best_of_n_tables(simulation: Simulation) -> Tables:
    """Run (or find in the store) every stage of the best-of-n experiment and gather its tables."""
    world, settings = simulation.world, simulation.settings
    origin = simulation.store.origin
    runs = [_release_run(simulation)] if not world.stages else [_stage_run(a, origin) for a in world.stages]
    runs.append(_stage_run(simulation.comparisons, origin))
    groups = [simulation.proxies(size) for size in settings.proxy.sizes]
    runs.append(_stage_run(simulation.pool, origin))
    pool, gold = simulation.open_pool(), np.asarray(simulation.gold_scores())
    identity = np.load(simulation.pool.path / "identity.npy", mmap_mode="r", allow_pickle=False)
    records, samples, curves = [], [], []
    for group in groups:
        scores = simulation.proxy_scores(group)
        factors = simulation.recalibration(group)
        for seed in range(settings.proxy.seeds):
            status = "ok" if group.artifact.facts["finite"][seed] and np.isfinite(scores[seed]).all() else "nonfinite"
            runs.append(_proxy_run(group, seed, factors[seed], status, origin))
            if status != "ok":
                continue
            name = f"best_of_n-{group.artifact.facts['total']}-s{seed}-{group.artifact.key[:8]}"
            raw = np.asarray(scores[seed], np.float64)
            factor = factors[seed] / world.gold_scale
            proxy = factor * (raw - raw.mean())
            table, curve = _records(simulation, group, seed, name, proxy, factor, gold, pool.length, identity)
            records.append(table)
            curves.append((name, *curve))
            runs.append(
                {"run": name, "stage": "best_of_n", "status": "ok", "config_hash": group.artifact.key, **_plain(origin)}
            )
            if seed == 0:
                samples.extend(_samples(simulation, group, seed, proxy, gold - gold.mean()))
    ns = simulation.pressures()
    empty = np.zeros((0, len(ns), settings.best_of_n.prompts), np.float32)
    arrays = {
        "run": np.array([c[0] for c in curves], dtype=np.str_),
        "pressure": ns.astype(np.int64),
        "proxy": np.stack([c[1] for c in curves]) if curves else empty,
        "gold": np.stack([c[2] for c in curves]) if curves else empty,
    }
    return Tables(
        pd.concat(records, ignore_index=True) if records else pd.DataFrame(),
        pd.DataFrame(runs),
        pd.DataFrame(samples),
        arrays,
        environment_facts(simulation),
    )


def _records(
    simulation: Simulation,
    group: ProxyGroup,
    seed: int,
    name: str,
    proxy: np.ndarray,
    factor: float,
    gold: np.ndarray,
    length: np.ndarray,
    identity: np.ndarray,
) -> tuple[pd.DataFrame, tuple[np.ndarray, np.ndarray]]:
    settings, world = simulation.settings, simulation.world
    ns = simulation.pressures()
    curve = measure(proxy, gold - gold.mean(), ns)
    _, lengths = best_of_n_curve(proxy, np.asarray(length, np.float64), ns)
    pairs = settings.comparisons.group_size * (settings.comparisons.group_size - 1) // 2
    held_out = max(1, round(settings.comparisons.num * settings.comparisons.held_out))
    facts = group.artifact.facts
    prompts = curve.gold.shape[0]
    table = pd.DataFrame(
        {
            "run": name,
            "environment": world.environment.name,
            "scale": settings.scale,
            "optimizer": "best_of_n",
            "mitigation": "none",
            "labels": settings.comparisons.labels,
            "policy_params": network_count_of(simulation),
            "proxy_params": facts["total"],
            "num_comparisons": (settings.comparisons.num - held_out) * pairs,
            "label_noise": settings.comparisons.noise,
            "kl_coef": np.nan,
            "proxy_seed": seed,
            "policy_seed": settings.best_of_n.seed,
            "pressure": ns,
            "kl": curve.kl,
            "kl_se": 0.0,
            "proxy": curve.proxy.mean(0),
            "proxy_se": _standard_error(curve.proxy),
            "gold": curve.gold.mean(0),
            "gold_se": _standard_error(curve.gold),
            "response_length": lengths.mean(0),
            "num_prompts": prompts,
            "num_samples": settings.best_of_n.samples,
            "kl_support": support_kl(proxy, identity, ns),
            "proxy_params_nonembedding": facts["non_embedding"],
            "proxy_init": settings.proxy.init,
            "proxy_native": curve.proxy.mean(0) / factor,
        }
    )
    return table, (curve.proxy.T.astype(np.float32), curve.gold.T.astype(np.float32))


def _standard_error(curve: np.ndarray) -> np.ndarray:
    """Over prompts, of the gain over the reference on the same prompt: curve [prompts, k], n = 1 first -> [k]."""
    gain = curve - curve[:, :1]
    return gain.std(axis=0, ddof=1) / np.sqrt(len(gain))


def network_count_of(simulation: Simulation) -> int:
    """Exact parameter count of the reference policy."""
    facts = simulation.world.facts["reference"]
    return int(facts["total"])


def _samples(
    simulation: Simulation, group: ProxyGroup, seed: int, proxy: np.ndarray, gold: np.ndarray
) -> list[dict[str, Any]]:
    """Best of the first n of one random order of the pool, n = 1, 3, 10, 30, ...: the paper's Table 2."""
    environment, pool = simulation.world.environment, simulation.open_pool()
    largest = int(simulation.pressures()[-1])
    ns = [n for power in range(6) for n in (10**power, 3 * 10**power) if n < largest] + [largest]
    rows = []
    for i in range(min(simulation.settings.best_of_n.table_prompts, len(pool.prompts))):
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
                    "proxy": float(proxy[i, best]),
                    "gold": float(gold[i, best]),
                    "response": environment.decode(tokens) + cut,
                }
            )
    return rows


def _plain(origin: Mapping[str, Any]) -> dict[str, Any]:
    return {"commit": origin["commit"], "device": origin["device"]}


def _stage_run(artifact: Artifact, origin: Mapping[str, Any]) -> dict[str, Any]:
    facts, manifest = artifact.facts, artifact.manifest
    finite = facts.get("finite", True)
    row = {
        "run": f"{manifest['stage']}-{artifact.key[:8]}",
        "stage": manifest["stage"],
        "status": "ok" if np.all(finite) else "nonfinite",
        "config_hash": artifact.key,
        "commit": manifest.get("commit", origin["commit"]),
        "device": manifest.get("device", origin["device"]),
        "seconds": manifest["seconds"],
        "reused": artifact.reused,
        "params": facts.get("total"),
        "params_nonembedding": facts.get("non_embedding"),
    }
    numbers = ("train_loss", "validation_loss", "mean_length", "distinct", "dropped")
    return row | {key: facts[key] for key in numbers if key in facts}


def _release_run(simulation: Simulation) -> dict[str, Any]:
    world, origin = simulation.world, simulation.store.origin
    name = simulation.settings.environment.release
    return {
        "run": f"release-{name}",
        "stage": "release",
        "status": "ok",
        "config_hash": world.keys[-1],
        **_plain(origin),
        "seconds": 0.0,
        "reused": True,
        "params": world.facts["gold"]["total"],
        "params_nonembedding": world.facts["gold"]["non_embedding"],
        "validation_accuracy": world.facts["gold"]["agreement"]["rater"],
    }


def _proxy_run(group: ProxyGroup, seed: int, factor: float, status: str, origin: Mapping[str, Any]) -> dict[str, Any]:
    facts = group.artifact.facts
    return _stage_run(group.artifact, origin) | {
        "run": f"proxy-{facts['total']}-s{seed}-{group.artifact.key[:8]}",
        "status": status,
        "seconds": group.artifact.manifest["seconds"] / len(facts["finite"]),
        "learning_rate": facts["learning_rate"],
        "train_loss": facts["train_loss"][seed],
        "validation_loss": facts["validation_loss"][seed],
        "validation_accuracy": facts["validation_accuracy"][seed],
        "recalibration": factor,
        "proxy_seed": seed,
    }


def environment_facts(simulation: Simulation) -> dict[str, Any]:
    """What gold and reference are worth, for the report."""
    facts = simulation.world.facts
    gold, raters = facts["gold"], facts["gold"]["raters"]
    return {
        "environment": simulation.world.environment.name,
        "release": simulation.settings.environment.release or "trained by this run",
        "gold_accuracy": gold["agreement"]["rater"],
        "rater_agreement": raters["rater_vs_majority"]["value"],
        "gold orders pairs as one rater of each does": gold["agreement"]["rater"],
        "gold orders pairs as the majority of raters does": gold["agreement"]["majority"],
        "one rater agrees with another": raters["rater_vs_rater"]["value"],
        "one rater agrees with the other raters' majority": raters["rater_vs_majority"]["value"],
        "half of the raters agrees with the other half": raters["half_vs_half"]["value"],
        "gold parameters": gold["total"],
        "gold: native logits per standard deviation of the reference": gold["reference_deviation"],
        "reference parameters": facts["reference"]["total"],
        "reference: held-out nats per response token": facts["reference"]["validation_loss"],
    }


def write_tables(tables: Tables, folder: Path) -> None:
    """Write records.csv, runs.csv, samples.csv, curves.npz and environment.json, each in one move."""
    for name in ("records", "runs", "samples"):
        frame: pd.DataFrame = getattr(tables, name)
        write_atomic(folder / f"{name}.csv", frame.to_csv(index=False, lineterminator="\n").encode())
    scratch = folder / ".curves.npz"
    with scratch.open("wb") as file:
        np.savez_compressed(file, **tables.curves)  # type: ignore[arg-type]
    os.replace(scratch, folder / "curves.npz")
    write_atomic(folder / "environment.json", (json.dumps(tables.environment, indent=1) + "\n").encode())


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    scratch = path.with_name(f".{path.name}.new")
    scratch.write_bytes(content)
    os.replace(scratch, path)
