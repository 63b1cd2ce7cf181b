"""The sections of the report, each a function from tables to HTML; every text from outside is escaped."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from synthetic_rm.analysis.figures.style import human_count, percent
from synthetic_rm.analysis.gallery import figure_block, gallery
from synthetic_rm.analysis.run_folder import RunFolder, read_mapping
from synthetic_rm.analysis.series import Series
from synthetic_rm.analysis.tables import (
    ABSENT,
    Markup,
    escape,
    html_table,
    number,
    summary_frame,
    verdict_text,
    with_interval,
    with_verdicts,
)
from synthetic_rm.reading import read_json

FIGURES = {
    "figure_1a": "Proxy (dashed) and gold (solid) score of best-of-n against the KL divergence from the "
    "reference policy, on a square-root axis. Thin lines are the fits to gold, shades {level} intervals over "
    "proxy seeds and prompts together.",
    "figure_gold": "The same gold curves without the proxies, so that rise and fall can be read.",
    "figure_extrapolation": "Gold fits made on KL ≤ {cut:g} nats alone, drawn on beyond with {level} intervals, "
    "against what was measured there; one panel for each proxy size.",
    "figure_coefficients": "Coefficients of the gold fit against the number of parameters of the proxy.",
    "figure_proxy_vs_gold": "Gold score against proxy score along the optimization.",
    "figure_proxy_scores": "Proxy score against distance, beside straight lines (the paper’s Fig. 20).",
    "figure_scaling": "α, β and the peak against proxy parameters: the fit of each size, and straight lines "
    "through α and β with {level} intervals.",
    "figure_left_out": "The gold curve of each size as measured (dots), and as the law of all other sizes gives it.",
}
RL_FIGURES = {
    "figure_1b": "Proxy (dashed) and gold (solid) score along RL against the KL divergence from the reference policy, "
    "on a square-root axis. Thin lines are the fits to gold, shades {level} intervals over seeds and prompts together.",
    "figure_rl_gold": "The same gold curves without the proxies, so that rise and fall can be read.",
    "figure_both": "Gold score against proxy score: best-of-n dotted, RL solid.",
    "figure_kl_steps": "KL divergence of the training rollouts from the reference against iterations: runs thin, the "
    "mean of a size, until the first ends, bold, shades its {level} intervals over runs.",
    "figure_clipped": "Share of the tokens beyond the clip in each iteration: runs thin, the mean of a size, until "
    "the first ends, bold, shades its {level} intervals over runs (the paper’s Fig. 25).",
    "figure_rl_coefficients": "Coefficients of the gold fit against the number of parameters of the proxy; α is "
    "fitted as one for all sizes.",
    "figure_rl_extrapolation": "Gold fits made on KL ≤ {cut:g} nats alone, drawn on beyond with {level} intervals, "
    "against what was measured there; one panel for each proxy size.",
    "figure_rl_scaling": "α, β and the peak against proxy parameters: the fit of each size, and straight lines "
    "through α and β with {level} intervals; α is one for all sizes, diamonds are α of each size fitted by itself.",
    "figure_rl_left_out": "The gold curve of each size as measured (dots), and as the law of all other sizes gives it.",
}
PRESSURES = {"best_of_n": "n"}
"""what the pressure of an optimizer is called; of RL it is the iteration"""


def run_counts(run: RunFolder, overopt: pd.DataFrame) -> dict[str, Any]:
    """What a figure's note tells: num_prompts, num_samples, num_seeds (as text), runs nonfinite (not ok), collapsed.

    Of RL the samples are those of a point; the reference's own has those of the pool.
    """
    own = _own_runs(run)
    least, most = int(overopt["num_seeds"].min()), int(overopt["num_seeds"].max())
    return {
        "num_prompts": int(overopt["num_prompts"].max()),
        "num_samples": int(run.records["num_samples"].min()),
        "num_seeds": str(most) if least == most else f"{least}–{most}",
        "nonfinite": int((own["status"] != "ok").sum()),
        "collapsed": int((own["ended"] == "collapsed").sum()) if "ended" in own else 0,
    }


def _own_runs(run: RunFolder) -> pd.DataFrame:
    """Rows of runs.csv that count for the optimizer: of RL its runs alone, a failed proxy's among them."""
    return run.runs if run.optimizer == "best_of_n" else run.runs[run.runs["stage"] == run.optimizer]


