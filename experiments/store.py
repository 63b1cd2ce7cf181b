"""The store of finished stages: python experiments/store.py list|verify|prune --store DIR

    list     every stage with its size, its age since it was last used, what it was made from and what from it
    verify   hash every file again; exit code 1 if something is damaged
    prune    remove what no run can use again: outdated, damaged, failed, left over by processes that were killed;
             with --older-than also what was not used for so many days. --dry-run only tells. Checkpoints of
             unfinished stages stay: the same command goes on from them.

Exit code 0 when done, 2 for input that cannot be (one line on standard error says why).
"""

import argparse
import math
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from synthetic_rm.entry import Parser, guarded
from synthetic_rm.errors import require
from synthetic_rm.storekeeping import Entry, damage, prunable, remove, scan, users

UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def age(seconds: float) -> str:
    """A time span in its largest unit: "3 d", "12 min"."""
    size, name = next((unit for unit in UNITS if seconds >= unit[0]), UNITS[-1])
    return f"{max(0, int(seconds // size))} {name}"


def table(*columns: str) -> Table:
    """An empty table; columns named with a leading ">" are aligned to the right."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", overflow="fold")
    return made


def count(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def show(entries: Sequence[Entry], console: Console) -> int:
    """Print every entry and what they come to."""
    made_from, now = users(entries), time.time()
    present = {entry.digits for entry in entries if entry.finished}
    told = table("stage", "key", "status", ">size", ">last used", ">made in", "made from", "used by", "note")
    for entry in entries:
        parents = [parent[:8] for parent in entry.parents if parent[:20] in present]
        outside = len(entry.parents) - len(parents)
        used = made_from[entry.digits] if entry.finished else Counter()
        cells = [
            entry.stage,
            entry.digits[:8],
            entry.status,
            decimal(entry.size),
            age(now - entry.used),
            "" if entry.seconds is None else f"{entry.seconds:,.1f} s",
            " ".join([*parents, *([f"+{outside} not here"] if outside else [])]),
            ", ".join(stage if number == 1 else f"{stage} x{number}" for stage, number in used.items()),
            entry.note,
        ]
        told.add_row(*map(Text, cells))
    console.print(told)
    finished = sum(entry.finished for entry in entries)
    others = len(entries) - finished
    total = decimal(sum(entry.size for entry in entries))
    console.print(f"{count(finished, 'finished stage')}, {others} other, {total}", highlight=False)
    return 0


def verify(entries: Sequence[Entry], console: Console) -> int:
    """Hash everything again and print what is damaged."""
    looked_at = [entry for entry in entries if entry.finished or entry.status == "damaged"]
    wrong = [(entry, found) for entry in looked_at if (found := damage(entry))]
    for entry, found in wrong:
        console.print(f"damaged: {entry.path}: {found}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"{count(len(looked_at), 'stage')} verified, {len(wrong)} damaged", highlight=False)
    return 1 if wrong else 0


def prune(entries: Sequence[Entry], console: Console, older_than: float, dry_run: bool) -> int:
    """Remove what may go, or tell it."""
    going = prunable(entries, older_than)
    told = table("stage", "key", ">size", ">last used", "reason")
    size, kept, now = 0, 0, time.time()
    for entry, reason in going:
        if not dry_run and not remove(entry):
            reason, kept = "kept: a process is making this stage", kept + 1
        else:
            size += entry.size
        told.add_row(*map(Text, (entry.stage, entry.digits[:8], decimal(entry.size), age(now - entry.used), reason)))
    if going:
        console.print(told)
    verb = "would be removed" if dry_run else "removed"
    removed = len(going) - kept
    console.print(f"{removed} of {len(entries)} {verb}, {decimal(size)}", highlight=False)
    return 0


def main(words: Sequence[str] | None = None) -> int:
    """The command, with its exit code."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("list", "verify", "prune"))
    parser.add_argument("--store", type=Path, default=Path("results/store"), help="its folder (default: %(default)s)")
    parser.add_argument("--dry-run", action="store_true", help="prune: tell what would be removed, remove nothing")
    parser.add_argument(
        "--older-than", type=float, default=math.inf, metavar="DAYS", help="prune: also what was not used for so long"
    )
    options = parser.parse_args(words)
    return guarded(lambda: act(options))


def act(options: argparse.Namespace) -> int:
    """What the words ask for."""
    console = Console(width=None if sys.stdout.isatty() else 200)
    require(options.older_than >= 0, f"--older-than={options.older_than:g}: allowed is 0 days or more")
    entries = scan(options.store)
    if options.action == "list":
        return show(entries, console)
    if options.action == "verify":
        return verify(entries, console)
    return prune(entries, console, options.older_than, options.dry_run)


if __name__ == "__main__":
    sys.exit(main())
