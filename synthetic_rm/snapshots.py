"""F1: one state of a loop as a folder, by Orbax: written whole, and read only where every byte is what was written.

state/           the arrays; Orbax writes and reads them, and only this module knows it
manifest.json    key, step, seconds, shapes, every file's size and SHA-256, and a digest of all that
"""

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from synthetic_rm.errors import InputError
from synthetic_rm.files import write_json
from synthetic_rm.hosts import place
from synthetic_rm.provenance import digest, file_digest

ORBAX = threading.Lock()
"""it is used by one thread at a time"""


class Snapshot(NamedTuple):
    step: int
    state: Any
    """a pytree of arrays whose structure and shapes are the loop's"""
    arrays: Mapping[str, np.ndarray]
    """more of them, of any shape"""


class DamagedError(Exception):
    """A snapshot is not what was written: what is wrong with it."""


def write_snapshot(path: Path, snapshot: Snapshot, key: str, seconds: float) -> None:
    """Write it beside `path` and give it that name when it is whole; arrays are copied to the host.

    Args:
        key: of the configuration it belongs to.
        seconds: spent so far.
    """
    scratch = path.with_name(".new")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    tree = {
        "state": {name: np.array(x) for name, x in named_arrays(snapshot.state)},
        "arrays": {name: np.array(x) for name, x in snapshot.arrays.items()},
    }
    with ORBAX:
        _save(scratch.absolute() / "state", {part: named for part, named in tree.items() if named})
    files = sorted(file for file in scratch.rglob("*") if file.is_file())
    manifest = {
        "key": key,
        "step": snapshot.step,
        "seconds": seconds,
        "shapes": {part: _shapes(named.items()) for part, named in tree.items()},
        "files": {f.relative_to(scratch).as_posix(): [f.stat().st_size, file_digest(f)] for f in files},
    }
    write_json(scratch / "manifest.json", {**manifest, "digest": digest(manifest)})
    os.rename(scratch, path)


def read_snapshot(path: Path, like: Any, key: str) -> Snapshot:
    """A snapshot, its state in the structure of `like`; numpy arrays. Raises what `read_arrays` does."""
    return arranged(read_arrays(path, shapes_of(like), key), like)


def arranged(snapshot: Snapshot, like: Any) -> Snapshot:
    """What `read_arrays` gave, its state in the structure of `like`."""
    leaves, structure = jax.tree.flatten(like)
    values = [_as(leaf, snapshot.state[name]) for (name, _), leaf in zip(_paths(like), leaves, strict=True)]
    return snapshot._replace(state=jax.tree.unflatten(structure, values))


def read_arrays(path: Path, expected: Mapping[str, Any], key: str) -> Snapshot:
    """A snapshot, its state as numpy arrays by their place in the tree; no jax array is made.

    Args:
        expected: see `shapes_of`.
    Raises:
        DamagedError: a byte of it is not what was written, or Orbax cannot read it.
        InputError: it is whole and has another key, or a state of other arrays.
    """
    manifest = read_manifest(path)
    if manifest["key"] != key:
        raise InputError(f"store: {path} is a checkpoint of key {manifest['key'][:20]}, expected {key[:20]}")
    for name, (size, recorded) in manifest["files"].items():
        found = file_digest(path / name) if (path / name).is_file() else "none"
        if found != recorded:
            raise DamagedError(f"{name}, {size} bytes, has SHA-256 {found[:16]}, its manifest says {recorded[:16]}")
    held = manifest["shapes"]
    for name in sorted({*held["state"], *expected}):
        there, wanted = held["state"].get(name), expected.get(name)
        if there != wanted:
            raise InputError(f"store: {path} is a checkpoint with {name} {there}, expected {wanted}")
    empty = {part: {n: np.empty(shape, dtype) for n, (shape, dtype) in named.items()} for part, named in held.items()}
    try:
        with ORBAX:
            tree = _restore(path.absolute() / "state", {part: named for part, named in empty.items() if named})
    except Exception as error:  # the files are what was written, by another version of the library perhaps
        raise DamagedError(f"Orbax cannot read it: {error}") from error
    return Snapshot(int(manifest["step"]), tree.get("state", {}), dict(tree.get("arrays", {})))


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a snapshot.

    Raises:
        DamagedError: it is not what was written.
    """
    try:
        manifest = dict(json.loads((path / "manifest.json").read_text()))
        if manifest.pop("digest") == digest(manifest):
            return manifest
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedError("it has no readable manifest.json") from error
    raise DamagedError("its manifest.json is not what was written")


def _is_key(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def _paths(tree: Any) -> Iterator[tuple[str, Any]]:
    """Every leaf by its place in the tree."""
    for path, x in jax.tree.leaves_with_path(tree):
        yield jax.tree_util.keystr(path, simple=True, separator="."), x


def named_arrays(tree: Any) -> Iterator[tuple[str, Any]]:
    """Every array by its place in the tree; a random key is the numbers it is made of."""
    return ((name, jax.random.key_data(x) if _is_key(x) else x) for name, x in _paths(tree))


def shapes_of(tree: Any) -> dict[str, Any]:
    """Shape and type of every array of `named_arrays`; nothing is computed."""
    return _shapes((name, jax.eval_shape(jax.random.key_data, x) if _is_key(x) else x) for name, x in _paths(tree))


def _as(like: Any, value: np.ndarray) -> Any:
    return jax.random.wrap_key_data(jnp.asarray(value), impl=jax.random.key_impl(like)) if _is_key(like) else value


def _shapes(named: Any) -> dict[str, Any]:
    return {name: [list(x.shape), str(x.dtype)] for name, x in named}


def _orbax() -> tuple[Any, Any]:
    """The library and what saves and restores, in this process alone. Imported only where there is something to keep:
    it takes a second."""
    import orbax.checkpoint as library

    mine = library.options.MultiprocessingOptions(primary_host=place(), active_processes={place()})
    handler = library.PyTreeCheckpointHandler(multiprocessing_options=mine)
    return library, library.Checkpointer(handler, multiprocessing_options=mine)


def _save(path: Path, tree: Any) -> None:
    _orbax()[1].save(path, tree)


def _restore(path: Path, like: Any) -> Any:
    library, checkpointer = _orbax()
    types: Callable[[Any], Any] = lambda x: library.RestoreArgs(restore_type=np.ndarray, dtype=x.dtype)  # noqa: E731
    return checkpointer.restore(path, item=like, restore_args=jax.tree.map(types, like))
