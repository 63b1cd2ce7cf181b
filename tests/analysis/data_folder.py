"""An output folder over sizes and numbers of comparisons with known coefficients; nothing in it was trained."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from analysis.synthetic_folder import PROVENANCE, SETTING

from synthetic_rm.analysis.fit_table import fit_table

SIZES, COUNTS = (2103, 8985, 80881), (500, 2000, 8000, 27000)
Setting = tuple[int, int, float, str]
"""size, comparisons, epochs, labels"""


def grid(sizes: tuple[int, ...] = SIZES, counts: tuple[int, ...] = COUNTS) -> list[Setting]:
    """Every size and number of comparisons once, 2,000 four times, and as many by people as by gold at most."""
    once = [(size, count, 1.0, "hard") for size in sizes for count in counts]
    return once + [s for size in sizes for s in ((size, 2000, 4.0, "hard"), (size, counts[-1], 1.0, "human"))]


def quality(setting: Setting) -> float:
    """0 up to 2,000 unique comparisons, growing with those beyond and with size; labels of people are half as good."""
    size, count, _, labels = setting
    return max(np.log10(count / 2000), 0.0) * (0.4 + 0.2 * np.log10(size / 2000)) * (0.5 if labels == "human" else 1.0)


def write_data_folder(
    folder: Path,
    settings: list[Setting] | None = None,
    *,
    learnt: Callable[[Setting], float] = quality,
    useful: Callable[[Setting], float] = quality,
    seeds: int = 3,
    prompts: int = 16,
    noise: float = 0.03,
) -> Path:
    """Validation loss ln 2 - 0.1 learnt, gold = d (useful - 0.1 d useful), with noise over seeds and prompts."""
    rng = np.random.default_rng(0)
    ns = np.unique(np.round(np.geomspace(1, 4096, 17)).astype(int))
    kl = np.log(ns) - (ns - 1) / ns
    d = np.sqrt(kl)
    records, stages, curves = [], [], {"run": [], "proxy": [], "gold": []}  # type: ignore[var-annotated]
    for setting in settings or grid():
        size, count, epochs, labels = setting
        for seed in range(seeds):
            name = f"{size}-{count}-{epochs:g}-{labels}-s{seed}"
            loss = np.log(2) - 0.1 * learnt(setting) + 0.0005 * rng.normal()
            stages.append(_stage(f"proxy-{name}", "proxy", size, seed) | {"validation_loss": loss})
            stages[-1]["validation_accuracy"] = 0.5 + 0.15 * learnt(setting)
            stages.append(_stage(f"best_of_n-{name}", "best_of_n", size, seed) | {"proxy_run": f"proxy-{name}"})
            rise = useful(setting) + noise * rng.normal() + 0.05 * rng.normal(size=(prompts, 1))
            gold = d * rise * (1 - 0.1 * d) + noise * d * rng.normal(size=(prompts, ns.size))
            proxy = d * (0.2 + useful(setting)) + 0.0 * gold
            for key, value in (("run", f"best_of_n-{name}"), ("proxy", proxy.T), ("gold", gold.T)):
                curves[key].append(value)
            told = SETTING | {"run": f"best_of_n-{name}", "labels": labels, "num_comparisons": count}
            told |= {"proxy_epochs": epochs, "proxy_params": size, "proxy_seed": seed, "num_prompts": prompts}
            scores = {"proxy": proxy.mean(axis=0), "gold": gold.mean(axis=0), "pressure": ns, "kl": kl}
            errors = {"num_samples": 4096, "kl_se": 0.0, "proxy_se": 0.01, "gold_se": 0.02}
            records.append(pd.DataFrame(told | errors | scores))
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.array(values) for name, values in curves.items()} | {"pressure": ns.astype(np.int64)}
    table = pd.concat(records)
    np.savez(folder / "curves.npz", **arrays)
    table.to_csv(folder / "records.csv", index=False)
    fit_table(arrays, table, rng=rng, num_resamples=100).to_csv(folder / "fits.csv", index=False)
    pd.DataFrame(stages).to_csv(folder / "runs.csv", index=False)
    (folder / "config.yaml").write_text(yaml.safe_dump({"scale": "laptop"}))
    (folder / "provenance.json").write_text(json.dumps(PROVENANCE))
    return folder


def _stage(run: str, stage: str, size: int, seed: int) -> dict[str, Any]:
    origin = {"config_hash": "1a2b3c", "commit": "0123456789ab", "device": "cpu", "seconds": 2.0}
    return {"run": run, "stage": stage, "status": "ok", "params": size, "proxy_seed": seed} | origin
