"""Throughput of sampling, scoring and training beside PyTorch and transformers, in one run on one machine's CPU.

    python experiments/benchmarks/throughput.py

Both sides work on the same weights, shapes and batches with the same number of threads, and take turns. Without
PyTorch its columns stay empty. Exit code 0 when done, 2 for input that cannot be (one line on standard error says why).
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from synthetic_rm import provenance
from synthetic_rm.errors import InputError, require
from synthetic_rm.ladder import shape_of_width
from synthetic_rm.runtime import prepare, processors

if TYPE_CHECKING:
    from experiments.benchmarks.measure import Piece, Size, Work

ROOT = Path(__file__).resolve().parents[2]
WIDTHS = (32, 64, 128)
HEADLINE = 64
QUICK = {"prompts": 2, "samples": 4, "response_tokens": 4, "vocab": 64, "steps": 2}
METHOD = """\
Tokens per second of one processor, medians of {rounds} rounds in which the two sides take turns, after one call of
each that is not timed; our programs use one thread each and the package runs independent ones (chunks, batches,
seeds) side by side, {copies} here, except in language-model training, which is one program on one thread; the ratio
is of medians, its range that of the rounds. Sampling: {rows} responses of {response_tokens} tokens to {prompts}
prompts of {prompt_tokens}, and none may stop early. Scoring and training: {rows} rows of {length} tokens; one
training call is {steps} steps with gradient clipping and Adam. Both sides start from the same weights; largest
difference of their scores: {difference}. GFLOP/s counts matrix products alone, 2 m n k each: a token takes L (2 (4 D²
+ 3 D F) + 4 C D) in the layers (C positions attended to, masked ones included) and 2 D V at the vocabulary, training
three times its forward pass. The last column is their share of {rate:.0f} GFLOP/s, the best rate of a float32 product
of two {square} x {square} matrices in this run."""


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The options, checked."""
    available = processors()
    parser = Parser(description="Throughput beside PyTorch and transformers")
    parser.add_argument("--quick", action="store_true", help="one tiny shape: whether it works, not how fast it is")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "benchmarks", help="folder to write to")
    parser.add_argument("--rounds", type=int, help="turns of each side (default 7; 2 with --quick)")
    parser.add_argument("--threads", type=int, default=available, help="CPU threads of each side (default: all)")
    options = parser.parse_args(words)
    options.rounds = (2 if options.quick else 7) if options.rounds is None else options.rounds
    require(options.rounds >= 1, f"--rounds {options.rounds}: at least 1")
    require(1 <= options.threads <= available, f"--threads {options.threads}: allowed is 1 to {available}")
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output {options.output}: {error.strerror}") from error
    return options


def summary(work: "Work", width: int, layers: int, ours: np.ndarray, theirs: np.ndarray | None) -> dict[str, Any]:
    """One row of the table: speeds from median seconds, the ratio of medians and the range of the rounds' ratios."""
    seconds = float(np.median(ours))
    other = np.full_like(ours, np.nan) if theirs is None else theirs
    return {
        "work": work.name,
        "width": width,
        "layers": layers,
        "tokens": work.tokens,
        "flops": work.flops,
        "ours_seconds": seconds,
        "torch_seconds": float(np.median(other)),
        "ours_tokens_per_s": work.tokens / seconds,
        "torch_tokens_per_s": work.tokens / float(np.median(other)),
        "ratio": float(np.median(other)) / seconds,
        "ratio_low": float((other / ours).min()),
        "ratio_high": float((other / ours).max()),
        "gflops": work.flops / seconds / 1e9,
    }


def measured(options: argparse.Namespace, size: "Size", widths: Sequence[int], facts: dict[str, Any]) -> pd.DataFrame:
    """One row per width and work; what was found about the machine and the other side is added to `facts`."""
    from experiments.benchmarks import measure

    try:
        from experiments.benchmarks.baseline import calls, versions

        facts["versions"] |= versions()
    except ImportError as error:
        facts["missing"] = f"{error.name or error} is not installed: the PyTorch columns are empty"
    rows, differences = [], []
    for width in widths:
        layers = shape_of_width(width, size.vocab).layers
        theirs: dict[str, measure.Call] = {}
        works = measure.works(width, size)
        if "missing" not in facts:
            theirs, scores = calls(width, size, options.threads)
            own = next(work for work in works if work.name == "scoring").call()
            differences.append(float(np.abs(np.asarray(own) - scores).max()))
        for work in works:
            seconds = measure.interleaved(work.call, theirs.get(work.name), options.rounds)
            own, other = seconds
            rows.append(summary(work, width, layers, own / work.copies, other))
    facts["rounds"] = options.rounds
    facts["difference"] = f"{max(differences):.1e}" if differences else "not compared"
    return pd.DataFrame(rows)


