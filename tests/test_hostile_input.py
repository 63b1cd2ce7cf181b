"""Names and files made to do harm, and machines that refuse: exit code 2, one line, nothing read, run or written."""

import errno
import gzip
import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from entered import Command, contents, files_up_to, folders, refused
from safetensors.numpy import save_file

from synthetic_rm import release
from synthetic_rm.environments.reviews import ratings
from synthetic_rm.environments.reviews.ratings import COLUMNS, DATA_SHA256, load_snippets
from synthetic_rm.provenance import file_digest
from synthetic_rm.settings import RELEASES, Settings
from synthetic_rm.store import progress_of
from synthetic_rm.weights import save_params


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    return Command(monkeypatch, capsys, tmp_path / "work")


NAMES: list[tuple[str, list[str]]] = [
    ("environment.release=../../reviews-v2", ["environment.release='../../reviews-v2'"]),
    ("scale=../experiment/figure1", ["scale=../experiment/figure1", "conf/scale"]),
    ("+experiment=../../../etc/passwd", ["experiment"]),
    ("comparisons.labels=../hard", ["comparisons.labels='../hard'"]),
    ("output='a\0b'", ["output", r"\x00"]),
    ("output='a\nb'", ["output", r"\n"]),
    ("output='a\x1b[2Jb'", ["output", r"\x1b[2J"]),
    ("store='\udcff'", ["store", r"\udcff"]),
    ("tracking.project='a\x07'", ["tracking.project", r"\x07"]),
    ("scale='\u0085'", ["scale"]),
    ("environment.data=/dev/zero", ["environment.data=/dev/zero", "no regular file"]),
    ("environment.data=/", ["environment.data=/", "no regular file"]),
    ("environment.data=/dev/null/x", ["environment.data=/dev/null/x"]),
    ("environment.data=" + "x" * 300, ["environment.data=x"]),
]


@pytest.mark.parametrize(("word", "named"), NAMES, ids=[ascii(word)[:50] for word, _ in NAMES])
def test_a_name_made_to_do_harm_is_told_and_not_used(
    command: Command, tmp_path: Path, word: str, named: list[str]
) -> None:
    refused(command("scale=smoke", *folders(tmp_path), word), *named)
    assert contents(tmp_path) == {}


def row(*fields: str) -> bytes:
    return ("\t".join(COLUMNS) + "\n" + "\t".join(fields) + "\n").encode()


DATA: dict[str, tuple[str, bytes, list[str]]] = {
    "bomb": ("mine.tsv.gz", gzip.compress(bytes(3 << 20)), ["holds more than 1,048,576 bytes"]),
    "cut gzip": ("mine.tsv.gz", gzip.compress(row("a", "b", "1", "text") * 99)[:-20], ["damaged gzip"]),
    "no gzip": ("mine.tsv.gz", row("a", "b", "1", "text"), ["damaged gzip"]),
    "too long": ("mine.tsv", bytes(2 << 20), ["2,097,152 bytes"]),
    "rating": ("mine.tsv", row("a", "b", "9" * 5000, "text"), ["line 2", "-4..4"]),
    "escape": ("mine.tsv", row("a", "b", "1\x1b[2J", "text"), ["line 2", r"\x1b"]),
    "columns": ("mine.tsv", row("a", "b", "1", "text", "more"), ["line 2", "5 columns"]),
    "pickle": ("mine.tsv", pickle.dumps(Settings), ["not UTF-8"]),
}


