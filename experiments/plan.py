"""How far may I optimize such a proxy? python experiments/plan.py --results results/figure1 --size 6000

Reads the records of a run with three or more proxy sizes, or numbers of comparisons, fits alpha and beta as lines over
log10 parameters and log10 comparisons, and tells where gold is expected to peak, with an interval. Nothing is trained
and jax is not imported. Where the run has several numbers of comparisons (results/data_size), --comparisons is any
number between them.

Exit code 0 when done, 2 for input that cannot be (one line on standard error says why).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from synthetic_rm.analysis.data_law import curves_over_data
from synthetic_rm.analysis.fit_table import default_form
from synthetic_rm.analysis.planner import plan, plan_lines
from synthetic_rm.analysis.run_folder import load_run_folder
from synthetic_rm.analysis.scaling import fit_scaling_law
from synthetic_rm.entry import Parser, guarded
from synthetic_rm.errors import require


def answer(
    results: Path, size: float, optimizer: str, extrapolate: bool, comparisons: float | None = None
) -> list[str]:
    """The plan in words.

    Raises:
        InputError: the folder, the optimizer, the size or the number of comparisons cannot be.
    """
    run = load_run_folder(results)
    parts = {part.optimizer: part for part in run.parts()}
    require(optimizer in parts, f"--optimizer={optimizer}: {results} has {', '.join(sorted(parts))}")
    part = parts[optimizer]
    law = fit_scaling_law(
        curves_over_data(part), default_form(optimizer), rng=np.random.default_rng(0), level=part.level
    )
    return plan_lines(plan(law, size, comparisons, extrapolate=extrapolate), optimizer)


def main(words: Sequence[str] | None = None) -> int:
    """The command, with its exit code."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("results/figure1"), help="default: %(default)s")
    parser.add_argument("--size", type=float, required=True, help="parameters of the proxy")
    parser.add_argument("--optimizer", default="best_of_n", help="of the records; default: %(default)s")
    parser.add_argument("--comparisons", type=float, help="that the proxy learns from; default: the most there are")
    parser.add_argument("--extrapolate", action="store_true", help="answer beyond what was measured")
    options = parser.parse_args(words)
    return guarded(lambda: tell(options))


def tell(options: argparse.Namespace) -> None:
    """Print the answer."""
    lines = answer(options.results, options.size, options.optimizer, options.extrapolate, options.comparisons)
    print("\n".join(lines))


if __name__ == "__main__":
    sys.exit(main())
