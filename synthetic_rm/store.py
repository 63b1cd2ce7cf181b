"""F7: content-addressed artifacts: a finished stage is found again by everything that determines it.

    store/<stage>/<first 20 digits of the key>/manifest.json and the stage's files

The key is the SHA-256 of the stage's name and version, its configuration, and the keys of its parents. A stage is
made in a folder of another name and renamed when it is whole, so what has its final name is complete.
"""

import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthetic_rm.errors import InputError, require
from synthetic_rm.provenance import digest, file_digest

VERSIONS = {
    "tokenizer": 1,
    "backbone": 1,
    "reference": 1,
    "gold": 2,
    "comparisons": 2,
    "proxy": 2,
    "pool": 2,
    "scores": 1,
}
"""Raised when a stage's code changes what it makes, so that older artifacts are no longer found."""

REMEDY = "remove that folder and run again"
HASHED = 64 << 20
"""bytes up to which a reused file's content is checked, some tens of milliseconds at most; larger ones by their size"""


@dataclass(frozen=True)
class Artifact:
    """A finished stage."""

    path: Path
    key: str
    manifest: dict[str, Any]
    reused: bool

    @property
    def facts(self) -> dict[str, Any]:
        """The stage's own numbers."""
        return dict(self.manifest["facts"])


@dataclass(frozen=True)
class Store:
    """A folder of artifacts; `origin` (commit, device, versions) is written into every manifest it makes."""

    root: Path
    origin: Mapping[str, Any]

    def get(
        self,
        stage: str,
        config: Mapping[str, Any],
        parents: Sequence[str],
        make: Callable[[Path], Mapping[str, Any]],
    ) -> Artifact:
        """The artifact of this stage, made by `make` if it is not there yet.

        Args:
            config: plain values that, with the parents' keys, determine the result.
            make: writes the stage's files into the folder it is given and returns its facts (plain numbers).
        Raises:
            InputError: the store cannot be written, or holds a damaged artifact.
        """
        identity = {"stage": stage, "version": VERSIONS[stage], "config": dict(config), "parents": list(parents)}
        key = digest(identity)
        path = self.root / stage / key[:20]
        if os.path.exists(path):
            manifest = read_manifest(path, key)
            check_contents(path, manifest)
            return Artifact(path, key, manifest, reused=True)
        scratch = self.root / stage / f".{key[:20]}-{uuid.uuid4().hex[:8]}"
        try:
            scratch.mkdir(parents=True)
            started = time.perf_counter()
            facts = dict(make(scratch))
            manifest = {
                **identity,
                "key": key,
                "seconds": round(time.perf_counter() - started, 3),
                "facts": facts,
                "files": {p.name: [p.stat().st_size, file_digest(p)] for p in sorted(scratch.iterdir())},
                **self.origin,
            }
            (scratch / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
            publish(scratch, path)
        except OSError as error:
            raise InputError(f"store={self.root}: cannot be written ({error.strerror or error})") from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return Artifact(path, key, read_manifest(path, key), reused=False)


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


def _is_there(path: Path) -> bool:
    """Unlike `Path.exists`, an OSError where a parent is a file or the path is too long."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    return True


def publish(scratch: Path, path: Path) -> None:
    """Give a finished folder its final name; one that another process finished first stays."""
    try:
        os.rename(scratch, path)
    except OSError:
        if not path.exists():
            raise


def read_manifest(path: Path, key: str) -> dict[str, Any]:
    """The manifest of an artifact, its files' sizes checked.

    Raises:
        InputError: the manifest is missing or of another key, or a file is missing or of another size.
    """
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        recorded, facts = str(manifest["key"]), dict(manifest["facts"])
        files = {name: int(size) for name, (size, _) in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"store: {path} has no readable manifest.json; {REMEDY}") from error
    if recorded != key:
        raise InputError(f"store: {path} holds key {recorded[:20]}, expected {key[:20]}; {REMEDY}")
    del facts
    for name, size in files.items():
        found = (path / name).stat().st_size if (path / name).is_file() else None
        if found != size:
            raise InputError(f"store: {path / name} has {found} bytes, its manifest says {size}; {REMEDY}")
    return dict(manifest)


def check_contents(path: Path, manifest: Mapping[str, Any]) -> None:
    """Check the SHA-256 of an artifact's files of up to `HASHED` bytes.

    Raises:
        InputError: a file is not what was written; the file and both hashes are named.
    """
    for name, (size, recorded) in manifest["files"].items():
        if size <= HASHED and (found := file_digest(path / name)) != recorded:
            raise InputError(
                f"store: {path / name} has SHA-256 {found[:16]}, its manifest says {str(recorded)[:16]}; {REMEDY}"
            )
