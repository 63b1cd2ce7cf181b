"""What interruptions cost a run, and what a store costs that has everything.

    python experiments/benchmarks/resume.py +experiment=figure1 scale=laptop

Runs it whole; then, into another folder and store, kills it (SIGKILL) after a third of the processor time that took,
asks it to stop (SIGTERM) after another third, and lets it finish; then asks for it once more, everything being there.
Records must be the same. Cost is counted in processor time, which what else the machine does swings less than the
clock; it is read where Linux tells it. Exit code 0 when done, 2 for input that cannot be.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from synthetic_rm import provenance
from synthetic_rm.entry import Parser, guarded
from synthetic_rm.errors import require
from synthetic_rm.files import write_atomic, write_table
from synthetic_rm.reading import read_json
from synthetic_rm.runtime import processors
from synthetic_rm.store import HASHED, find
from synthetic_rm.storekeeping import scan

ROOT = Path(__file__).resolve().parents[2]
RESUMED, REUSED = 0.05, 0.050
"""aims: share of a run that an interruption may cost, seconds that a stage found in the store may cost"""
ROUNDS = 5
ENDS = {0: 0, signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 128 + signal.SIGTERM}
"""exit codes by the signal that was sent"""


class Part(NamedTuple):
    """One process of a run."""

    run: str
    ended: str
    """"done", "SIGKILL" or "SIGTERM\""""
    seconds: float
    processor_seconds: float


def processor_seconds(process: int) -> float:
    """Seconds of processor time that a process has used (proc(5): utime and stime, fields 14 and 15)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def run_part(run: str, words: Sequence[str], folder: Path, after: float = np.inf, sign: int = 0) -> Part:
    """Run the command into `folder`, a signal sent to it after so many seconds of processor time.

    Raises:
        InputError: it ended otherwise than it should.
    """
    command = [sys.executable, str(ROOT / "experiments" / "run.py"), *words, f"output={folder / 'out'}"]
    started, sent, ended = time.perf_counter(), 0, False
    process = subprocess.Popen([*command, f"store={folder / 'store'}", "runtime.progress=false"], cwd=ROOT)
    while not ended:
        time.sleep(0.05)
        if not sent and processor_seconds(process.pid) >= after:
            process.send_signal(sent := sign)
        found, state, usage = os.wait4(process.pid, os.WNOHANG)
        ended = found != 0
    seconds, used = time.perf_counter() - started, usage.ru_utime + usage.ru_stime
    process.returncode = os.waitstatus_to_exitcode(state)
    as_told = process.returncode == ENDS[sent] and sent == sign
    require(as_told, f"{run}: ended with {process.returncode} after {used:.0f} s of processor time")
    return Part(run, signal.Signals(sent).name if sent else "done", seconds, used)


def run_parts(words: Sequence[str], folder: Path) -> list[Part]:
    """The run whole, in three parts, and from a full store.

    Raises:
        InputError: the records of the interrupted run are not those of the whole one.
    """
    whole = run_part("whole", words, folder / "whole")
    third = whole.processor_seconds / 3
    parts = [
        whole,
        run_part("interrupted", words, folder / "cut", third, signal.SIGKILL),
        run_part("interrupted", words, folder / "cut", third, signal.SIGTERM),
        run_part("interrupted", words, folder / "cut"),
        run_part("from a full store", words, folder / "whole"),
    ]
    tables = [(folder / name / "out" / "records.csv").read_bytes() for name in ("whole", "cut")]
    require(tables[0] == tables[1], f"{folder}: records of the interrupted run differ from those of the whole one")
    return parts


def reuse(store: Path) -> pd.DataFrame:
    """Every stage of a store found again: its bytes, and the seconds that took (median of five)."""
    rows = []
    for entry in scan(store):
        key, seconds = str(read_json(entry.path / "manifest.json")["key"]), []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            find(entry.path, key)
            seconds.append(time.perf_counter() - started)
        rows.append({"stage": entry.stage, "bytes": entry.size, "seconds": float(np.median(seconds))})
    return pd.DataFrame(rows)


def page(parts: pd.DataFrame, stages: pd.DataFrame, words: Sequence[str], load: Sequence[float]) -> str:
    """Both tables and what they come to, as Markdown."""
    spent = parts.groupby("run").processor_seconds.sum()
    cost = spent["interrupted"] / spent["whole"] - 1.0
    signals = (parts.run == "interrupted").sum() - 1
    facts = provenance.describe("cpu")
    lines = [
        "# What interruptions and a full store cost",
        "",
        f"Written by `python experiments/benchmarks/resume.py {' '.join(words)}`; the tables lie beside as CSV.",
        "",
        f"- {facts['cpu']}, {processors()} threads; {facts['started']}; commit {facts['commit']}",
        f"- load average (1 min): {load[0]:.2f} before, {load[1]:.2f} after",
        "",
        f"A run interrupted {signals} times took **{cost:+.1%}** of processor time beside one that was not: "
        f"{cost / signals:+.1%} for each (aim: below {RESUMED:.0%}). Its records are the same, byte for byte.",
        "",
        "| run | ended by | seconds | processor seconds |",
        "| --- | --- | ---: | ---: |",
        *(
            f"| {row.run} | {row.ended} | {row.seconds:.0f} | {row.processor_seconds:.0f} |"
            for row in parts.itertuples()
        ),
        "",
        f"A stage found in the store costs {1e3 * stages.seconds.median():.1f} ms in the median and "
        f"**{1e3 * stages.seconds.max():.1f} ms** at most (aim: below {1e3 * REUSED:.0f}), its files hashed; "
        f"files of more than {HASHED >> 20} MB are told by their sizes.",
        "",
        "| stage | number | largest, MB | ms, median | ms, most |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(
            f"| {stage} | {len(rows)} | {rows.bytes.max() / 1e6:.1f} | {1e3 * rows.seconds.median():.1f} | "
            f"{1e3 * rows.seconds.max():.1f} |"
            for stage, rows in stages.groupby("stage", sort=False)
        ),
    ]
    return "\n".join(lines) + "\n"


def measure(words: Sequence[str], output: Path) -> None:
    """Measure, and write resume.md, resume.csv and reuse.csv."""
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as scratch:
        parts = pd.DataFrame(run_parts(words, Path(scratch)))
        stages = reuse(Path(scratch) / "whole" / "store")
    output.mkdir(parents=True, exist_ok=True)
    write_table(parts, output / "resume.csv")
    write_table(stages, output / "reuse.csv")
    text = page(parts, stages, words, (before, os.getloadavg()[0]))
    write_atomic(output / "resume.md", text.encode())
    print(text)


def main(words: Sequence[str] | None = None) -> int:
    """The command, with its exit code."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "benchmarks", help="folder to write to")
    parser.add_argument("words", nargs="+", help="of experiments/run.py")
    options = parser.parse_args(words)
    return guarded(lambda: measure(options.words, options.output))


if __name__ == "__main__":
    sys.exit(main())
