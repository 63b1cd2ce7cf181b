"""F7: content-addressed artifacts: a finished stage is found again by everything that determines it.

    store/<stage>/<first 20 digits of the key>/manifest.json and the stage's files
    store/<stage>/<first 20 digits of the key>.failed.json where the last attempt at a stage failed
    store/<stage>/<first 20 digits of the key>.progress/ its checkpoints, until it is finished (see `checkpoints`)

The key is the SHA-256 of the stage's name and version, its configuration, and the keys of its parents. A stage is
made in a folder of another name and renamed when it is whole, so what has its final name is complete. Who makes a
stage holds its lock; others that want it wait and find it made. The system gives the lock of a dead process free.
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from synthetic_rm.checkpoints import EVERY, Checkpoints
from synthetic_rm.errors import InputError, named, require
from synthetic_rm.files import write_json
from synthetic_rm.hosts import agreed, by_all, by_first, first, place, seen
from synthetic_rm.progress import Reporter
from synthetic_rm.provenance import digest, file_digest
from synthetic_rm.reading import is_plain_name, read_json
from synthetic_rm.runtime import safe_to_stop_within, stop_if_asked
from synthetic_rm.tracking import numbers

VERSIONS = {
    "tokenizer": 1,
    "backbone": 2,
    "reference": 2,
    "gold": 3,
    "comparisons": 2,
    "proxy": 3,
    "pool": 2,
    "scores": 2,
    "curves": 1,
    "rl": 2,
}
"""Raised when a stage's code changes what it makes, so that older artifacts are no longer found."""

