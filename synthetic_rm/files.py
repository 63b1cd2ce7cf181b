"""F0: files written whole or not at all."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import pandas as pd

from synthetic_rm.errors import InputError, require


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a CSV table whole. Every text is quoted, so that no character of a response ends its field or its row."""
    text = frame.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    write_atomic(path, text.encode())


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    scratch = path.with_name(f".{path.name}.new")
    try:
        scratch.write_bytes(content)
        os.replace(scratch, path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write a plain value as JSON, whole or not at all."""
    write_atomic(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())


def check_folder(key: str, path: Path) -> None:
    """Refuse a path where no folder can be, before anything is made.

    Raises:
        InputError: a part of it is a file, its nearest folder cannot be written, or it is too long; the key is named.
    """
    whole = path.absolute()
    try:
        nearest = next(place for place in (whole, *whole.parents) if _is_there(place))
    except (OSError, ValueError) as error:
        raise InputError(f"{key}={path}: cannot be a folder ({getattr(error, 'strerror', None) or error})") from error
    writable = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    require(writable, f"{key}={path}: {nearest} is not a folder that can be written")


def make_folder(key: str, path: Path) -> None:
    """See that a folder is there and can be written.

    Raises:
        InputError: see `check_folder`, or the system does not let it be made; the key is named.
    """
    check_folder(key, path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{key}={path}: cannot be made ({error.strerror or error})") from error


def _is_there(path: Path) -> bool:
    """Unlike `Path.exists`, an OSError where a parent is a file or the path is too long."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    return True