@pytest.mark.parametrize("case", DATA)
def test_data_made_to_do_harm_is_told(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    name, content, named = DATA[case]
    for function in ("read_bytes", "unzipped"):
        bounded = getattr(ratings, function)
        monkeypatch.setattr(ratings, function, lambda source, bounded=bounded: bounded(source, 1 << 20))
    (tmp_path / name).write_bytes(content)
    word = f"environment.data={tmp_path / name}"
    refused(command("scale=smoke", word, *folders(tmp_path)), "environment.data=", name, *named)
    assert set(contents(tmp_path)) == {name}


def test_a_pipe_is_not_waited_for(command: Command, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    refused(command("scale=smoke", f"environment.data={tmp_path / 'pipe'}", *folders(tmp_path)), "no regular file")


@pytest.fixture
def released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A release of the shipped tokenizer and of weights that the test writes; see `signed`."""
    shipped = release.ROOT / RELEASES[-1]
    folder = tmp_path / "releases" / RELEASES[-1]
    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "manifest.json"):
        shutil.copy(shipped / name, folder)
    save_params(folder / "gold.safetensors", {"a": np.zeros(3, np.float32)})
    monkeypatch.setattr(release, "ROOT", folder.parent)
    monkeypatch.setitem(release.load_release.__kwdefaults__, "root", folder.parent)
    return folder


def signed(folder: Path, **changes: Any) -> None:
    """Give every file of the release its true hash in the manifest: only what it holds is wrong."""
    manifest = json.loads((folder / "manifest.json").read_text())
    names = {path.name for path in folder.iterdir()} - {"manifest.json"}
    manifest["files"] = {name: {"sha256": file_digest(folder / name), "bytes": 1} for name in sorted(names)}
    manifest["data_sha256"] = DATA_SHA256
    manifest["files"] |= changes
    (folder / "manifest.json").write_text(json.dumps(manifest))


WEIGHTS: dict[str, bytes] = {
    "empty": b"",
    "oversized header": struct.pack("<Q", 1 << 62) + b"{}",
    "header beyond the file": struct.pack("<Q", 4000) + b"{}",
    "pickle": pickle.dumps({"embed": [1.0]}),
    "deep header": struct.pack("<Q", 9000) + b"[" * 9000,
    "offsets": struct.pack("<Q", 60) + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,99999]}}'.ljust(60),
    "shape": struct.pack("<Q", 80)
    + b'{"a":{"dtype":"F32","shape":[99999999,99999999],"data_offsets":[0,4]}}'.ljust(80),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights_made_to_do_harm_are_told(command: Command, released: Path, tmp_path: Path, case: str) -> None:
    """Their hash is that of the manifest."""
    (released / "gold.safetensors").write_bytes(WEIGHTS[case])
    signed(released)
    refused(command(*folders(tmp_path)), "gold.safetensors")


def test_weights_of_another_model_are_told(command: Command, released: Path, tmp_path: Path) -> None:
    save_file({"other": np.zeros(3, np.float32)}, released / "gold.safetensors")
    signed(released)
    refused(command(*folders(tmp_path)), "gold.safetensors", "array")


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[" * 100_000, pickle.dumps([1])], ids=["empty", "{}", "deep", "pickle"]
)
def test_a_tokenizer_that_is_none_is_told(command: Command, released: Path, tmp_path: Path, content: bytes) -> None:
    (released / "tokenizer.json").write_bytes(content)
    signed(released)
    refused(command(*folders(tmp_path)), "tokenizer.json")


@pytest.mark.parametrize("name", ["../../outside", "/etc/hostname", "..", "a/b", "a\0b", "a\\b"])
def test_a_release_names_no_file_outside_its_folder(
    command: Command, released: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "outside").write_text("mine")
    signed(released, **{name: {"sha256": file_digest(tmp_path / "outside"), "bytes": 4}})
    refused(command(*folders(tmp_path)), "manifest.json", "not in its folder")


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"files": {"a": ' * 9000, "\ufeff{}"], ids=["deep", "open", "mark"]
)
def test_a_manifest_made_to_do_harm_is_told(command: Command, released: Path, tmp_path: Path, content: str) -> None:
    (released / "manifest.json").write_text(content)
    refused(command(*folders(tmp_path)), "manifest.json")


@cache
def few_editorials() -> bytes:
    rows = [[s.domain, s.id, " ".join(map(str, s.ratings)), s.text] for s in load_snippets()[::60]]
    rows = [*(r for r in rows if r[0] != "editorial"), *[r for r in rows if r[0] == "editorial"][:6]]
    return "".join("\t".join(r) + "\n" for r in [list(COLUMNS), *rows]).encode()


@pytest.fixture
def begun(command: Command, tmp_path: Path) -> list[str]:
    """The words of a run whose store has its first stage, of data that do not suffice for the next."""
    (tmp_path / "mine.tsv").write_bytes(few_editorials())
    words = ["scale=smoke", "environment.vocab=300", f"environment.data={tmp_path / 'mine.tsv'}"]
    words += ["runtime.progress=false", *folders(tmp_path)]
    refused(command(*words), "gold_group_size")
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["tokenizer"]
    return words


def rewritten(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], object]:
    def harm(stage: Path) -> None:
        manifest = json.loads((stage / "manifest.json").read_text())
        (stage / "manifest.json").write_text(json.dumps(change(manifest)))

    return harm


HARM: dict[str, tuple[Callable[[Path], object], str]] = {
    "other bytes": (lambda stage: (stage / "tokenizer.json").write_bytes(_flipped(stage)), "SHA-256"),
    "cut": (lambda stage: (stage / "tokenizer.json").write_text("{}"), "has 2 bytes"),
    "gone": (lambda stage: (stage / "tokenizer.json").unlink(), "has None bytes"),
    "a folder": (
        lambda stage: (stage / "manifest.json").unlink() or (stage / "manifest.json").mkdir(),
        "manifest.json",
    ),
    "a pipe": (lambda stage: (stage / "manifest.json").unlink() or os.mkfifo(stage / "manifest.json"), "manifest.json"),
    "deep": (lambda stage: (stage / "manifest.json").write_text("[" * 100_000), "manifest.json"),
    "no object": (rewritten(lambda told: [told]), "manifest.json"),
    "other key": (rewritten(lambda told: told | {"key": "0" * 64}), "holds key 0000"),
    "outside": (rewritten(lambda told: told | {"files": {"../../../mine.tsv": [1, "0"]}}), "not in its folder"),
    "a file": (lambda stage: shutil.rmtree(stage) or stage.write_text("mine"), "manifest.json"),
    "other checkpoints": (lambda stage: _begun_by_another(stage), "holds the work of key 0000"),
}


def _begun_by_another(stage: Path) -> None:
    """Checkpoints of a stage of another key lie where those of this one would."""
    shutil.rmtree(stage)
    progress = progress_of(stage)
    progress.mkdir()
    (progress / "stage.json").write_text(json.dumps({"key": "0" * 64}))


def _flipped(stage: Path) -> bytes:
    content = bytearray((stage / "tokenizer.json").read_bytes())
    content[100] ^= 1
    return bytes(content)


@pytest.mark.parametrize("case", HARM)
def test_a_store_made_to_do_harm_is_told_and_not_used(
    command: Command, begun: list[str], tmp_path: Path, case: str
) -> None:
    (stage,) = (tmp_path / "store" / "tokenizer").iterdir()
    harm, named = HARM[case]
    harm(stage)
    refused(command(*begun), str(stage), named)
    assert not (tmp_path / "output").exists()


def test_a_disk_that_is_full_is_told_of_the_store(command: Command, begun: list[str], tmp_path: Path) -> None:
    with files_up_to(4_000):
        ended = command(*begun, f"store={tmp_path / 'new'}")
    refused(ended, str(tmp_path / "new"), os.strerror(errno.EFBIG))
    assert [path.suffixes for path in (tmp_path / "new" / "tokenizer").iterdir()] == [[".failed", ".json"]]


def test_a_disk_that_is_full_is_told_of_weights(tmp_path: Path) -> None:
    with files_up_to(100), pytest.raises(OSError, match="weights"):
        save_params(tmp_path / "weights.safetensors", {"a": np.zeros(1000, np.float32)})
