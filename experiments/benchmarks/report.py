"""What a benchmark leaves to read: README.md, and a figure of the ratios."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from rich.console import Console
from rich.table import Table

from synthetic_rm.analysis.figures.style import MUTED, house_style, new_figure, save_figure

if TYPE_CHECKING:
    from experiments.benchmarks.measure import Size

Rows = list[list[str]]
TEMPLATE = Path(__file__).with_suffix(".md")


def number(value: float, spec: str = ",.0f") -> str:
    """A number, or a dash for what was not measured."""
    return "–" if np.isnan(value) else format(value, spec)


def _range(row: Mapping[Any, Any], low: str, high: str, spec: str = ".2f") -> str:
    return f"{number(row[low], spec)} to {number(row[high], spec)}"


def speed_rows(table: pd.DataFrame) -> Rows:
    """Throughput as text, headings first."""
    head = ["work", "model", "tokens/s", "PyTorch", "ratio", "range", "GFLOP/s", "of product"]
    return [
        head,
        *(
            [
                row["work"],
                f"{row['width']} x {row['layers']}",
                number(row["ours_tokens_per_s"]),
                number(row["torch_tokens_per_s"]),
                number(row["ratio"], ".2f"),
                _range(row, "ratio_low", "ratio_high"),
                number(row["gflops"], ".1f"),
                number(row["matmul_fraction"], ".0%"),
            ]
            for row in table.to_dict("records")
        ),
    ]


def way_rows(table: pd.DataFrame) -> Rows:
    """PPO iterations as text, headings first."""
    head = ["iteration", "seconds", "range", "a lane", "tokens/s", "of product"]
    return [
        head,
        *(
            [
                row["way"],
                number(row["seconds"], ".3f"),
                _range(row, "seconds_low", "seconds_high", ".3f"),
                number(row["seconds"] / row["lanes"], ".3f"),
                number(row["tokens_per_s"]),
                number(row["matmul_fraction"], ".0%"),
            ]
            for row in table.to_dict("records")
        ),
    ]


def ratio_rows(table: pd.DataFrame) -> Rows:
    """Ratios as text, headings first."""
    rows = table.to_dict("records")
    return [
        ["what", "ratio", "range", "aim"],
        *([r["name"], number(r["ratio"], ".2f"), _range(r, "low", "high"), number(r["aim"], "g")] for r in rows),
    ]


def piece_rows(table: pd.DataFrame) -> Rows:
    """Where the time goes, as text, headings first."""
    rows = table.to_dict("records")
    return [
        ["work", "part", "ms", "share"],
        *([r["work"], r["part"], f"{r['seconds'] * 1e3:.1f}", f"{r['share']:.0%}"] for r in rows),
    ]


def padding_rows(table: pd.DataFrame) -> Rows:
    """Padding as text, headings first."""
    rows = table.to_dict("records")
    return [["rows", "how", "padding"], *([r["rows"], r["how"], f"{r['share']:.1%}"] for r in rows)]


def markdown(rows: Sequence[Sequence[str]], text_columns: int) -> str:
    """A table in Markdown, numbers to the right."""
    rule = ["---" if i < text_columns else "---:" for i in range(len(rows[0]))]
    return "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], rule, *rows[1:]])


def printed(rows: Sequence[Sequence[str]], text_columns: int, title: str) -> Table:
    """A table for the terminal."""
    table = Table(title=title)
    for i, name in enumerate(rows[0]):
        table.add_column(name, justify="left" if i < text_columns else "right")
    for row in rows[1:]:
        table.add_row(*row)
    return table


def figure_ratios(table: pd.DataFrame) -> Figure:
    """Times the speed of the other side, on a logarithmic axis: medians, ranges of the rounds, aims."""
    with house_style():
        figure, axes = new_figure(columns=2, aspect=0.04 * len(table) + 0.16)
        place = np.arange(len(table))[::-1]
        axes.hlines(place, table["low"], table["high"], color="#31688e", linewidth=1.2)
        axes.plot(table["ratio"], place, "o", color="#31688e", markersize=4, label="median, range of the rounds")
        axes.plot(table["aim"], place, "|", color="#b5651d", markersize=9, markeredgewidth=1.6, label="aim")
        axes.axvline(1.0, color=MUTED, linewidth=0.7)
        axes.set_yticks(place, table["name"])
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator([0.25, 0.5, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.set_xlabel("times as fast as PyTorch with transformers, or TRL (logarithmic axis)")
        axes.legend(loc="lower right")
        return figure


def document(tables: Mapping[str, pd.DataFrame], facts: Mapping[str, Any], size: "Size", batch: "Size") -> str:
    """README.md."""
    machine = [
        f"- device: {facts['cpu']}, {facts['threads']} threads, {facts['rate']:.0f} GFLOP/s of float32 products",
        f"- date: {facts['started']}; commit {facts['commit']}{' with changes' if facts['dirty'] else ''}",
        f"- load average (1 min): {facts['load_before']:.2f} before, {facts['load_after']:.2f} after; "
        f"both sides run in one process, nice {facts['nice']}",
        f"- versions: {', '.join(f'{name} {found}' for name, found in facts['versions'].items())}",
        f"- command: `{facts['command']}`",
    ]
    return TEMPLATE.read_text(encoding="utf-8").format(
        **{**size._asdict(), **facts, **_blocks(tables, facts)},
        rows=size.rows,
        length=size.length,
        ppo=batch,
        gflop=tables["ppo"]["flops"].iloc[0] / 1e9,
        arithmetic=tables["ppo"]["flops"].iloc[0] / 1e9 / facts["rate"],
        machine="\n".join(machine),
    )


def _blocks(tables: Mapping[str, pd.DataFrame], facts: Mapping[str, Any]) -> dict[str, str]:
    """The tables, by their places in the text."""
    ratios = tables["ratios"]
    aims, figure = ratios[ratios["aim"].notna()], "![ratios to PyTorch and TRL](figure_ratios.png)\n\n"
    return {
        "missing": "".join(f"**{missing}.**\n\n" for missing in facts["missing"]),
        "aims": markdown(ratio_rows(aims), 1) if len(aims) else "Nothing to compare with.",
        "figure": figure if len(of_others(ratios)) else "",
        "throughput": markdown(speed_rows(tables["throughput"]), 2),
        "ways": markdown(way_rows(tables["ppo"]), 1),
        "ratios": markdown(ratio_rows(ratios[ratios["against"] != "PyTorch"]), 1),
        "pieces": markdown(piece_rows(tables["pieces"]), 2),
        "padding": markdown(padding_rows(tables["padding"]), 2),
    }


def of_others(ratios: pd.DataFrame) -> pd.DataFrame:
    """The ratios to PyTorch and TRL."""
    return ratios[ratios["against"] != "itself"]


def write(
    folder: Path, tables: Mapping[str, pd.DataFrame], facts: Mapping[str, Any], size: "Size", batch: "Size"
) -> None:
    """README.md and the figure into the folder, the tables on the terminal."""
    rivals = of_others(tables["ratios"])
    if len(rivals):
        save_figure(figure_ratios(rivals), folder / "figure_ratios")
    (folder / "README.md").write_text(document(tables, facts, size, batch), encoding="utf-8")
    console = Console()
    title = f"{facts['cpu']}, {facts['threads']} threads, {facts['rate']:.0f} GFLOP/s"
    console.print(printed(speed_rows(tables["throughput"]), 2, title))
    console.print(printed(way_rows(tables["ppo"]), 1, "One PPO iteration"))
    console.print(printed(ratio_rows(tables["ratios"]), 1, "Ratios"))
    console.print(printed(piece_rows(tables["pieces"]), 2, f"Where the time goes, width {facts['headline']}"))
    for missing in facts["missing"]:
        console.print(missing)
