"""Parameters survive the disk exactly, and a damaged file is named instead of being read."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from synthetic_rm.errors import InputError
from synthetic_rm.ladder import shape_of_width
from synthetic_rm.networks import transformer
from synthetic_rm.rewards.neural import init_reward
from synthetic_rm.weights import load_params, save_params

NETWORK = transformer(shape_of_width(34, 20))  # two layers: the path of an array holds a number
LIKE = jax.eval_shape(lambda key: init_reward(NETWORK, key), jax.random.key(0))
RNG = np.random.default_rng(0)
PARAMS = jax.tree.map(lambda x: RNG.normal(size=x.shape).astype(np.float32), LIKE)
ANY = "trunk.embed.embedding"


def test_round_trip_is_exact_in_structure_shape_and_bits(tmp_path: Path) -> None:
    path = tmp_path / "params.safetensors"
    save_params(path, PARAMS)
    for like in (LIKE, PARAMS):
        found = load_params(path, like)
        assert jax.tree.structure(found) == jax.tree.structure(PARAMS)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(PARAMS), strict=True):
            assert a.dtype == b.dtype and a.shape == b.shape
            np.testing.assert_array_equal(a, b)
    assert found["head"]["bias"].shape == ()
    names = set(load_file(path))
    assert {"head.bias", ANY, "trunk.blocks.1.query.kernel"} <= names and len(names) == len(jax.tree.leaves(PARAMS))


def test_arrays_that_are_not_contiguous_are_stored_as_they_read(tmp_path: Path) -> None:
    wide = np.arange(24, dtype=np.float32).reshape(4, 6)
    tree = {"turned": wide.T, "strided": wide[::2, ::3], "scalar": np.float32(3.5), "reversed": wide[::-1]}
    save_params(tmp_path / "a", tree)
    found = load_params(tmp_path / "a", tree)
    for name, array in tree.items():
        np.testing.assert_array_equal(found[name], array)


def refused(path: Path) -> str:
    with pytest.raises(InputError) as error:
        load_params(path, LIKE)
    message = str(error.value)
    assert str(path) in message and "\n" not in message
    return message


def changed(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    save_params(path, PARAMS)
    arrays = load_file(path)
    change(arrays)
    save_file(arrays, path)
    return path


def test_an_array_too_few_or_too_many_is_named(tmp_path: Path) -> None:
    message = refused(changed(tmp_path / "a", lambda arrays: arrays.pop(ANY)))
    assert ANY in message and "missing" in message
    message = refused(changed(tmp_path / "b", lambda arrays: arrays.update(stray=np.zeros(2))))
    assert "stray" in message and "not expected" in message


def test_another_shape_is_named_with_both(tmp_path: Path) -> None:
    message = refused(changed(tmp_path / "a", lambda arrays: arrays.update({ANY: arrays[ANY][:, :-1].copy()})))
    assert ANY in message and "(20, 33)" in message and "(20, 34)" in message
    assert "head.bias" in refused(changed(tmp_path / "b", lambda arrays: arrays.update({"head.bias": np.zeros(1)})))


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, ml_dtypes.bfloat16])
def test_another_type_is_named(tmp_path: Path, dtype: Any) -> None:
    """Weights of another precision are another model."""
    message = refused(changed(tmp_path / "a", lambda arrays: arrays.update({ANY: arrays[ANY].astype(dtype)})))
    assert ANY in message and np.dtype(dtype).name in message


def _header(content: bytes, header: dict[str, Any]) -> bytes:
    (size,) = struct.unpack("<Q", content[:8])
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + size :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "three bytes": lambda content: content[:3],
    "header alone": lambda content: content[:8],
    "half": lambda content: content[: len(content) // 2],
    "one byte short": lambda content: content[:-1],
    "one byte long": lambda content: content + b"\0",
    "oversized header": lambda content: struct.pack("<Q", 1 << 62) + content[8:],
    "header beyond the file": lambda content: struct.pack("<Q", len(content) * 2) + content[8:],
    "text": lambda content: b"<html>not found</html>\n" * 40,
    "offsets beyond the file": lambda content: _header(
        content, {ANY: {"dtype": "F32", "shape": [20, 34], "data_offsets": [0, 1 << 40]}}
    ),
    "unknown type": lambda content: _header(content, {ANY: {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "params.safetensors"
    save_params(path, PARAMS)
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    refused(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    assert "missing" in refused(tmp_path / "nowhere.safetensors")
    refused(tmp_path)