def figures_section(run: RunFolder, overopt: pd.DataFrame, series: Sequence[Series]) -> Markup:
    """The figures that lie in the folder, inside the page, with what they show in words and links to their runs."""
    blocks = []
    captions = {
        name: caption.format(cut=run.held_out_kl, level=percent(run.level))
        for name, caption in (FIGURES if run.optimizer == "best_of_n" else RL_FIGURES).items()
    }
    told = {"figure_1a", "figure_gold", "figure_1b", "figure_rl_gold"}
    spoken = _in_words(overopt)
    for name, caption in captions.items():
        words = spoken if name in told else ""
        blocks.append(figure_block(run.path / name, caption, spoken=words, series=series))
    counts = run_counts(run, overopt)
    note = (
        f"<p>{counts['num_prompts']:,} prompts, {counts['num_samples']:,} samples per prompt, "
        f"{counts['num_seeds']} proxy seeds per size. {_missing(counts['nonfinite'])} "
        f"{_collapsed(counts['collapsed'])}{_turned(run.runs)}</p>"
    )
    return Markup(note + gallery(blocks))


def _missing(count: int) -> str:
    if count == 0:
        return "No run failed or was not finite."
    words = "1 run" if count == 1 else f"{count} runs"
    return f'<a class="bad" href="#runs">{words} failed or not finite, left out.</a>'


def _collapsed(count: int) -> str:
    words = "1 run" if count == 1 else f"{count} runs"
    return f"{words} ended early: the policy had collapsed to one response. " if count else ""


def _turned(runs: pd.DataFrame) -> str:
    """Proxies whose recalibration factor is negative: on the displayed scale they fall as n grows."""
    if "recalibration" not in runs:
        return ""
    count = int(((runs["stage"] == "proxy") & (runs["recalibration"] < 0)).sum())
    who = "1 proxy orders" if count == 1 else f"{count} proxies order"
    return (
        f"{who} held-out pairs against gold: on the recalibrated scale such a proxy falls as n grows." if count else ""
    )


def _in_words(overopt: pd.DataFrame) -> str:
    return " ".join(
        f"{human_count(row['proxy_params'])} parameters: gold peaks at {number(row['peak_gold'])} "
        f"(KL {number(row['peak_kl'], 1)}), ends at {number(row['last_gold'])} "
        f"(KL {number(row['last_kl'], 1)})."
        for _, row in overopt.sort_values("proxy_params").iterrows()
    )


def fits_section(run: RunFolder, overopt: pd.DataFrame) -> Markup:
    """The fit of each size, and the held-out errors of all forms."""
    table = with_verdicts(run.fits, overopt)
    fits = summary_frame(run.fits, overopt, run.runs).drop(columns=["last gold", "fall", "verdict"])
    fits["r²"] = [number(value, 3) for value in table["r2"]]
    forms = {"held_out_rmse": str(table["form"].iloc[0]) if "form" in table else "this form"}
    prefix = "held_out_rmse_"
    forms |= {str(name): str(name)[len(prefix) :] for name in table if str(name).startswith(prefix)}
    errors = pd.DataFrame({"params": fits["params"]})
    for column, form in forms.items():
        errors[form] = [number(value, 3) for value in table[column]]
    shared = "shared" in table and (table["shared"] == "alpha").any()
    note = (
        "<p>Least squares on the mean over seeds and prompts, d = √KL, "
        + ("“rl” is d(α − β ln d) with one α for all sizes. " if shared else "“bon” is d(α − β d). ")
        + "A peak is identified where the interval of β is above zero and the peak lies within the data.</p>"
    )
    told = f"Held-out error (RMSE) of each form: fitted on KL ≤ {run.held_out_kl:g} nats, scored beyond"
    return Markup(
        note
        + html_table(fits, caption=f"Fit to gold of each proxy size; {percent(run.level)} intervals in brackets")
        + html_table(errors, caption=told)
    )


def overoptimization_section(overopt: pd.DataFrame, level: float, optimizer: str = "best_of_n") -> Markup:
    """Whether gold of each size was measured to rise and to fall, `level` that of the table's intervals."""
    unit = PRESSURES.get(optimizer, "iteration")
    rows = [
        {
            "params": human_count(row["proxy_params"]),
            "verdict": verdict_text(bool(row["rose"]), row["verdict"]),
            "highest gold": number(row["peak_gold"]),
            "at KL": number(row["peak_kl"], 1),
            f"at {unit}": f"{int(row['peak_pressure']):,}",
            "last gold": number(row["last_gold"]),
            "last KL": number(row["last_kl"], 1),
            f"last {unit}": f"{int(row['last_pressure']):,}",
            "rise": with_interval(row["rise"], row["rise_lo"], row["rise_hi"]),
            "fall": with_interval(row["fall"], row["fall_lo"], row["fall_hi"]),
        }
        for _, row in overopt.sort_values("proxy_params").iterrows()
    ]
    note = (
        "<p>Measured, not fitted. For rise and fall the peak of every seed and prompt is taken from the "
        "other seeds and prompts, so that luck at the highest point does not count as a fall. Gold “fell” "
        f"where the {percent(level)} interval of the fall is above zero; elsewhere none is seen, no proof that "
        "there is none.</p>"
    )
    return Markup(note + html_table(pd.DataFrame(rows), caption="Rise and fall of gold, in SDs of the reference"))