def number(value: float, spec: str = ",.0f") -> str:
    """A number, or a dash for what was not measured."""
    return "–" if np.isnan(value) else format(value, spec)


def speed_rows(table: pd.DataFrame) -> list[list[str]]:
    """The table as text, headings first."""
    head = ["work", "model", "tokens/s", "PyTorch", "ratio", "range", "GFLOP/s", "of product"]
    rows = [
        [
            row["work"],
            f"{row['width']} x {row['layers']}",
            number(row["ours_tokens_per_s"]),
            number(row["torch_tokens_per_s"]),
            number(row["ratio"], ".2f"),
            f"{number(row['ratio_low'], '.2f')} to {number(row['ratio_high'], '.2f')}",
            number(row["gflops"], ".1f"),
            number(row["matmul_fraction"], ".0%"),
        ]
        for row in table.to_dict("records")
    ]
    return [head, *rows]


def piece_rows(pieces: Sequence["Piece"]) -> list[list[str]]:
    """Where the time goes, as text, headings first."""
    whole = {piece.work: piece.seconds for piece in pieces if piece.name == "whole"}
    shares = [f"{piece.seconds / whole[piece.work]:.0%}" for piece in pieces]
    rows = [[p.work, p.name, f"{p.seconds * 1e3:.1f}", share] for p, share in zip(pieces, shares, strict=True)]
    return [["work", "part", "ms", "share"], *rows]


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


def document(facts: dict[str, Any], method: str, speeds: list[list[str]], pieces: list[list[str]]) -> str:
    """The report in Markdown."""
    machine = [
        f"- device: {facts['cpu']}, {facts['threads']} threads",
        f"- date: {facts['started']}; commit {facts['commit']}{' with changes' if facts['dirty'] else ''}",
        f"- load average (1 min): {facts['load_before']:.2f} before, {facts['load_after']:.2f} after",
        f"- versions: {', '.join(f'{name} {found}' for name, found in facts['versions'].items())}",
        f"- command: `{facts['command']}`",
    ]
    blocks = [
        "# Throughput",
        "\n".join(machine),
        *([f"**{facts['missing']}.**"] if "missing" in facts else []),
        markdown(speeds, 2),
        method,
        f"## Where the time goes (width {facts['headline']})",
        "Each part timed by itself; parts that cannot be called alone are differences, and so is the rest.",
        markdown(pieces, 2),
    ]
    return "\n\n".join(blocks) + "\n"


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print, write throughput.csv and throughput.md."""
    try:
        options = arguments(words)
        prepare(options.threads)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    os.environ["JAX_PLATFORMS"] = "cpu"
    from experiments.benchmarks import measure

    size = measure.Size(**QUICK) if options.quick else measure.Size()
    widths = WIDTHS[:1] if options.quick else WIDTHS
    headline, square = (widths[0], 128) if options.quick else (HEADLINE, 2048)
    facts = provenance.describe("cpu") | {"headline": headline, "load_before": os.getloadavg()[0]}
    rates = [measure.matmul_rate(square, 10)]
    table = measured(options, size, widths, facts)
    pieces = piece_rows(measure.breakdown(headline, size, options.rounds))
    rate = max(*rates, measure.matmul_rate(square, 10))
    facts["load_after"] = os.getloadavg()[0]
    table = table.assign(
        matmul_gflops=rate / 1e9, matmul_fraction=table.gflops * 1e9 / rate, rounds=options.rounds, cpu=facts["cpu"]
    )
    speeds = speed_rows(table)
    method = METHOD.format(
        **size._asdict(),
        **facts,
        rows=size.rows,
        length=size.length,
        rate=rate / 1e9,
        square=square,
        copies=processors(),
    )
    table.to_csv(options.output / "throughput.csv", index=False)
    report = document(facts, method, speeds, pieces)
    (options.output / "throughput.md").write_text(report, encoding="utf-8")
    console = Console()
    console.print(printed(speeds, 2, f"{facts['cpu']}, {facts['threads']} threads, {rate / 1e9:.0f} GFLOP/s"))
    console.print(printed(pieces, 2, f"Where the time goes, width {headline}"))
    if "missing" in facts:
        console.print(facts["missing"])
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
