"""A folder of RL and best-of-n with several penalties or policies, of known curves; nothing in it was trained."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from synthetic_rm.analysis.run_folder import RunFolder

SIZES, SEEDS, PROMPTS, POINTS = (2103, 8985), 3, 6, 7
BASE = 166_208
SETTING = {
    "environment": "reviews",
    "scale": "laptop",
    "mitigation": "none",
    "labels": "hard",
    "num_comparisons": 27_000,
}
STARTS = {45_408: -0.5, BASE: 0.25, 314_800: 0.75}
"""gold of the policies before they are optimized"""


def studied(folder: Path, column: str, values: tuple[float, ...], optimizer: str = "ppo") -> RunFolder:
    """Gold d (0.5 - 0.05 d) and proxy 0.6 d in every setting; the value's rank adds 0.1 d to the proxy, 0.01 d to gold.

    A setting goes as far as d = 4 less its rank.
    """
    rng = np.random.default_rng(0)
    records, runs, history, curves = [], [], [], []
    for size in SIZES:
        for rank, value in enumerate(values):
            for seed in range(SEEDS):
                run = f"{optimizer}-{size}-s{seed}-p0-{rank}"
                d = np.linspace(0, 4 - rank, POINTS)
                wobble = 0.01 * d[:, None] * rng.normal(size=(POINTS, PROMPTS))
                gold = (d * (0.5 - 0.05 * d) + 0.01 * rank * d)[:, None] + wobble
                proxy = ((0.6 + 0.1 * rank) * d)[:, None] + wobble
                named = SETTING | {"optimizer": optimizer, "policy_params": BASE, "proxy_params": size, "kl_coef": 0.0}
                named |= {"run": run, "proxy_seed": seed, "policy_seed": 0, column: value}
                scores = {"pressure": np.arange(POINTS), "kl": d**2, "proxy": proxy.mean(1), "gold": gold.mean(1)}
                records.append(pd.DataFrame(named | scores))
                start = STARTS.get(int(value), 0.25)
                told: dict[str, Any] = {"run": run, "stage": optimizer, "status": "ok", "validation_loss": np.nan}
                runs.append(told | {"gold_start": start, "proxy_start": 100.0 * seed + 2 * start})
                curves.append((run, proxy, gold))
                steps = {"step": np.arange(10 + seed), "kl": (1.0 + rank) * np.arange(10 + seed), "status": "ok"}
                history.append(pd.DataFrame({"run": run, "optimizer": optimizer, "proxy_params": size} | steps))
    tuned = [
        {"run": f"reference-{value}", "stage": "reference", "status": "ok", "params": value, "validation_loss": 4.0}
        for value in values
        if value != BASE and column == "policy_params"
    ]
    facts = {"reference parameters": BASE, "reference: held-out nats per response token": 3.9}
    (folder / "environment.json").write_text(json.dumps(facts))
    arrays = {
        "run": np.array([run for run, *_ in curves]),
        "pressure": np.tile(np.arange(POINTS), (len(curves), 1)),
        "proxy": np.stack([proxy for _, proxy, _ in curves]),
        "gold": np.stack([gold for *_, gold in curves]),
    }
    if optimizer == "best_of_n":
        arrays["pressure"] = arrays["pressure"][0]
    empty = pd.DataFrame({"optimizer": []})
    return RunFolder(folder, pd.concat(records, ignore_index=True), pd.DataFrame(runs + tuned), empty, empty, arrays,
                     arrays, pd.concat(history, ignore_index=True), {}, {})  # fmt: skip
