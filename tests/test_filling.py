"""Arrays filled chunk by chunk: what was done before an interruption is kept if it is still what was written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthetic_rm.checkpoints import NO_LOOP, Checkpoints, Loop
from synthetic_rm.errors import InputError
from synthetic_rm.filling import fill_arrays

SHAPES: dict[str, Any] = {"tokens": (np.uint16, (5, 9, 3)), "length": (np.int32, (5, 9))}
PLACES = [(slice(i, i + 2), slice(j, j + 4)) for i in range(0, 5, 2) for j in range(0, 9, 4)]


def content() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.integers(0, 60_000, shape).astype(dtype) for name, (dtype, shape) in SHAPES.items()}


class Maker:
    """Gives every chunk its content and notes which were asked for; fails at one of them."""

    def __init__(self, fails: int | None = None):
        self.fails, self.made = fails, list[int]()

    def __call__(self, place: Any) -> dict[str, np.ndarray]:
        index = PLACES.index(place)
        if index == self.fails:
            raise KeyboardInterrupt
        self.made.append(index)
        return {name: x[place] for name, x in content().items()}


def loop_in(folder: Path, say: Callable[[str], None] = lambda line: None) -> Loop:
    return Checkpoints(folder / "p", {"stage": "pool", "key": "a1" * 32}, 0.0, say).loop("drawn")


def interrupted(folder: Path, at: int) -> None:
    (folder / "files").mkdir()
    with pytest.raises(KeyboardInterrupt):
        fill_arrays(SHAPES, PLACES, Maker(at), loop_in(folder), into=folder / "files")
    assert list((folder / "files").iterdir()) == []


def assert_whole(found: dict[str, np.ndarray], folder: Path | None = None) -> None:
    for name, expected in content().items():
        np.testing.assert_array_equal(found[name], expected)
        assert found[name].dtype == expected.dtype and isinstance(found[name], np.memmap) == (folder is not None)
        if folder is not None:
            np.testing.assert_array_equal(np.load(folder / f"{name}.npy", allow_pickle=False), expected)


def test_every_chunk_is_made_once_on_disk_or_in_memory(tmp_path: Path) -> None:
    heard: list[Any] = []
    in_memory, on_disk = Maker(), Maker()
    assert_whole(fill_arrays(SHAPES, PLACES, in_memory, NO_LOOP, on_chunk=heard.append))
    assert_whole(fill_arrays(SHAPES, PLACES, on_disk, NO_LOOP, into=tmp_path), tmp_path)
    assert sorted(in_memory.made) == sorted(on_disk.made) == list(range(len(PLACES)))
    assert sum(chunk["length"].size for chunk in heard) == 45
    assert sorted(path.name for path in tmp_path.iterdir()) == ["length.npy", "tokens.npy"]


@pytest.mark.parametrize("at", [6])
def test_an_interruption_costs_no_chunk_that_was_kept(tmp_path: Path, at: int) -> None:
    interrupted(tmp_path, at)
    heard: list[Any] = []
    told: list[str] = []
    maker, loop = Maker(), loop_in(tmp_path, told.append)
    assert_whole(
        fill_arrays(SHAPES, PLACES, maker, loop, into=tmp_path / "files", on_chunk=heard.append), tmp_path / "files"
    )
    assert maker.made == list(range(at, len(PLACES))) and told == [f"drawn of pool a1a1a1a1 goes on from step {at}"]
    assert sum(chunk["length"].size for chunk in heard) == 45
    again = Maker()
    assert_whole(fill_arrays(SHAPES, PLACES, again, loop_in(tmp_path)))
    assert again.made == []  # and they may be given back in memory as well


def test_a_chunk_that_is_not_what_was_written_is_made_again(tmp_path: Path) -> None:
    interrupted(tmp_path, 5)
    left = np.load(tmp_path / "p" / "drawn" / "tokens.npy", mmap_mode="r+", allow_pickle=False)
    left[PLACES[3]][0, 0, 0] ^= 1
    left.flush()
    told: list[str] = []
    maker = Maker()
    assert_whole(fill_arrays(SHAPES, PLACES, maker, loop_in(tmp_path, told.append)))
    assert sorted(maker.made) == [3, *range(5, len(PLACES))]
    assert told[1:] == ["1 of 5 chunks of drawn of pool a1a1a1a1 are damaged and made again"]


@pytest.mark.parametrize("damage", ["gone", "of another shape", "no array"])
def test_arrays_that_are_not_there_are_made_again(tmp_path: Path, damage: str) -> None:
    interrupted(tmp_path, 2)
    path = tmp_path / "p" / "drawn" / "length.npy"
    path.unlink()
    if damage == "of another shape":
        np.save(path, np.zeros((5, 8), np.int32))
    elif damage == "no array":
        path.write_bytes(b"\x80\x04K\x01.")
    maker = Maker()
    assert_whole(fill_arrays(SHAPES, PLACES, maker, loop_in(tmp_path)))
    assert sorted(maker.made) == list(range(len(PLACES)))


def test_checkpoints_of_other_chunks_are_refused(tmp_path: Path) -> None:
    interrupted(tmp_path, 2)
    with pytest.raises(InputError, match=r"checkpoint with 0 \[\[9\], 'bool'\], expected \[\[3\], 'bool'\]; remove"):
        fill_arrays(SHAPES, PLACES[:3], Maker(), loop_in(tmp_path))


def test_a_full_disk_is_an_error_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full, raising=False)
    maker = Maker()
    with pytest.raises(OSError, match="No space left"):
        fill_arrays(SHAPES, PLACES, maker, loop_in(tmp_path))
    assert maker.made == []
