"""F1: arrays made chunk by chunk, of which an interrupted process keeps the chunks that are done.

They lie on disk from the beginning, and a checkpoint holds a checksum of every chunk. So memory does not grow with
them, a checkpoint costs the same however large they are, and a chunk that is not what was written is made again.
"""

import os
import shutil
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from synthetic_rm.checkpoints import Loop
from synthetic_rm.hosts import gathered
from synthetic_rm.progress import from_before
from synthetic_rm.runtime import concurrently

Place = Any
"""an index into every one of the arrays: a slice, or a tuple of slices and numbers"""
Arrays = Mapping[str, np.ndarray]


def fill_arrays(
    shapes: Mapping[str, tuple[Any, tuple[int, ...]]],
    places: Sequence[Place],
    make: Callable[[Place], Arrays],
    loop: Loop,
    *,
    into: Path | None = None,
    on_chunk: Callable[[Arrays], None] | None = None,
    at_once: int | None = None,
) -> dict[str, np.ndarray]:
    """Fill arrays of these types and shapes, several chunks at once (`at_once`; None: one for each processor).

    Args:
        shapes: {name: (dtype, shape)}.
        places: of the chunks; together they are the whole of every array, and no two overlap.
        make: a chunk of every array; depends on its place alone.
        loop: its checkpoints; the arrays lie beside them. Of several processes the first alone keeps any.
        into: folder to leave them in, as NAME.npy; None: they are given back in memory.
        on_chunk: called with every chunk, those of an earlier process included.
    Raises:
        InputError: the checkpoints are of other arrays.
        OSError: there is no room for the arrays.
    """
    home = loop.home()
    arrays = {name: _opened(home or into, name, *shape) for name, shape in shapes.items()}

    def at(place: Place) -> dict[str, np.ndarray]:
        return {name: x[place] for name, x in arrays.items()}

    done, checksums = np.zeros(len(places), bool), np.zeros(len(places), np.uint32)
    if saved := loop.restore((done, checksums)):
        done, checksums = (np.array(x) for x in saved.state)
        kept: list[int] = np.flatnonzero(done).tolist()
        if home is None:
            _copy_kept(loop, arrays, [places[i] for i in kept])
        wrong = [i for i in kept if _checksum(at(places[i])) != checksums[i]]
        if wrong := sorted({i for there in gathered(wrong) for i in there}):
            loop.all.say(f"{len(wrong)} of {len(kept)} chunks of {loop.title} are damaged and made again")
        done[wrong] = False
    if on_chunk is not None:
        with from_before():
            for place in (places[i] for i in np.flatnonzero(done).tolist()):
                on_chunk(at(place))
    missing: list[int] = np.flatnonzero(~done).tolist()
    for i, chunk in concurrently(lambda i: (i, make(places[i])), missing, at_once):
        for name, x in chunk.items():
            arrays[name][places[i]] = x
        done[i], checksums[i] = True, _checksum(at(places[i]))
        if on_chunk is not None:
            on_chunk(at(places[i]))
        loop.save(int(done.sum()), (done, checksums), constant=bool(done.all()))
    return {name: _left(x, name, home, into) for name, x in arrays.items()}


def _copy_kept(loop: Loop, arrays: Arrays, places: Sequence[Place]) -> None:
    """Take chunks from where the first process keeps them, as far as this one sees them."""
    assert loop.folder is not None
    with suppress(OSError, ValueError):
        for name, x in arrays.items():
            there = np.load(loop.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for place in places:
                x[place] = there[place]


def _opened(folder: Path | None, name: str, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The array of that name as it was left, or a new one, its space on disk reserved: a full disk is no crash."""
    if folder is None:
        return np.zeros(shape, dtype)
    path = folder / f"{name}.npy"
    try:
        array = np.load(path, mmap_mode="r+", allow_pickle=False)
        if (array.dtype, array.shape) == (np.dtype(dtype), shape):
            return array
    except (OSError, ValueError):
        pass
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _left(array: np.ndarray, name: str, home: Path | None, into: Path | None) -> np.ndarray:
    """The whole array: in memory, or in the folder it is to be left in, while what is at home stays there."""
    if into is None:
        return np.array(array)
    if isinstance(array, np.memmap):
        array.flush()
    path = into / f"{name}.npy"
    if home is not None:
        path.unlink(missing_ok=True)
        try:
            os.link(home / f"{name}.npy", path)
        except OSError:  # no links on this disk
            shutil.copyfile(home / f"{name}.npy", path)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _checksum(chunk: Arrays) -> int:
    """CRC-32 of the bytes of all arrays, in the order of their names."""
    found = 0
    for name in sorted(chunk):
        found = zlib.crc32(chunk[name].tobytes(), found)
    return found
