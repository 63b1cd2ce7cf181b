"""F0: files written whole or not at all."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import pandas as pd


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
