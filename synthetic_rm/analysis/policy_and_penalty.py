"""What a folder with several policies or KL penalties shows besides its main setting: figures and tables."""

import json
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from synthetic_rm.analysis.bootstrap import crossed_bootstrap, interval
from synthetic_rm.analysis.curves import Arrays, mean_curves, setting_curves
from synthetic_rm.analysis.figures.panels import PENALTIES, POLICIES, Series, gap_panels, score_panels, step_panels
from synthetic_rm.analysis.figures.rl import NAMES
from synthetic_rm.analysis.figures.style import human_count
from synthetic_rm.analysis.run_folder import RunFolder
from synthetic_rm.analysis.tables import Markup, html_table, number, with_interval
from synthetic_rm.errors import InputError

CAPTIONS: Mapping[str, str] = {
    "figure_9": "Gold and proxy against KL under RL, by KL penalty; one panel for each proxy size.",
    "figure_14": "KL of the training rollouts against iterations, by KL penalty; one panel for each proxy size.",
    "figure_gap_penalty": "Proxy minus gold against KL under RL, by KL penalty.",
    "figure_7a": "Gold and proxy against KL under best-of-n, by size of the policy: scores are relative to the policy "
    "that drew the comparisons, so that others start above or below 0. Stars: highest gold.",
    "figure_7b": "The same under RL.",
    "figure_15": "KL of the training rollouts against iterations, by size of the policy.",
    "figure_23a": "Gold under best-of-n by size of the policy, every policy shifted to start at 0.",
    "figure_23b": "The same under RL.",
    "figure_24a": "Proxy minus gold against KL under best-of-n, by size of the policy, each shifted to start at 0.",
    "figure_24b": "The same under RL.",
}
"""of the figures, by the name of their files, which is their number in the paper"""


def varies(records: pd.DataFrame, column: str) -> bool:
    """Whether the records have several values of a column."""
    return records[column].nunique() > 1


def mean_gaps(curves: Arrays, records: pd.DataFrame, *, rng: np.random.Generator, level: float) -> pd.DataFrame:
    """Mean over seeds and prompts of proxy - gold, with intervals of `crossed_bootstrap`.

    Args:
        curves, records, rng, level: as for `mean_curves`.
    Returns:
        The setting's columns, pressure, kl, gap, gap_lo, gap_hi.
    """
    tables = []
    for entry in setting_curves(curves, records):
        gap, draws = crossed_bootstrap((entry.proxy - entry.gold).swapaxes(1, 2), num_resamples=1000, rng=rng)
        lo, hi = interval(draws, level)
        columns = {**entry.setting, "pressure": entry.pressure, "kl": entry.kl}
        tables.append(pd.DataFrame({**columns, "gap": gap, "gap_lo": lo, "gap_hi": hi}))
    return pd.concat(tables, ignore_index=True)


def start_table(run: RunFolder, base: int) -> pd.DataFrame:
    """What every policy scores before it is optimized, relative to the policy of `base` parameters.

    Args:
        run: of one optimizer.
        base: parameters of the policy that drew the comparisons.
    Returns:
        policy_params, proxy_params, gold_start, proxy_start: means over the proxies that all policies have.
    """
    named = run.records.drop_duplicates("run")[["run", "policy_params", "proxy_params", "proxy_seed"]]
    told = named.merge(run.runs[["run", "gold_start", "proxy_start"]], on="run")
    own = told[told["policy_params"] == base].drop_duplicates(["proxy_params", "proxy_seed"])
    both = told.merge(own, on=["proxy_params", "proxy_seed"], suffixes=("", "_base"))
    for name in ("gold_start", "proxy_start"):
        both[name] -= both[f"{name}_base"]
    keys = ["policy_params", "proxy_params"]
    return both.groupby(keys, as_index=False)[["gold_start", "proxy_start"]].mean()


def shifted(means: pd.DataFrame, starts: pd.DataFrame) -> pd.DataFrame:
    """Mean curves with what the policy scored before (`start_table`) put back."""
    table = means.merge(starts, on=["policy_params", "proxy_params"])
    for name in ("gold", "proxy"):
        for column in (name, f"{name}_lo", f"{name}_hi"):
            table[column] += table[f"{name}_start"]
    return table


