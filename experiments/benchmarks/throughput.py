"""Speed of sampling, scoring, training and PPO beside PyTorch, transformers and TRL, in one run on one machine's CPU.

    python experiments/benchmarks/throughput.py

Both sides work on the same shapes and batches with the same number of threads, and take turns. What is not installed
has no columns and rows. Exit code 0 when done, 2 for input that cannot be (one line on standard error says why).
"""

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pandas as pd

from synthetic_rm import provenance
from synthetic_rm.errors import InputError, require
from synthetic_rm.ladder import shape_of_width
from synthetic_rm.runtime import prepare, processors

if TYPE_CHECKING:
    from experiments.benchmarks.measure import Piece, Size, Work
    from experiments.benchmarks.ppo import Ratio, Rival, Way

ROOT = Path(__file__).resolve().parents[2]
WIDTHS = (32, 64, 128)
HEADLINE = 64
QUICK = {"prompts": 2, "samples": 4, "response_tokens": 4, "vocab": 64, "steps": 2}
QUICK |= {"epochs": 1, "minibatches": 2, "lanes": 1, "unjitted": 0}
PPO_PROMPTS, PPO_SAMPLES = 64, 4
AIMS = {("sampling", 64): 8.0, ("reward training", 64): 1.5, ("language-model training", 64): 1.5}
"""times PyTorch's speed, by work and width"""


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The options, checked."""
    available = processors()
    parser = Parser(description="Speed beside PyTorch, transformers and TRL")
    parser.add_argument("--quick", action="store_true", help="one tiny shape: whether it works, not how fast it is")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "benchmarks", help="folder to write to")
    parser.add_argument("--rounds", type=int, help="turns of each side (default 5; 2 with --quick)")
    parser.add_argument("--threads", type=int, default=available, help="CPU threads of each side (default: all)")
    options = parser.parse_args(words)
    options.rounds = (2 if options.quick else 5) if options.rounds is None else options.rounds
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
        there = True
    except ImportError as error:
        facts["missing"].append(f"{error.name or error} is not installed: the PyTorch columns are empty")
        there = False
    rows, differences = [], []
    for width in widths:
        layers = shape_of_width(width, size.vocab).layers
        theirs: dict[str, measure.Call] = {}
        works = measure.works(width, size)
        if there:
            theirs, scores = calls(width, size, options.threads)
            own = next(work for work in works if work.name == "scoring").call()
            differences.append(float(np.abs(np.asarray(own) - scores).max()))
            assert differences[-1] < 1e-3, f"width {width}: the two sides score differently, by {differences[-1]}"
        for work in works:
            sides = [work.call, *([measure.repeated(theirs[work.name], work.repeats)] if there else [])]
            seconds = measure.in_turns(sides, options.rounds)
            other = seconds[:, 1] / work.repeats if there else None
            rows.append(summary(work, width, layers, seconds[:, 0] / work.copies, other))
    facts["difference"] = f"{max(differences):.1e}" if differences else "not compared"
    return pd.DataFrame(rows)


def way_row(way: "Way", size: "Size", flops: int, rate: float) -> dict[str, Any]:
    """One row of the table of PPO iterations; `rate` of the machine, in operations per second."""
    seconds = float(np.median(way.seconds))
    reached = way.lanes * flops / seconds
    return {
        "way": way.name,
        "lanes": way.lanes,
        "rounds": len(way.seconds),
        "seconds": seconds,
        "seconds_low": float(way.seconds.min()),
        "seconds_high": float(way.seconds.max()),
        "tokens_per_s": way.lanes * size.rows * size.response_tokens / seconds,
        "flops": flops,
        "gflops": reached / 1e9,
        "matmul_fraction": reached / rate,
    }


def ratio_row(ratio: "Ratio") -> dict[str, Any]:
    """One row of the table of ratios: of medians, and the range of the rounds'."""
    each = ratio.longer / ratio.shorter
    return {
        "name": ratio.name,
        "against": ratio.against,
        "ratio": float(np.median(ratio.longer) / np.median(ratio.shorter)),
        "low": float(each.min()),
        "high": float(each.max()),
        "aim": ratio.aim,
    }


