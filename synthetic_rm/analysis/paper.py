"""The figures of the paper, what each says in a line, and which of ours shows the same."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from synthetic_rm.analysis.verdicts import measured, measured_cell


class PaperFigure(NamedTuple):
    """A figure of Gao, Schulman and Hilton (2022)."""

    number: str
    says: str
    """what the paper reports there, in our words"""
    ours: tuple[str, ...]
    """our figures, as "folder of the result/name" """


PAPER = (
    PaperFigure(
        "1a",
        "Under best-of-n gold rises, then falls, later and less for larger proxies; proxy scores keep rising.",
        ("figure1/figure_1a", "figure1/figure_gold", "small_proxies/figure_gold"),
    ),
    PaperFigure("1b", "Under RL the same, over far more KL.", ("figure1/figure_1b", "figure1/figure_rl_gold")),
    PaperFigure("2", "A drawing: people label comparisons (real), or gold in their place (synthetic).",
                ("data_size/figure_real",)),
    PaperFigure(
        "3",
        "With the logarithm of proxy parameters α of best-of-n rises, β of best-of-n and of RL fall.",
        ("figure1/figure_scaling", "figure1/figure_rl_scaling"),
    ),
    PaperFigure(
        "4, 19",
        "More comparisons: higher gold, less overoptimization.",
        ("data_size/figure_data_curves", "data_size_rl/figure_rl_data_curves"),
    ),
    PaperFigure("5", "Equal validation loss, about equal gold, whatever the mix of size and data.",
                ("data_size/figure_loss_gold",)),
    PaperFigure("6, 11", "Below some 2,000 comparisons hardly better than chance; beyond, all sizes improve.",
                ("data_size/figure_data_validation",)),
    PaperFigure("7, 22", "A larger policy starts higher, gains less, and peaks at nearly the same KL.",
                ("policy_size/figure_policy", "policy_size/figure_rl_policy")),
    PaperFigure("8", "Gold against proxy score is much alike for both methods; RL peaks at a higher gold.",
                ("figure1/figure_both",)),
    PaperFigure("9", "A KL penalty leaves gold at a given KL as it is, and widens the gap between proxy and gold.",
                ("kl_penalty/figure_penalty", "kl_penalty/figure_penalty_gap")),
    PaperFigure("10, 21", "Gold by number of comparisons and proxy size: little below a threshold, then more of both.",
                ("data_size/figure_data_gold", "data_size/figure_data_peaks", "data_size_rl/figure_rl_data_peaks")),
    PaperFigure("12", "The form predicts the highest gold of best-of-n.", ("data_size/figure_peaks",)),
    PaperFigure("13", "Four epochs over few comparisons do not stand in for four times as many comparisons.",
                ("data_size/figure_epochs",)),
    PaperFigure("14", "KL rises with the steps, and levels off under larger penalties.",
                ("kl_penalty/figure_penalty_steps",)),
    PaperFigure("15", "A larger policy has spent less KL after as many steps.", ("policy_size/figure_policy_steps",)),
    PaperFigure("16", "KL grows about as the square of the steps.", ("figure1/figure_kl_steps",)),
    PaperFigure("17, 18", "α and β change with the number of comparisons too, less cleanly than with size.",
                ("data_size/figure_data_coefficients",)),
    PaperFigure("20", "Proxy scores of best-of-n are slightly concave in distance.", ("figure1/figure_proxy_scores",)),
    PaperFigure("23", "Policies of two sizes, each from its own start.", ("policy_size/figure_rl_policy_gain",)),
    PaperFigure("24", "The gap between proxy and gold is nearly the same for both policies.",
                ("policy_size/figure_rl_policy_gap",)),
    PaperFigure("25", "The share of updates that PPO clips.", ("figure1/figure_clipped",)),
    PaperFigure("26", "Forms fitted at low KL forecast the rest of the curve.",
                ("figure1/figure_extrapolation", "figure1/figure_rl_extrapolation")),
)  # fmt: skip
"""The paper's tables are its settings and sample responses: our reports tell ours."""


class Beside(NamedTuple):
    """A figure of the paper beside ours."""

    text: str
    """Markdown: what the paper says, and what we measured of it"""
    figures: tuple[str, ...]
    """those of ours that lie there"""


def beside(root: Path, tables: Mapping[str, pd.DataFrame]) -> Iterator[Beside]:
    """Every figure of the paper beside ours.

    Args:
        root: the folder of all results.
        tables: their verdicts (`read_verdicts`).
    """
    for figure in PAPER:
        ours = tuple(name for name in figure.ours if (root / f"{name}.svg").exists())
        lines = [f"- **{name}**: {_told(name, tables) or 'no verdict is taken from it'}" for name in ours]
        found = "\n".join(lines) or "No result of ours shows it yet."
        several = "s" if "," in figure.number else ""
        yield Beside(f"## Figure{several} {figure.number}\n\n*The paper:* {figure.says}\n\n*Ours:*\n\n{found}", ours)


def _told(name: str, tables: Mapping[str, pd.DataFrame]) -> str:
    """The measured verdicts that one of our figures shows, in words."""
    folder, _, figure = name.rpartition("/")
    if folder not in tables:
        return ""
    rows = measured(tables[folder])
    return "; ".join(
        f"{row['claim']}, {row['says']}: {row['statistic']} {measured_cell(row)}, **{row['verdict']}**"
        for _, row in rows[rows["figure"] == figure].iterrows()
    )
