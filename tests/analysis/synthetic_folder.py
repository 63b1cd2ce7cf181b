"""An output folder with known coefficients, in the formats of a real one; nothing in it was trained."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from synthetic_rm.analysis.fit_table import fit_table

SIZES = (2107, 4418, 9043, 22145, 71000)
ALPHA = dict(zip(SIZES, (0.42, 0.50, 0.58, 0.64, 0.70), strict=True))
BETA = dict(zip(SIZES, (0.14, 0.135, 0.12, 0.10, 0.085), strict=True))
HOSTILE = '<script>alert("x")</script> & <img src=x onerror=alert(1)> \x1b[31m ünï $title'
SETTING = {
    "environment": "reviews-v1",
    "scale": "laptop",
    "optimizer": "best_of_n",
    "mitigation": "none",
    "labels": "hard",
    "policy_params": 166000,
    "num_comparisons": 28672,
    "label_noise": 0.0,
    "kl_coef": np.nan,
    "policy_seed": 0,
    "response_length": 21.0,
    "proxy_init": "scratch",
}
PROVENANCE = {
    "commit": "0123456789abcdef",
    "dirty": False,
    "versions": {"python": "3.11.9", "numpy": "2.4.6"},
    "device": "cpu",
    "threads": 2,
    "started": "2026-01-02T03:04:05+00:00",
    "seconds": 201.5,
    "command": "python experiments/run.py +experiment=figure1 scale=laptop",
    "data_sha256": "ab" * 32,
    "release": {"name": "reviews-v1"},
    "config_hash": "1a2b3c",
}
ENVIRONMENT = {"gold_accuracy": 0.725, "rater_agreement": 0.81, "test": {"num_comparisons": 4321}}


def write_folder(
    folder: Path,
    *,
    sizes: tuple[int, ...] = SIZES,
    seeds: int = 4,
    prompts: int = 64,
    points: int = 30,
    largest: int = 60000,
    failed: int = 1,
    beta: dict[int, float] = BETA,
    noise: float = 0.6,
) -> Path:
    """gold = d (alpha - beta d) with spread over seeds, prompts; the smallest size lacks `failed` seeds."""
    rng = np.random.default_rng(0)
    ns = np.unique(np.round(np.geomspace(1, largest, points)).astype(int))
    kl = np.log(ns) - (ns - 1) / ns
    d = np.sqrt(kl)
    records, stages = [], []
    curves: dict[str, list[Any]] = {"run": [], "proxy": [], "gold": []}
    for rank, size in enumerate(sizes):
        for seed in range(seeds):
            status = "nonfinite" if rank == 0 and seed >= seeds - failed else "ok"
            own = {"params": size, "validation_accuracy": 0.6 + 0.02 * rank}
            stages.append(_stage(f"proxy-{size}-s{seed}", "proxy", status) | own)
            if status != "ok":
                continue
            run = f"best_of_n-{size}-s{seed}-1a2b3c"
            stages.append(_stage(run, "best_of_n", status) | {"params": size})
            alpha = ALPHA[size] + 0.03 * rng.normal() + 0.15 * rng.normal(size=(prompts, 1))
            bend = beta[size] + 0.006 * rng.normal() + 0.03 * rng.normal(size=(prompts, 1))
            steps = np.sqrt(np.diff(d, prepend=0)) * rng.normal(size=(prompts, ns.size))
            gold = d * (alpha - bend * d) + noise * np.cumsum(steps, axis=1)
            proxy = d * (1.1 + 0.12 * rank + 0.05 * rng.normal(size=(prompts, 1)) - 0.03 * d)
            for name, value in (("run", run), ("proxy", proxy.T), ("gold", gold.T)):
                curves[name].append(value)
            scores = {"proxy": proxy.mean(axis=0), "gold": gold.mean(axis=0), "pressure": ns, "kl": kl}
            errors = {"kl_se": 0.0, "proxy_se": 0.01, "gold_se": 0.02}
            counts = {
                "proxy_params": size,
                "proxy_seed": seed,
                "num_prompts": prompts,
                "num_samples": largest,
            }
            records.append(pd.DataFrame(SETTING | {"run": run} | counts | errors | scores))
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.array(values) for name, values in curves.items()} | {"pressure": ns.astype(np.int64)}
    table = pd.concat(records)
    np.savez(folder / "curves.npz", **arrays)
    table.to_csv(folder / "records.csv", index=False)
    fit_table(arrays, table, rng=rng, num_resamples=300).to_csv(folder / "fits.csv", index=False)
    pd.DataFrame(stages).to_csv(folder / "runs.csv", index=False)
    _samples(sizes[0]).to_csv(folder / "samples.csv", index=False)
    config = {"scale": "laptop", "seed": 0, "best_of_n": {"samples": int(largest), "prompts": prompts}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "provenance.json").write_text(json.dumps(PROVENANCE))
    (folder / "environment.json").write_text(json.dumps(ENVIRONMENT))
    return folder


def add_rl(folder: Path, *, seeds: int = 3, failed: int = 1, noise: float = 0.3) -> Path:
    """RL with gold = d (alpha - beta ln d) beside the best-of-n of the folder; the last size lacks `failed` runs."""
    rng = np.random.default_rng(1)
    records, runs = pd.read_csv(folder / "records.csv"), pd.read_csv(folder / "runs.csv")
    prompts = int(records["num_prompts"].iloc[0])
    sizes = sorted(records["proxy_params"].unique())
    made, stages, curves, histories = [], [], [], []
    for rank, size in enumerate(sizes):
        for seed in range(seeds):
            run, count = f"ppo-{size}-s{seed}-p0-ab", 13 + seed
            lost = size == sizes[-1] and seed >= seeds - failed
            stages.append(_stage(run, "ppo", "failed" if lost else "ok") | {"params": size})
            steps = np.arange(60)
            told = {"run": run, "optimizer": "ppo", "status": stages[-1]["status"], "proxy_params": size}
            told |= {"proxy_seed": seed, "policy_seed": 0, "step": steps, "kl": 80 * (steps / 59) ** 2}
            histories.append(pd.DataFrame(told | {"proxy": 0.1 * steps}))
            if lost:
                continue
            d = np.concatenate([[0], np.linspace(0.6, 8.9, count - 1)])
            step = np.concatenate([[0], 2 + 4 * np.arange(count - 1)])
            slope = 0.4 - (0.3 - 0.04 * rank) * np.log(np.where(d > 0, d, 1.0))
            gold = d[:, None] * (slope[:, None] + 0.1 * noise * rng.normal(size=prompts))
            proxy = d[:, None] * (0.5 + 0.05 * rank + 0.02 * rng.normal(size=prompts))
            curves.append((run, step, proxy, gold))
            scores = {"proxy": proxy.mean(1), "gold": gold.mean(1), "pressure": step, "kl": d**2}
            named = SETTING | {"optimizer": "ppo", "kl_coef": 0.0, "run": run, "proxy_params": size}
            named |= {"proxy_seed": seed, "num_prompts": prompts, "num_samples": np.where(d > 0, 8, 4096)}
            made.append(pd.DataFrame(named | {"kl_se": 0.1, "proxy_se": 0.01, "gold_se": 0.02} | scores))
    most = max(len(step) for _, step, _, _ in curves)
    arrays = {
        "run": np.array([run for run, *_ in curves]),
        "pressure": np.array([np.pad(step, (0, most - len(step)), constant_values=-1) for _, step, _, _ in curves]),
        "proxy": np.array([np.pad(proxy, ((0, most - len(proxy)), (0, 0))) for _, _, proxy, _ in curves]),
        "gold": np.array([np.pad(gold, ((0, most - len(gold)), (0, 0))) for *_, gold in curves]),
    }
    np.savez(folder / "curves_rl.npz", **arrays)
    fits = fit_table(arrays, pd.concat(made), rng=rng, num_resamples=300, cut=36.0)
    pd.concat([pd.read_csv(folder / "fits.csv"), fits]).to_csv(folder / "fits.csv", index=False)
    pd.concat([records, *made]).to_csv(folder / "records.csv", index=False)
    pd.concat([runs, pd.DataFrame(stages)]).to_csv(folder / "runs.csv", index=False)
    pd.concat(histories).to_csv(folder / "history.csv", index=False)
    said = [
        {"prompt_id": 0, "prompt": "the acting", "proxy_params": sizes[0], "proxy_seed": 0, "proxy": 0.1 * step}
        | {"gold": 0.2, "response": f"hacked {step}", "optimizer": "ppo", "pressure": step, "kl": 0.01 * step**2}
        for step in (0, 20, 60)
    ]
    samples = pd.read_csv(folder / "samples.csv").assign(optimizer="best_of_n")
    pd.concat([samples, pd.DataFrame(said)]).to_csv(folder / "samples.csv", index=False)
    return folder


def _stage(run: str, stage: str, status: str) -> dict[str, Any]:
    origin = {"config_hash": "1a2b3c", "commit": "0123456789ab", "device": "cpu", "seconds": 2.0}
    return {"run": run, "stage": stage, "status": status} | origin


def _samples(size: int) -> pd.DataFrame:
    rows = [
        {"prompt_id": index, "prompt": prompt, "n": n, "proxy_params": size, "proxy_seed": 0}
        | {"proxy": 0.1 * n**0.5, "gold": 0.3 - 0.001 * n}
        | {"response": HOSTILE if n == 10 else f" was answer {n}, fine and moving"}
        for index, prompt in enumerate(("the acting in this", HOSTILE))
        for n in (1, 3, 10, 30, 100, 300, 1000)
    ]
    return pd.DataFrame(rows)
