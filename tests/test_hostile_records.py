"""Records made to do harm, or damaged: `make figures` tells them on one line with exit code 2 and runs nothing."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analysis.synthetic_folder import SIZES, write_folder
from scripts import load_script

from synthetic_rm import reading


class Runs:
    """Writes a file where it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.path), "w"))


def pickled(folder: Path) -> None:
    np.savez(folder / "curves.npz", run=np.array([Runs(folder / "ran")], dtype=object))


def bomb(folder: Path) -> None:
    np.savez_compressed(folder / "curves.npz", **{str(i): np.zeros(1 << 20) for i in range(4)})


def cut(name: str) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return harm


def holding(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


HARM: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "pickled arrays": (pickled, ["curves.npz", "pickled"]),
    "bomb": (bomb, ["curves.npz", "uncompressed"]),
    "no archive": (holding("curves.npz", pickle.dumps([1])), ["curves.npz"]),
    "cut archive": (cut("curves.npz"), ["curves.npz"]),
    "no curves": (lambda folder: (folder / "curves.npz").unlink(), ["curves.npz"]),
    "no table": (holding("records.csv", b"\x00\xff\xfe"), ["records.csv"]),
    "empty table": (holding("records.csv", b""), ["records.csv"]),
    "table without its columns": (holding("records.csv", b"a,b\n1,2\n"), ["records.csv"]),
    "fits without their columns": (holding("fits.csv", b"a,b\n1,2\n"), ["fits.csv"]),
    "no runs": (lambda folder: (folder / "runs.csv").unlink(), ["runs.csv"]),
    "configuration that runs": (
        holding("config.yaml", b"a: !!python/object/apply:os.system ['touch ran']"),
        ["config.yaml"],
    ),
    "deep provenance": (holding("provenance.json", b"[" * 100_000), ["provenance.json"]),
}


@pytest.mark.parametrize("case", HARM)
def test_records_made_to_do_harm_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.setattr(reading.read_npz, "__defaults__", (1 << 24,))
    folder = write_folder(tmp_path / "a", sizes=SIZES[:1], seeds=2, prompts=4, points=8, failed=0)
    harm, named = HARM[case]
    harm(folder)
    code = load_script("figures").main(["--results", str(tmp_path)])
    told = capsys.readouterr().err
    assert code == 2 and told.startswith("error: ") and told.count("\n") == 1
    for word in named:
        assert word in told
    assert not (folder / "ran").exists() and not Path("ran").exists()
