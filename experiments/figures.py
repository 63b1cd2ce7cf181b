"""Draw every figure and report again from committed records: python experiments/figures.py [--results results]

Nothing is trained and jax is not imported. Every folder below `--results` with a records.csv is drawn anew in place,
what all of them say of the paper's claims is written to verdicts.md there and between the marks of the README.md beside
it, and one page over all of them to index.html.

Exit code 0 when done, 2 for tables that cannot be (one line on standard error says why).
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from synthetic_rm.analysis.analytic_report import redraw_analytic
from synthetic_rm.analysis.index import write_index
from synthetic_rm.analysis.page import Page
from synthetic_rm.analysis.report import redraw
from synthetic_rm.analysis.run_folder import read_table
from synthetic_rm.analysis.verdicts import made_by, read_verdicts, verdicts_markdown, with_verdicts
from synthetic_rm.entry import Parser, guarded
from synthetic_rm.errors import require
from synthetic_rm.files import write_atomic


def result_folders(results: Path) -> list[Path]:
    """The folders below that hold records, in the order of their names.

    Raises:
        InputError: there are none.
    """
    folders = sorted(path.parent for path in results.rglob("records.csv"))
    require(bool(folders), f"--results={results}: no folder there holds records.csv")
    return folders


def draw(folder: Path) -> Page:
    """Draw what lies in a folder by the report of its kind; its page."""
    analytic = "provenance" in read_table(folder / "records.csv", ("run",))
    return redraw_analytic(folder) if analytic else redraw(folder)


def draw_all(results: Path) -> None:
    """Draw every folder, what all of them say of the paper's claims, and the page that leads to them."""
    pages = {}
    for folder in result_folders(results):
        started = time.perf_counter()
        pages[folder.relative_to(results).as_posix()] = page = draw(folder)
        print(f"{page.path} ({time.perf_counter() - started:.1f} s)", flush=True)
    told = read_verdicts(results)
    if told:
        text = f"{verdicts_markdown(told)}\n{made_by(results, told)}"
        write_atomic(results / "verdicts.md", text.encode())
        tell_readme(results, told)
    print(write_index(pages, told, results))


def tell_readme(results: Path, tables: Mapping[str, pd.DataFrame]) -> None:
    """Put the verdicts where the README beside the folder of results has a place for them."""
    readme = results.resolve().parent / "README.md"
    if readme.is_file():
        page = readme.read_text(encoding="utf-8")
        told = with_verdicts(page, tables, f"{results.name}/")
        if told != page:
            write_atomic(readme, told.encode())


def main(words: Sequence[str] | None = None) -> int:
    """The command, with its exit code."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("results"), help="default: %(default)s")
    options = parser.parse_args(words)
    return guarded(lambda: draw_all(options.results))


if __name__ == "__main__":
    sys.exit(main())