def throughput_ratios(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The ratios to PyTorch in the form of `ratio_row`."""
    return [
        {
            "name": f"{row['work']}, {row['width']} x {row['layers']}",
            "against": "PyTorch",
            "ratio": row["ratio"],
            "low": row["ratio_low"],
            "high": row["ratio_high"],
            "aim": AIMS.get((str(row["work"]), int(row["width"])), np.nan),
        }
        for row in table.to_dict("records")
        if np.isfinite(row["ratio"])
    ]


def rival(size: "Size", width: int, rounds: int, facts: dict[str, Any]) -> "Rival | None":
    """TRL, if it is there. What lies in memory before it is loaded is hidden from the collections that it asks for."""
    gc.collect()
    gc.freeze()
    try:
        from experiments.benchmarks import trl_ppo
    except ImportError as error:
        facts["missing"].append(f"{error.name or error} is not installed: TRL has no rows")
        return None
    facts["versions"] |= trl_ppo.versions()
    shape = shape_of_width(width, size.vocab)
    return partial(trl_ppo.iterations, shape, size, rounds)


def piece_table(pieces: Sequence["Piece"]) -> pd.DataFrame:
    """Where the time goes: seconds of every part and its share of the whole."""
    table = pd.DataFrame(pieces).rename(columns={"name": "part"})
    whole = table[table["part"] == "whole"].set_index("work")["seconds"]
    return table.assign(share=table["seconds"] / table["work"].map(whole))


def main(words: Sequence[str] | None = None) -> int:
    """Measure, write the tables, the figure and README.md, and print the tables."""
    try:
        options = arguments(words)
        prepare(options.threads)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    os.environ["JAX_PLATFORMS"] = "cpu"
    from experiments.benchmarks import measure, padding, ppo, report

    size = measure.Size(**QUICK) if options.quick else measure.Size()
    widths = WIDTHS[:1] if options.quick else WIDTHS
    headline, square = (widths[0], 128) if options.quick else (HEADLINE, 2048)
    shape = shape_of_width(headline, size.vocab)
    batch = size if options.quick else size._replace(prompts=PPO_PROMPTS, samples=PPO_SAMPLES)
    facts: dict[str, Any] = provenance.describe("cpu")
    facts |= {
        "headline": headline,
        "rounds": options.rounds,
        "nice": os.nice(0),
        "missing": [],
        "load_before": os.getloadavg()[0],
    }
    rates = [measure.matmul_rate(square, 10)]
    ways, ratios = ppo.rival_ways(shape, batch, options.rounds, lambda: rival(batch, headline, options.rounds, facts))
    own = ppo.own_ways(shape, batch, options.rounds)
    ways, ratios = ways + own[0], ratios + own[1]
    table = measured(options, size, widths, facts)
    best = measure.best_of(4 * options.rounds)
    pieces = piece_table(measure.breakdown(headline, size, best) + ppo.iteration_pieces(shape, batch, best))
    spare = pd.DataFrame(padding.measured(16 if options.quick else 1024))
    rate = max(*rates, measure.matmul_rate(square, 10))
    facts["load_after"] = os.getloadavg()[0]
    facts |= {"rate": rate / 1e9, "square": square}
    table = table.assign(
        matmul_gflops=rate / 1e9, matmul_fraction=table.gflops * 1e9 / rate, rounds=options.rounds, cpu=facts["cpu"]
    )
    flops = ppo.iteration_flops(shape, batch)
    facts["busy"] = measure.busy(ppo.Lanes(shape, batch))
    tables = {
        "throughput": table,
        "ppo": pd.DataFrame([way_row(way, batch, flops, rate) for way in ways]),
        "ratios": pd.DataFrame([*throughput_ratios(table), *map(ratio_row, ratios)]),
        "pieces": pieces,
        "padding": spare,
    }
    for name, found in tables.items():
        found.to_csv(options.output / f"{name}.csv", index=False)
    report.write(options.output, tables, facts, size, batch)
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
