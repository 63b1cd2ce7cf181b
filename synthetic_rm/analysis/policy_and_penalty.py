"""What a folder with several policies or KL penalties shows besides its main setting: figures and tables."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from synthetic_rm.analysis.bootstrap import crossed_bootstrap, interval
from synthetic_rm.analysis.curves import Arrays, mean_curves, setting_curves
from synthetic_rm.analysis.figures.panels import PENALTIES, POLICIES, Lines, gap_panels, score_panels, step_panels
from synthetic_rm.analysis.figures.rl import NAMES
from synthetic_rm.analysis.figures.style import human_count, percent
from synthetic_rm.analysis.gallery import figure_block, gallery
from synthetic_rm.analysis.run_folder import RunFolder
from synthetic_rm.analysis.series import NO_SERIES, SeriesOf
from synthetic_rm.analysis.tables import Markup, html_table, number, with_interval
from synthetic_rm.errors import InputError

PENALTY_FIGURES: Mapping[str, str] = {
    "figure_penalty": "Gold (solid) and proxy (dotted) against KL under RL by KL penalty, a panel for each proxy size "
    "(the paper’s Fig. 9).",
    "figure_penalty_gap": "Proxy minus gold against KL, by KL penalty.",
    "figure_penalty_steps": "KL of the training rollouts against iterations, by KL penalty (Fig. 14).",
}
POLICY_FIGURES: Mapping[str, str] = {
    "figure_policy": "Gold (solid) and proxy (dotted) against KL under best-of-n by size of the policy, a panel for "
    "each proxy size (the paper’s Fig. 7a). 0 is the policy that drew the comparisons: others start above or below.",
    "figure_rl_policy": "The same under RL (Figs. 7b and 22).",
    "figure_policy_gain": "Gold under best-of-n by size of the policy, each from its own start.",
    "figure_rl_policy_gain": "Gold under RL by size of the policy, each from its own start (Fig. 23).",
    "figure_policy_gap": "Proxy minus gold against KL under best-of-n by size of the policy, each from its own start.",
    "figure_rl_policy_gap": "Proxy minus gold against KL under RL, each from its own start (Fig. 24).",
    "figure_policy_steps": "KL of the training rollouts against iterations, by size of the policy (Fig. 15).",
}
OF_BEST_OF_N = ("figure_policy", "figure_policy_gain", "figure_policy_gap")


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
        "figure_penalty": score_panels(means, PENALTIES, title=f"{method} with a KL penalty", level=run.level),
        "figure_penalty_gap": gap_panels(gaps, PENALTIES, title=f"{method}: proxy minus gold", level=run.level),
        "figure_penalty_steps": _steps(run, PENALTIES, method),
    }


def policy_figures(run: RunFolder, sizes: Sequence[int] = ()) -> dict[str, Figure]:
    """Figures 7, 15, 23 and 24 of the paper; none where there is one policy.

    Args:
        run: of one optimizer.
        sizes: of every policy of the report (colours).
    """
    if not _has_policies(run):
        return {}
    method, of_n = NAMES.get(run.optimizer, run.optimizer), run.optimizer == "best_of_n"
    stem = "figure" if of_n else "figure_rl"
    (base, _), means = told_of_reference(run), _means(run)
    absolute = shifted(means, start_table(run, base))
    told = f"0 is the policy of {human_count(base)} parameters, which drew the comparisons"
    title = f"Policies under {method}"
    options: dict[str, Any] = {"values": sizes, "level": run.level}
    figures = {
        f"{stem}_policy": score_panels(absolute, POLICIES, title=title, note=told, stars=True, **options),
        f"{stem}_policy_gain": score_panels(means, POLICIES, title=f"{title}, each from its own start",
                                          with_proxy=False, stars=True, **options),
        f"{stem}_policy_gap": gap_panels(_gaps(run), POLICIES, title=f"{title}: proxy minus gold", **options),
    }  # fmt: skip
    if not of_n:
        figures["figure_policy_steps"] = _steps(run, POLICIES, method, sizes)
    return figures


def studied_figures(run: RunFolder) -> dict[str, Figure]:
    """`penalty_figures` and `policy_figures` of every optimizer of a folder, every setting in it."""
    sizes = sorted({int(size) for size in run.records["policy_params"]})
    return {name: figure for part in run.parts() for name, figure in
            {**penalty_figures(part), **policy_figures(part, sizes)}.items()}  # fmt: skip


def penalty_section(run: RunFolder, series: SeriesOf = NO_SERIES) -> Markup:
    """The figures of penalties that lie in the folder, and where each penalty led; empty where there is one."""
    parts = [part for part in run.parts() if part.optimizer != "best_of_n" and varies(part.records, "kl_coef")]
    rows = [
        {
            "proxies": human_count(curve["proxy_params"].iloc[0]),
            "penalty": f"{curve['kl_coef'].iloc[0]:g}",
            "KL at the end": number(curve["kl"].iloc[-1], 1),
            "gold there": _at(curve, "gold", -1),
            "proxy there": _at(curve, "proxy", -1),
            "highest gold": _at(curve, "gold", int(curve["gold"].argmax())),
        }
        for part in parts
        for _, curve in _means(part).groupby(["proxy_params", "kl_coef"])
    ]
    return _section(run, PENALTY_FIGURES, series, rows, "Where each penalty led, as far as all of its runs went")


def policy_section(run: RunFolder, series: SeriesOf = NO_SERIES) -> Markup:
    """The figures of policies that lie in the folder, and what each policy was and gained; empty where there is one."""
    rows = [row for part in run.parts() if _has_policies(part) for row in _policy_rows(part)]
    return _section(run, POLICY_FIGURES, series, rows, "Policies before and after they are optimized")


def _section(run: RunFolder, captions: Mapping[str, str], series: SeriesOf, rows: list[dict[str, str]], caption: str
             ) -> Markup:  # fmt: skip
    if not rows:
        return Markup("")
    of_n = [one for name, told in series.items() if name == "best_of_n" for one in told]
    of_rl = [one for name, told in series.items() if name != "best_of_n" for one in told]
    drawn = gallery(
        figure_block(run.path / name, told, series=of_n if name in OF_BEST_OF_N else of_rl)
        for name, told in captions.items()
    )
    note = (
        f"<p>Gold and proxy in SDs of the reference, {percent(run.level)} intervals over prompts and proxy seeds. "
        "Sizes, penalties and seeds are ours: the paper does not print its penalties, and its models are larger.</p>"
    )
    return Markup(drawn + note + html_table(pd.DataFrame(rows), caption=caption))


def _policy_rows(part: RunFolder) -> list[dict[str, str]]:
    base, loss = told_of_reference(part)
    keys = ["policy_params", "proxy_params"]
    starts = start_table(part, base).set_index(keys)["gold_start"].to_dict()
    tuned = part.runs[part.runs["stage"] == "reference"]
    losses = dict(zip(tuned["params"], tuned["validation_loss"], strict=True)) | {base: loss}
    rows = []
    for _, curve in _means(part).groupby(keys):
        (policy, proxy), top = curve[keys].iloc[0], int(curve["gold"].argmax())
        rows.append(
            {
                "optimizer": NAMES.get(part.optimizer, part.optimizer),
                "policy": human_count(policy),
                "held-out nats per response token": number(losses.get(policy, np.nan), 3),
                "proxies": human_count(proxy),
                "gold at the start": number(starts[policy, proxy]),
                "highest gain in gold": _at(curve, "gold", top),
                "at KL": number(curve["kl"].iloc[top], 1) + (" (the end)" if top == len(curve) - 1 else ""),
            }
        )
    return rows


def _has_policies(part: RunFolder) -> bool:
    return varies(part.records, "policy_params") and "gold_start" in part.runs


def _at(curve: pd.DataFrame, name: str, place: int) -> str:
    row = curve.iloc[place]
    return with_interval(row[name], row[f"{name}_lo"], row[f"{name}_hi"])


def _means(run: RunFolder) -> pd.DataFrame:
    return mean_curves(run.curves, run.records, rng=np.random.default_rng(0), level=run.level)


def _gaps(run: RunFolder) -> pd.DataFrame:
    return mean_gaps(run.curves, run.records, rng=np.random.default_rng(0), level=run.level)


def _steps(run: RunFolder, lines: Lines, method: str, values: Sequence[float] = ()) -> Figure:
    """KL against iterations of the runs that have records; the others are counted."""
    named = run.records.drop_duplicates("run")[["run", lines.column]]
    history = run.history.drop(columns=lines.column, errors="ignore").merge(named, on="run")
    lost = run.history["run"].nunique() - history["run"].nunique()
    told: dict[str, Any] = {"title": "KL against iteration", "values": values, "lost": lost, "level": run.level}
    return step_panels(history, lines, method=method, **told)
