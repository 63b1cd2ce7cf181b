"""What anyone may have written is read whole, bounded and without running anything, or refused."""

import gzip
import io
import os
import pickle
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthetic_rm.errors import InputError
from synthetic_rm.reading import is_plain_name, open_npy, read_bytes, read_json, read_npz, read_yaml, unzipped


def refused(read: Callable[[Path], object], path: Path, *named: str) -> str:
    with pytest.raises(InputError) as error:
        read(path)
    line = str(error.value)
    assert "\n" not in line and [text for text in named if text not in line] == [], line
    return line


def test_a_regular_file_is_read_whole_up_to_the_bound(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"seven b")
    (tmp_path / "link").symlink_to(path)
    assert read_bytes(path, 7) == read_bytes(tmp_path / "link") == b"seven b"
    refused(lambda file: read_bytes(file, 6), path, "7 bytes", "up to 6")
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "nowhere")


def test_what_never_ends_is_not_begun(tmp_path: Path) -> None:
    """A pipe that nobody writes to, a device, a folder, a name that no system takes."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        refused(read_bytes, path, "no regular file")
    refused(read_bytes, tmp_path / "a\0b", "null byte")


def test_gzip_is_opened_up_to_the_bound_and_no_further() -> None:
    assert unzipped(gzip.compress(b"text"), 4) == b"text"
    bomb = gzip.compress(bytes(50 << 20))
    assert len(bomb) < 60_000
    started = time.perf_counter()
    for damaged, named in (
        (bomb, "more than 1,000 bytes"),
        (gzip.compress(b"text" * 9)[:-9], "gzip"),
        (b"text", "gzip"),
    ):
        with pytest.raises(InputError, match=named):
            unzipped(damaged, 1000)
    assert time.perf_counter() - started < 5


LAUGHS = "a: &a [ha, ha]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def test_yaml_and_json_are_read_as_plain_values(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text('{"a": [1, 2.5, null, "x"], "b": {"c": true}}')
    assert read_json(path) == read_yaml(path) == {"a": [1, 2.5, None, "x"], "b": {"c": True}}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe\0", b"[" * 100_000, b"{" * 100_000, b'{"a": 1} b', b"\x80\x04\x95"]
)
def test_json_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    refused(read_json, tmp_path / "a", "not JSON")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (LAUGHS, "aliases"),
        ("a: &a [*a]", "aliases"),
        ("a: [", "not YAML"),
        ("[" * 20_000, "not YAML"),
        ("a: !!python/object/apply:os.system [exit]", "not YAML"),
        ("a: 1\n\tb: 2", "not YAML"),
    ],
    ids=["a billion laughs", "itself", "open", "deep", "code", "tab"],
)
def test_yaml_that_is_no_plain_text_is_refused(tmp_path: Path, content: str, named: str) -> None:
    (tmp_path / "a").write_text(content)
    refused(read_yaml, tmp_path / "a", named)


def npy(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def claims(shape: str, content: bytes = bytes(8)) -> bytes:
    """An array file whose header tells another shape than it holds."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


class Runs:
    """Would make a folder if it were ever unpickled."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.folder),))


def archive(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def test_arrays_are_read_as_written(tmp_path: Path) -> None:
    arrays = {"run": np.array(["a", "bc"]), "gold": np.arange(6.0).reshape(2, 3), "none": np.zeros((0, 4))}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)
        found = read_npz(tmp_path / "a.npz")
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)


def test_nothing_that_is_pickled_is_run(tmp_path: Path) -> None:
    trap = np.array([Runs(tmp_path / "ran")], dtype=object)
    np.savez(tmp_path / "a.npz", run=trap)
    refused(read_npz, tmp_path / "a.npz", "pickled")
    (tmp_path / "a.npy").write_bytes(npy(trap, allow_pickle=True))
    refused(open_npy, tmp_path / "a.npy", "a.npy")
    for name, content in (("b.npz", pickle.dumps(trap)), ("c.npz", b"")):
        (tmp_path / name).write_bytes(content)
        refused(read_npz, tmp_path / name, "npz")
    archive(tmp_path / "d.npz", **{"run.npy": pickle.dumps(trap)})
    refused(read_npz, tmp_path / "d.npz", "npz")
    assert not (tmp_path / "ran").exists()


def test_a_bomb_is_not_opened(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", **{f"{i}.npy": npy(np.zeros(1 << 20)) for i in range(4)})
    assert path.stat().st_size < 1 << 16 and len(read_npz(path)) == 4
    refused(lambda file: read_npz(file, 1 << 24), path, "33,554,944 bytes uncompressed", "up to 16,777,216")


@pytest.mark.parametrize("shape", ["(1000000000000,)", "(2,)", "(0,)", "(-1,)", "(3, 'x')", "()", "(1 << 60,)"])
def test_a_header_that_tells_another_size_is_refused(tmp_path: Path, shape: str) -> None:
    content = bytes(8) if shape != "()" else bytes(16)
    refused(read_npz, archive(tmp_path / "a.npz", **{"run.npy": claims(shape, content)}), "npz")
    (tmp_path / "a.npy").write_bytes(claims(shape, content))
    if shape not in ("(0,)", "()"):  # a file may be longer than its array
        refused(open_npy, tmp_path / "a.npy", "a.npy")


@pytest.mark.parametrize("name", ["../run.npy", "/run.npy", "a/run.npy", "..\\run.npy", "run.py", "run"])
def test_members_with_other_names_are_refused(tmp_path: Path, name: str) -> None:
    refused(read_npz, archive(tmp_path / "a.npz", **{name: npy(np.zeros(2))}), "no array")
    assert is_plain_name("run.npy") and not is_plain_name("..") and not is_plain_name("")


@given(st.data())
def test_a_damaged_archive_is_read_whole_or_refused(data: st.DataObject) -> None:
    """Any byte changed, any end cut off: the same arrays, or one line."""
    file = io.BytesIO()
    np.savez_compressed(file, gold=np.arange(20.0), run=np.array(["a"]))
    content = bytearray(file.getvalue())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path = Path(os.environ["HYPOTHESIS_SCRATCH"])
    path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    try:
        found = read_npz(path)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert all(isinstance(array, np.ndarray) and array.size <= 20 for array in found.values())


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPOTHESIS_SCRATCH", str(tmp_path / "scratch.npz"))
