"""The paper's Table 1 beside what a run used."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from synthetic_rm.analysis.run_folder import RunFolder
from synthetic_rm.analysis.tables import ABSENT, Markup, html_table

MULTIPLIER = "{} times that of GPT-3’s pretraining, which is not printed"


def hyperparameters(config: Mapping[str, Any], runs: pd.DataFrame) -> pd.DataFrame:
    """Every row of the paper's Table 1 with its value there and here.

    Args:
        config: of config.yaml; what it lacks is absent here.
        runs: of runs.csv, whose proxies tell their learning rates.
    Returns:
        Text: hyperparameter, paper, here.
    """
    proxy, rl = (_group(config, name) for name in ("proxy", "rl"))
    rates = runs.loc[runs["stage"] == "proxy", "learning_rate"].dropna() if "learning_rate" in runs else pd.Series()
    spread = f"{rates.min():.2g} to {rates.max():.2g}, by size" if len(rates) else ABSENT
    answers = f"{rl['prompts'] * rl['samples']} responses" if {"prompts", "samples"} <= set(rl) else ABSENT
    ours = rl if rl.get("method") is not None else {}
    rows = [
        ("RM Adam learning rate", MULTIPLIER.format("1.67e-2"), spread),
        ("RM batch size", "64", _told(proxy, "batch", "{} comparisons")),
        ("RL Adam learning rate", MULTIPLIER.format("4e-3"), _told(ours, "learning_rate")),
        ("RL batch size", "256", answers if ours else ABSENT),
        ("RL timesteps per rollout", "256", "1, a whole response" if ours else ABSENT),
        ("RL minibatches per epoch", "128", _told(ours, "minibatches")),
        ("RL PPO clipping parameter", "0.2", _told(ours, "clip")),
        ("RL GAE bootstrapping parameter λ", "0.95", _told(ours, "gae_lambda")),
    ]
    return pd.DataFrame(rows, columns=["hyperparameter", "paper", "here"])


def hyperparameter_table(run: RunFolder) -> Markup:
    """`hyperparameters` for a report."""
    kinds = dict.fromkeys(("paper", "here"), "text")
    found = hyperparameters(run.config, run.runs)
    return html_table(found, caption="Hyperparameters: the paper’s Table 1, and this run", classes=kinds)


def _group(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = config.get(name)
    return dict(found) if isinstance(found, Mapping) else {}


def _told(group: Mapping[str, Any], key: str, form: str = "{}") -> str:
    return form.format(group[key]) if group.get(key) is not None else ABSENT
