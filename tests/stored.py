"""Small stages of a store, made by the real one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from synthetic_rm.checkpoints import Checkpoints
from synthetic_rm.store import Artifact, Make, Store
from synthetic_rm.storekeeping import Entry

ORIGIN = {"commit": "0123abcd", "device": "cpu: test", "versions": {"python": "3.11.9", "jax": "0.10.2"}}
CONFIG = {"size": 2000, "rate": 0.03, "seeds": [1, 2]}


class Maker:
    """Writes two files and counts how often it is asked to."""

    def __init__(self, content: bytes = b"weights" * 100):
        self.content, self.calls = content, 0

    def __call__(self, folder: Path, checkpoints: Checkpoints | None = None) -> Mapping[str, Any]:
        self.calls += 1
        (folder / "params.bin").write_bytes(self.content)
        (folder / "notes.txt").write_text("ten words")
        return {"loss": 0.5, "finite": [True, False]}


def get(root: Path, make: Make | None = None, **changes: Any) -> Artifact:
    asked = {"stage": "proxy", "config": CONFIG, "parents": ["a", "b"]} | changes
    return Store(root, ORIGIN).get(asked["stage"], asked["config"], asked["parents"], make or Maker())


def listing(root: Path) -> dict[str, bytes | None]:
    return {p.relative_to(root).as_posix(): p.read_bytes() if p.is_file() else None for p in root.rglob("*")}


def made(root: Path, stage: str, *parents: str, content: bytes = b"weights" * 100, **config: object) -> Artifact:
    def make(folder: Path, _: Checkpoints) -> dict[str, object]:
        (folder / "params.bin").write_bytes(content)
        return {"loss": 0.5}

    return Store(root, {"commit": "0123abcd"}).get(stage, config, parents, make)


def failed(root: Path, stage: str) -> None:
    def fail(folder: Path, _: Checkpoints) -> dict[str, object]:
        raise RuntimeError("diverged")

    with pytest.raises(RuntimeError):
        Store(root, {}).get(stage, {"fails": True}, [], fail)


def family_of(root: Path) -> dict[str, Artifact]:
    """Comparisons of a release that is elsewhere, two proxies trained on them, the scores of one."""
    comparisons = made(root, "comparisons", "f" * 64)
    proxies = {str(size): made(root, "proxy", comparisons.key, size=size) for size in (2, 4)}
    return {"comparisons": comparisons, **proxies, "scores": made(root, "scores", proxies["2"].key)}


def flip(folder: Path) -> None:
    (folder / "params.bin").write_bytes(b"weighty" * 100)


def cut(folder: Path) -> None:
    (folder / "params.bin").write_bytes(b"weights")


def digits(entries: list[Entry]) -> set[str]:
    return {entry.digits for entry in entries}
