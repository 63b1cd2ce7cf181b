"""F7: what lies in a store: its stages with sizes, ages and relations, their verification, and what may go.

Only what the store itself names is looked at: folders of known stages, and in them names made of keys. Anything else
that lies there is left alone.
"""

import os
import re
import shutil
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from filelock import Timeout

from synthetic_rm.errors import InputError, require
from synthetic_rm.provenance import digest
from synthetic_rm.reading import read_json
from synthetic_rm.store import VERSIONS, check_contents, lock_of, read_manifest

STAGE = re.compile(r"[0-9a-f]{20}")
FAILURE = re.compile(r"([0-9a-f]{20})\.failed\.json")
PROGRESS = re.compile(r"([0-9a-f]{20})\.progress")
LEFT = re.compile(r"\.([0-9a-f]{20})(?:-[0-9a-f]{8}|\.lock|\.failed\.json\.new|-gone-[0-9a-f]{8})")
IDENTITY = ("stage", "version", "config", "parents")


@dataclass(frozen=True)
class Entry:
    """A finished stage, the checkpoints or the failure of one that is not, or what a process that was killed left."""

    path: Path
    stage: str
    digits: str
    """the first 20 of its key"""
    status: str
    """of its manifest (ok, nonfinite, failed, interrupted), or "damaged", "unfinished", "left over" or "being made" """
    size: int
    """bytes"""
    used: float
    """when it was last made, found again, or written to; seconds since the epoch"""
    seconds: float | None = None
    """that it took to make"""
    version: int | None = None
    parents: tuple[str, ...] = ()
    """keys"""
    note: str = ""
    """what is damaged, or how it failed"""

    @property
    def finished(self) -> bool:
        """Whether a run finds it."""
        return self.status in ("ok", "nonfinite")


def scan(root: Path) -> list[Entry]:
    """Everything of the store in this folder: stage by stage, the oldest first.

    Raises:
        InputError: there is no such folder, or it cannot be read.
    """
    require(root.is_dir(), f"store={root}: is not a folder")
    try:
        folders = [root / stage for stage in VERSIONS if (root / stage).is_dir() and not (root / stage).is_symlink()]
        found = [entry for folder in folders for path in folder.iterdir() if (entry := read_entry(path))]
    except OSError as error:
        raise InputError(f"store={root}: cannot be read ({error.strerror or error})") from error
    order = list(VERSIONS)
    return sorted(found, key=lambda entry: (order.index(entry.stage), entry.used, entry.path.name))


def read_entry(path: Path) -> Entry | None:
    """What a name in a stage's folder is; None for what is not of the store, and for what has just gone."""
    stage, size, used = path.parent.name, size_of(path), _time_of(path)
    if used is None or path.is_symlink():
        return None
    if STAGE.fullmatch(path.name):
        try:
            manifest = read_json(path / "manifest.json")
            return _told(path, path.name, size, used, manifest)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return Entry(path, stage, path.name, "damaged", size, used, note="no readable manifest.json")
    if match := FAILURE.fullmatch(path.name):
        try:
            return _told(path, match[1], size, used, read_json(path))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return Entry(path, stage, match[1], "failed", size, used)
    if match := PROGRESS.fullmatch(path.name):
        return _unfinished(path, match[1], size, used)
    if match := LEFT.fullmatch(path.name):
        return Entry(path, stage, match[1], "being made" if _is_held(path, match[1]) else "left over", size, used)
    return None


def _unfinished(path: Path, digits: str, size: int, used: float) -> Entry:
    """Checkpoints: a run goes on from them, unless the stage is there or they do not say whose they are."""
    stage, parents, version, status = path.parent.name, tuple[str, ...](), None, "unfinished"
    try:
        identity = read_json(path / "stage.json")
        version, parents = int(identity["version"]), tuple(map(str, identity["parents"]))
    except (OSError, ValueError, KeyError, TypeError):
        status = "left over"
    if path.with_name(digits).exists():
        status = "left over"
    last = max([used, *(found for loop in path.glob("*/") if (found := _time_of(loop)) is not None)])
    status = "being made" if _is_held(path, digits) else status
    return Entry(path, stage, digits, status, size, last, version=version, parents=parents)