def told_of_reference(run: RunFolder) -> tuple[int, float]:
    """Parameters and held-out nats per response token of the policy that drew the comparisons.

    Raises:
        InputError: environment.json does not tell them.
    """
    path = run.path / "environment.json"
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return int(facts["reference parameters"]), float(facts["reference: held-out nats per response token"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: does not tell of the policy that drew the comparisons") from error


def penalty_figures(run: RunFolder) -> dict[str, Figure]:
    """Figures 9 and 14 of the paper, and the gap of proxy and gold; none where there is one penalty.

    Args:
        run: of one method of RL.
    """
    if run.optimizer == "best_of_n" or not varies(run.records, "kl_coef"):
        return {}
    method = NAMES.get(run.optimizer, run.optimizer)
    means, gaps = _means(run), _gaps(run)
    return {
        "figure_9": score_panels(means, PENALTIES, title=f"{method} with a KL penalty", level=run.level),
        "figure_gap_penalty": gap_panels(gaps, PENALTIES, title=f"{method}: proxy minus gold", level=run.level),
        "figure_14": _steps(run, PENALTIES, method),
    }


def policy_figures(run: RunFolder) -> dict[str, Figure]:
    """Figures 7, 15, 23 and 24 of the paper; none where there is one policy.

    Args:
        run: of one optimizer.
    """
    if not varies(run.records, "policy_params") or "gold_start" not in run.runs:
        return {}
    method, panel = NAMES.get(run.optimizer, run.optimizer), "a" if run.optimizer == "best_of_n" else "b"
    (base, _), means = told_of_reference(run), _means(run)
    absolute = shifted(means, start_table(run, base))
    told = f"0 is the policy of {human_count(base)} parameters, which drew the comparisons"
    title = f"Policies under {method}"
    figures = {
        f"figure_7{panel}": score_panels(absolute, POLICIES, title=title, note=told, stars=True, level=run.level),
        f"figure_23{panel}": score_panels(means, POLICIES, title=f"{title}, each from its own start",
                                          with_proxy=False, stars=True, level=run.level),
        f"figure_24{panel}": gap_panels(_gaps(run), POLICIES, title=f"{title}: proxy minus gold", level=run.level),
    }  # fmt: skip
    if panel == "b":
        figures["figure_15"] = _steps(run, POLICIES, method)
    return figures


def policy_section(run: RunFolder) -> Markup:
    """What the policies are before they are optimized, and the highest gold of each; empty where there is one."""
    if not varies(run.records, "policy_params") or "gold_start" not in run.runs:
        return Markup("")
    base, loss = told_of_reference(run)
    starts = start_table(run, base).set_index(["policy_params", "proxy_params"])
    tuned = run.runs[run.runs["stage"] == "reference"]
    losses = dict(zip(tuned["params"], tuned["validation_loss"], strict=True)) | {base: loss}
    rows = []
    for (policy, proxy), curve in _means(run).groupby(["policy_params", "proxy_params"]):
        top = curve.loc[curve["gold"].idxmax()]
        rows.append(
            {
                "policy": human_count(policy),
                "held-out nats per response token": number(losses.get(policy, np.nan), 3),
                "proxies": human_count(proxy),
                "gold at the start": number(starts.loc[(policy, proxy), "gold_start"]),
                "highest gain in gold": with_interval(top["gold"], top["gold_lo"], top["gold_hi"]),
                "at KL": number(top["kl"], 1) + (" (the end)" if top["kl"] == curve["kl"].max() else ""),
            }
        )
    return html_table(pd.DataFrame(rows), caption="Policies before and after they are optimized")


def _means(run: RunFolder) -> pd.DataFrame:
    return mean_curves(run.curves, run.records, rng=np.random.default_rng(0), level=run.level)


def _gaps(run: RunFolder) -> pd.DataFrame:
    return mean_gaps(run.curves, run.records, rng=np.random.default_rng(0), level=run.level)


def _steps(run: RunFolder, series: Series, method: str) -> Figure:
    """KL against iterations of the runs that have records; the others are counted."""
    named = run.records.drop_duplicates("run")[["run", series.column]]
    history = run.history.drop(columns=series.column, errors="ignore").merge(named, on="run")
    lost = run.history["run"].nunique() - history["run"].nunique()
    return step_panels(history, series, method=method, title="KL against iteration", lost=lost)
