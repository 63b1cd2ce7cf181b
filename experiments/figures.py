"""Draw every figure and report again from committed records: python experiments/figures.py [--results results]

Nothing is trained and jax is not imported. Every folder below `--results` with a records.csv is drawn anew in place,
and what all of them say of the paper's claims is written to verdicts.md there.

Exit code 0 when done, 2 for tables that cannot be (one line on standard error says why).
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from synthetic_rm.analysis.analytic_report import redraw_analytic
from synthetic_rm.analysis.report import redraw
from synthetic_rm.analysis.run_folder import read_table
from synthetic_rm.analysis.verdicts import read_verdicts, verdicts_markdown, write_text
from synthetic_rm.errors import InputError, require


def result_folders(results: Path) -> list[Path]:
    """The folders below that hold records, in the order of their names.

    Raises:
        InputError: there are none.
    """
    folders = sorted(path.parent for path in results.rglob("records.csv"))
    require(bool(folders), f"--results={results}: no folder there holds records.csv")
    return folders


def draw(folder: Path) -> Path:
    """Draw what lies in a folder by the report of its kind; the path of report.html."""
    analytic = "provenance" in read_table(folder / "records.csv", ("run",))
    return redraw_analytic(folder) if analytic else redraw(folder)


def main(words: Sequence[str] | None = None) -> int:
    """The command, with its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("results"), help="default: %(default)s")
    options = parser.parse_args(words)
    try:
        folders = result_folders(options.results)
        for folder in folders:
            started = time.perf_counter()
            print(f"{draw(folder)} ({time.perf_counter() - started:.1f} s)", flush=True)
        if any((folder / "verdicts.csv").exists() for folder in folders):
            text = verdicts_markdown(read_verdicts(folders, options.results))
            write_text(options.results / "verdicts.md", text)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