REMEDY = "remove that folder and run again"
HASHED = 64 << 20
"""bytes up to which a reused file's content is checked, some tens of milliseconds at most; larger ones by their size"""
PATIENCE = 1.0
"""seconds between two looks at whether another process is done; after the first it is told"""
Make = Callable[[Path, Checkpoints], Mapping[str, Any]]
"""writes a stage's files into the folder it is given and returns its facts (plain numbers); what it leaves in the
checkpoints it finds there again after an interruption"""


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
    """A folder of artifacts; `origin` (commit, device, versions, data) is written into every manifest it makes."""

    root: Path
    origin: Mapping[str, Any]
    reporter: Reporter = field(default_factory=lambda: Reporter(False))
    """told what is waited for, and the numbers of every stage"""
    checkpoint_seconds: float | None = EVERY
    """between two checkpoints of a loop; None: only where the process is asked to stop"""

    def get(
        self,
        stage: str,
        config: Mapping[str, Any],
        parents: Sequence[str],
        make: Make,
    ) -> Artifact:
        """The artifact of this stage, made by `make` if it is not there yet, by one process alone.

        Args:
            config: plain values that, with the parents' keys, determine the result.
            make: makes the stage; it gives way to a signal to end where its loops do, or when it is done.
        Raises:
            InputError: the store cannot be written, or holds a damaged artifact or another stage's checkpoints.
            Stopped: the process was asked to end.
        """
        identity = {"stage": stage, "version": VERSIONS[stage], "config": dict(config), "parents": list(parents)}
        artifact = self._found_or_made(identity, make)
        stop_if_asked()
        told = {"seconds": artifact.manifest["seconds"], "reused": artifact.reused, **numbers(artifact.facts)}
        self.reporter.tracking.log(f"{stage}-{artifact.key[:8]}", 0, told)
        return artifact

    def _found_or_made(self, identity: Mapping[str, Any], make: Make) -> Artifact:
        key = digest(identity)
        path = self.root / identity["stage"] / key[:20]
        if agreed(os.path.exists(path)):
            return self._seen(path, lambda: find(path, key))
        try:
            with self._alone(path):
                if agreed(os.path.exists(path)):
                    return self._seen(path, lambda: find(path, key))
                with safe_to_stop_within():
                    self._make(identity, path, key, make)
        except OSError as error:
            raise InputError(f"store={self.root}: cannot be written ({error.strerror or error})") from error
        return self._seen(path, lambda: Artifact(path, key, read_manifest(path, key), reused=False))

    def _seen(self, path: Path, read: Callable[[], Artifact]) -> Artifact:
        """A stage that is there for the first process, read by all.

        Raises:
            InputError: another one does not see it, or what it sees is damaged.
        """

        def look() -> Artifact:
            told = f"store={self.root}: process {place()} does not see {path.parent.name}/{path.name} of the first one"
            require(first() or seen(path), f"{told}; allowed is a folder that all of them share")
            return read()

        return by_all(look)

    @contextmanager
    def _alone(self, path: Path) -> Iterator[None]:
        """Hold the lock of a stage, the first process for all that make a run together; its file goes with it."""
        lock = lock_of(path)
        by_first(lambda: self._take(lock, path))
        try:
            yield
        finally:
            if lock.is_locked:
                with suppress(OSError):
                    os.unlink(lock.lock_file)
                lock.release()

    def _take(self, lock: FileLock, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        told = False
        while not lock.is_locked:
            try:
                lock.acquire(timeout=PATIENCE)
            except Timeout:
                stop_if_asked()
                if not told:
                    self.reporter.say(f"waiting for another process that makes {path.parent.name} {path.name[:8]}")
                told = True

    def _make(self, identity: Mapping[str, Any], path: Path, key: str, make: Make) -> None:
        """Make a stage whose lock is held, or leave its checkpoints and a record of how it failed.

        Processes that make a run together make it together; what the first one wrote is published.
        """
        progress, left = progress_of(path), leftovers(path) if first() else []
        begun = bool(left) or progress.exists() or failure_of(path).exists()
        for folder in left:
            shutil.rmtree(folder, ignore_errors=True)
        checkpoints = Checkpoints(progress, {**identity, "key": key}, self.checkpoint_seconds, self.reporter.say)
        if begun and not checkpoints.written:
            checkpoints.say(f"{checkpoints.title} was begun and left no good checkpoint: it starts anew")
        here = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
        scratch = here if first() else Path(tempfile.mkdtemp(prefix="synthetic_rm-"))
        scratch.mkdir(exist_ok=True)
        manifest = {**identity, "key": key, "vmap_width": identity["config"].get("vmap_width", 1), **self.origin}
        try:
            facts = dict(make(scratch, checkpoints))

            def publish_whole() -> None:
                nonlocal manifest
                manifest |= {"status": status(facts.get("finite", True)), "facts": facts}
                manifest["files"] = {p.name: [p.stat().st_size, file_digest(p)] for p in sorted(scratch.iterdir())}
                manifest |= {"resumed": checkpoints.told} if checkpoints.told else {}
                write_manifest(scratch / "manifest.json", manifest, checkpoints.seconds)
                publish(scratch, path)
                failure_of(path).unlink(missing_ok=True)
                shutil.rmtree(progress, ignore_errors=True)

            by_first(publish_whole)
        except BaseException as error:
            if not first():
                raise
            checkpoints.flush()
            if not checkpoints.written:
                shutil.rmtree(progress, ignore_errors=True)
            ended = "failed" if isinstance(error, Exception) else "interrupted"
            told = named(error)
            manifest |= {"status": ended, "error": told[:500], "facts": {}, "files": {}}
            with suppress(OSError):
                write_manifest(failure_of(path), manifest, checkpoints.seconds)
            raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def lock_of(path: Path) -> FileLock:
    """The lock of the stage with this folder, free or held."""
    return FileLock(path.with_name(f".{path.name}.lock"))


def failure_of(path: Path) -> Path:
    """Where the failure of the stage with this folder is recorded."""
    return path.with_name(f"{path.name}.failed.json")


def progress_of(path: Path) -> Path:
    """Where the checkpoints of the stage with this folder lie until it is finished."""
    return path.with_name(f"{path.name}.progress")


def leftovers(path: Path) -> list[Path]:
    """What processes that were killed left of the stage with this folder; asked for by who holds its lock."""
    return sorted(path.parent.glob(f".{path.name}-*"))


def write_manifest(path: Path, manifest: Mapping[str, Any], seconds: float) -> None:
    """Write a manifest, whole or not at all, with the seconds that its stage took, those before interruptions too."""
    write_json(path, {**manifest, "seconds": round(seconds, 3)})


def status(finite: Any) -> str:
    """ "ok", or "nonfinite" where something that was trained or measured did not stay finite."""
    return "ok" if np.all(finite) else "nonfinite"


def find(path: Path, key: str) -> Artifact:
    """A finished stage, checked; its folder's time is that of its last use.

    Raises:
        InputError: it is damaged.
    """
    manifest = read_manifest(path, key)
    check_contents(path, manifest, HASHED)
    with suppress(OSError):  # a store that may only be read
        os.utime(path)
    return Artifact(path, key, manifest, reused=True)


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
        manifest = read_json(path / "manifest.json")
        recorded, facts = str(manifest["key"]), dict(manifest["facts"])
        files = {name: int(size) for name, (size, _) in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"store: {path} has no readable manifest.json; {REMEDY}") from error
    if recorded != key:
        raise InputError(f"store: {path} holds key {recorded[:20]}, expected {key[:20]}; {REMEDY}")
    del facts
    for name, size in files.items():
        require(is_plain_name(name), f"store: the manifest of {path} names {name!a}, not in its folder; {REMEDY}")
        found = (path / name).stat().st_size if (path / name).is_file() else None
        if found != size:
            raise InputError(f"store: {path / name} has {found} bytes, its manifest says {size}; {REMEDY}")
    return dict(manifest)


def check_contents(path: Path, manifest: Mapping[str, Any], limit: float) -> None:
    """Check the SHA-256 of an artifact's files of up to `limit` bytes.

    Raises:
        InputError: a file is not what was written or cannot be read; the file and both hashes are named.
    """
    for name, (size, recorded) in manifest["files"].items():
        try:
            found = file_digest(path / name) if size <= limit else recorded
        except OSError as error:
            raise InputError(f"store: {path / name} cannot be read ({error.strerror or error})") from error
        if found != recorded:
            raise InputError(
                f"store: {path / name} has SHA-256 {found[:16]}, its manifest says {str(recorded)[:16]}; {REMEDY}"
            )