def _is_held(path: Path, digits: str) -> bool:
    """Whether a process is making the stage with these digits."""
    lock = lock_of(path.with_name(digits))
    if not Path(lock.lock_file).exists():
        return False
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:
        return False
    lock.release()
    return False


def _told(path: Path, digits: str, size: int, used: float, manifest: dict[str, Any]) -> Entry:
    return Entry(
        path,
        path.parent.name,
        digits,
        str(manifest.get("status", "ok")),
        size,
        used,
        float(manifest["seconds"]),
        int(manifest["version"]),
        tuple(map(str, manifest["parents"])),
        str(manifest.get("error", "")),
    )


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; links are not followed."""
    files = [Path(folder) / name for folder, _, names in os.walk(path) for name in names] or [path]
    total = 0
    for file in files:
        try:
            total += file.lstat().st_size if not file.is_dir() else 0
        except OSError:
            continue
    return total


def _time_of(path: Path) -> float | None:
    try:
        return path.lstat().st_mtime
    except OSError:
        return None


def damage(entry: Entry) -> str | None:
    """What is wrong with a finished stage, every file hashed again and its key computed again; None: nothing."""
    if not entry.finished:
        return entry.note if entry.status == "damaged" else None
    try:
        manifest = read_json(entry.path / "manifest.json")
        identity = {name: manifest[name] for name in IDENTITY}
        key = digest(identity)
        where = (str(manifest["stage"]), key[:20])
        require(where == (entry.stage, entry.digits), f"its manifest is of {where[0]} {where[1]}")
        check_contents(entry.path, read_manifest(entry.path, key), inf)
    except (OSError, ValueError, KeyError, TypeError) as error:  # InputError is a ValueError
        return str(error)
    return None


def users(entries: Iterable[Entry]) -> Mapping[str, Counter[str]]:
    """By the digits of a stage, how many finished stages of each kind were made from it: {digits: {"scores": 5}}."""
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for entry in entries:
        for parent in set(entry.parents) if entry.finished else ():
            found[parent[:20]][entry.stage] += 1
    return found


def prunable(entries: Sequence[Entry], older_than: float = inf, now: float | None = None) -> list[tuple[Entry, str]]:
    """The entries that may go, each with the reason: what no run can use again, and what was not used for long.

    Args:
        older_than: days without use after which a finished stage and the checkpoints of an unfinished one go too.
        now: seconds since the epoch; None: the present.
    """
    oldest = (time.time() if now is None else now) - older_than * 86_400
    old = _outdated(entries)
    found: list[tuple[Entry, str]] = []
    for entry in entries:
        if entry.status == "being made":
            continue
        if not entry.finished and entry.status != "unfinished":
            found.append((entry, entry.status))
        elif _is_outdated(entry, old):
            found.append((entry, "outdated"))
        elif wrong := damage(entry):
            found.append((entry, f"damaged: {wrong}"))
        elif entry.used < oldest:
            found.append((entry, f"unused for {older_than:g} days"))
    return found


def _outdated(entries: Sequence[Entry]) -> set[str]:
    """Digits of finished stages of an earlier version, and of those made from them."""
    finished = [entry for entry in entries if entry.finished]
    old: set[str] = set()
    while more := {entry.digits for entry in finished if _is_outdated(entry, old)} - old:
        old |= more
    return old


def _is_outdated(entry: Entry, old: Collection[str]) -> bool:
    return (entry.version or 0) < VERSIONS[entry.stage] or any(parent[:20] in old for parent in entry.parents)


def remove(entry: Entry) -> bool:
    """Remove an entry, unless a process is making that stage: then False. A stage goes at once, never in part.

    Raises:
        InputError: it cannot be removed.
    """
    path = entry.path
    lock = lock_of(path.with_name(entry.digits))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    except OSError as error:
        raise InputError(f"store: {path} cannot be removed ({error.strerror or error})") from error
    try:
        if path.is_dir():
            gone = path.with_name(f".{entry.digits}-gone-{uuid.uuid4().hex[:8]}")
            os.rename(path, gone)
            shutil.rmtree(gone)
        else:
            path.unlink(missing_ok=True)
    except FileNotFoundError:
        return True
    except OSError as error:
        raise InputError(f"store: {path} cannot be removed ({error.strerror or error})") from error
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
    return True