def samples_section(samples: pd.DataFrame) -> Markup:
    """Responses to a few prompts as the pressure grows, with their scores (the paper's Table 2).

    Best-of-n: the one that the proxy likes best among n. RL: one that the policy drew, with the policy's KL.
    """
    if samples.empty:
        return Markup("<p>No sample responses were recorded.</p>")
    by_n = bool(samples["n"].notna().all())
    blocks: list[str] = []
    for _, group in samples.groupby(["prompt_id", "proxy_params", "proxy_seed"], sort=True):
        ordered = group.sort_values("n" if by_n else "pressure")
        size, seed = ordered["proxy_params"].iloc[0], ordered["proxy_seed"].iloc[0]
        if by_n:
            shown = pd.DataFrame({"n": [f"{int(n):,}" for n in ordered["n"]]})
        else:
            shown = pd.DataFrame({"iteration": [f"{int(step):,}" for step in ordered["pressure"]]})
            shown["KL"] = [number(kl, 1) for kl in ordered["kl"]]
        shown["proxy"] = [number(score) for score in ordered["proxy"]]
        shown["gold"] = [number(score) for score in ordered["gold"]]
        kinds = dict.fromkeys(shown.columns, "number") | {"response": "text"}
        shown["response"] = ordered["response"].to_numpy()
        proxy = f"proxy of {human_count(size)} parameters, seed {seed}"
        caption = f"Best of n by the {proxy}" if by_n else f"One run against the {proxy}"
        table = html_table(shown, caption=caption, classes=kinds)
        summary = f"<summary>“{escape(ordered['prompt'].iloc[0])}” · {proxy}</summary>"
        blocks.append(f"<details{'' if blocks else ' open'}>{summary}{table}</details>")
    what = "The response that the proxy likes best among n." if by_n else "One response of the policy at each point."
    return Markup(f"<p>{what} Single prompts are noisy.</p>" + "".join(blocks))


def environment_section(path: Path) -> Markup:
    """How well gold agrees with people beside how well they agree with one another, from environment.json.

    Raises:
        InputError: the file is there but is no JSON object.
    """
    if not path.exists():
        return Markup("<p>How well gold agrees with people was not recorded with this run.</p>")
    facts = read_mapping(path, read_json)
    gold, raters = facts.get("gold_accuracy"), facts.get("rater_agreement")
    told = ""
    if isinstance(gold, int | float) and isinstance(raters, int | float):
        told = (
            f"<p>Gold orders {gold:.1%} of held-out human comparisons as people do; people agree with one "
            f"another on {raters:.1%}, the ceiling of any reward model here.</p>"
        )
    return Markup(told + pairs_table(facts, caption="What gold is worth against people"))


def runs_section(runs: pd.DataFrame) -> Markup:
    """Every stage run with its status, each row with an anchor, and a box that filters the rows by text."""
    shown = pd.DataFrame({name: [_cell(value) for value in runs[name]] for name in runs.columns})
    marked = [Markup(f'<span class="bad">{escape(status)}</span>') for status in runs["status"]]
    shown["status"] = [mark if str(s) != "ok" else s for mark, s in zip(marked, runs["status"], strict=True)]
    box = (
        '<p class="filter"><label for="filter">Filter runs: words narrow, commas widen</label><br>'
        '<input type="search" id="filter" autocomplete="off"> '
        f'<span id="shown" role="status">{len(runs)} shown</span></p>'
    )
    return Markup(box + html_table(shown, caption="Every stage that was run, with its status", row_id="run"))


def pairs_table(facts: Mapping[str, Any], *, caption: str) -> Markup:
    """Named values as a table, nested ones with their path."""
    rows = pd.DataFrame(_flat(facts), columns=["what", "value"])
    return html_table(rows, caption=caption, classes={"value": "text"})


def _flat(facts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for key, value in facts.items():
        name = f"{prefix}{str(key).replace('_', ' ')}"
        pairs += _flat(value, f"{name} · ") if isinstance(value, Mapping) else [(name, _cell(value))]
    return pairs


def _cell(value: object) -> str:
    if value is None:
        return ABSENT
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{value:.6g}"
    return value if isinstance(value, Markup) else str(value)
