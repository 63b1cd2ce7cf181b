"""F0: files that anyone may have written, read without trust: no pickle, no bomb, nothing that never ends.

Raises `OSError` where a file cannot be read and `InputError` where it holds what it should not; the caller names it.
"""

import gzip
import io
import json
import math
import os
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml
from numpy.lib import format as npy

from synthetic_rm.errors import InputError, one_line, require

MOST = 256 << 20
"""bytes of a table or of a text, uncompressed"""
MOST_ARRAYS = 1 << 30
"""bytes of all arrays of one archive, uncompressed"""
Parsed = TypeVar("Parsed")


def read_bytes(path: Path, most: int = MOST) -> bytes:
    """The whole of a regular file of at most so many bytes: neither a device, which may never end, nor a pipe."""
    try:
        found = os.stat(path)
    except ValueError as error:  # a null byte in its name
        raise InputError(f"cannot be a file's name ({error})") from error
    require(stat.S_ISREG(found.st_mode), "is no regular file")
    require(found.st_size <= most, f"has {found.st_size:,} bytes, allowed are up to {most:,}")
    with path.open("rb") as file:
        return file.read(most)


def unzipped(content: bytes, most: int = MOST) -> bytes:
    """What gzip compressed, of at most so many bytes."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            text = file.read(most + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"damaged gzip file ({error})") from error
    require(len(text) <= most, f"holds more than {most:,} bytes uncompressed")
    return text


def read_json(path: Path) -> Any:
    """A file of JSON."""
    return _parsed(path, "JSON", json.loads)


def read_yaml(path: Path) -> Any:
    """A file of YAML without aliases, of which a few lines can make a billion values."""
    return _parsed(path, "YAML", lambda text: yaml.load(text, _Plain))


class _Plain(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        require(not self.check_event(yaml.AliasEvent), "aliases are not allowed")
        return super().compose_node(parent, index)


def _parsed(path: Path, kind: str, parse: Callable[[str], Parsed]) -> Parsed:
    content = read_bytes(path)
    try:
        return parse(content.decode("utf-8"))
    except RecursionError as error:
        raise InputError(f"not {kind}: nested too deep") from error
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"not {kind}: {one_line(error)[:200]}") from error


def read_npz(path: Path, most: int = MOST_ARRAYS) -> dict[str, np.ndarray]:
    """All arrays of an npz archive, read once what they declare of their sizes is seen to be true and not too much."""
    try:
        with zipfile.ZipFile(io.BytesIO(read_bytes(path, most))) as archive:
            total = sum(member.file_size for member in archive.infolist())
            require(total <= most, f"holds {total:,} bytes uncompressed, allowed are up to {most:,}")
            for member in archive.infolist():
                with archive.open(member) as file:
                    _check_header(member, file)
            with np.load(io.BytesIO(archive.fp.getvalue()), allow_pickle=False) as arrays:  # type: ignore[union-attr]
                return {name: arrays[name] for name in arrays.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, KeyError, RuntimeError, ValueError) as error:
        raise InputError(f"not an npz archive of plain arrays: {one_line(error)[:200]}") from error


def _check_header(member: zipfile.ZipInfo, file: Any) -> None:
    name = member.filename
    require(name.endswith(".npy") and is_plain_name(name), f"holds {name!a}, which is no array")
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(file)
    require(not dtype.hasobject, f"{name} holds pickled objects")
    declared = math.prod(shape) * dtype.itemsize
    left = member.file_size - file.tell()
    require(declared == left, f"{name} declares {declared:,} bytes of array and has {left:,}")


def open_npy(path: Path) -> np.ndarray:
    """A memory-mapped array.

    Raises:
        InputError: it is damaged, or holds objects; the file is named.
    """
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: cannot be read ({one_line(error)[:200]})") from error


def is_plain_name(name: str) -> bool:
    """Whether a name stays in the folder that it is put into."""
    return name not in ("", ".", "..") and not {"/", "\\", "\0"} & set(name)
