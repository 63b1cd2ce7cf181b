"""F1: parameters as safetensors files: named arrays, no code."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from synthetic_rm.devices import on_first
from synthetic_rm.errors import InputError, one_line
from synthetic_rm.hosts import first


def _names(params: Any) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return {".".join(str(getattr(k, "key", getattr(k, "name", k))) for k in path): leaf for path, leaf in leaves}


def save_params(path: Path, params: Any) -> None:
    """Write a pytree of dictionaries as safetensors, each array named by its path; the first process alone does."""
    arrays = on_first(_names(params))
    if first():
        save_arrays(path, arrays)


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write named arrays as safetensors.

    Raises:
        OSError: the file cannot be written, the disk is full.
    """
    try:
        save_file(arrays, path)
    except SafetensorError as error:  # the library's own for what the system refuses
        raise OSError(f"{path}: {one_line(error)}") from error


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Named arrays of a safetensors file.

    Raises:
        InputError: the file is missing or damaged; it is named.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise InputError(f"weights file {path}: missing or damaged ({one_line(error)})") from error


def load_params(path: Path, like: Any) -> Any:
    """Read what `save_params` wrote into the structure and shapes of `like` (arrays or their abstract values).

    Raises:
        InputError: the file is missing or damaged, or its arrays are not those of `like`; the first is named.
    """
    stored = load_arrays(path)
    wanted = _names(like)
    for name in sorted(set(stored) ^ set(wanted)):
        raise InputError(f"weights file {path}: array {name!r} is {'missing' if name in wanted else 'not expected'}")
    for name, leaf in wanted.items():
        if stored[name].shape != leaf.shape:
            raise InputError(f"weights file {path}: {name!r} has shape {stored[name].shape}, expected {leaf.shape}")
        if stored[name].dtype != leaf.dtype:
            raise InputError(f"weights file {path}: {name!r} has type {stored[name].dtype}, expected {leaf.dtype}")
    return jax.tree.unflatten(jax.tree.structure(like), [jax.numpy.asarray(stored[name]) for name in wanted])
