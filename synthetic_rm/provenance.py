"""F0: where a result comes from: commit, versions, device, time."""

import hashlib
import json
import platform
import shlex
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import synthetic_rm
from synthetic_rm.runtime import processors

LIBRARIES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "numpy",
    "scipy",
    "pandas",
    "matplotlib",
    "hydra-core",
    "tokenizers",
    "safetensors",
)

CODE = ("synthetic_rm", "experiments", "conf")
"""Folders of the repository whose changes can change a result."""


def digest(value: Any) -> str:
    """Hex SHA-256 of a plain value, written as canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _is_ours(top: Path, package: Path) -> bool:
    """Whether the repository at `top` is this project's: its name, and the running package as its tracked source."""
    try:
        name = tomllib.loads((top / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    named = str(name).replace("-", "_").lower() == synthetic_rm.__name__
    at_top = package.parent == top / synthetic_rm.__name__
    return named and at_top and _git(top, "ls-files", "--error-unmatch", "--", str(package)) is not None


def commit() -> tuple[str, bool]:
    """(commit of the code or "unknown", whether the code differs from it).

    The package may be installed inside a repository that is not its own (an environment kept in a user's project):
    the commit of that one says nothing about this code and is not told.
    """
    package = Path(synthetic_rm.__file__).resolve()
    top = _git(package.parent, "rev-parse", "--show-toplevel")
    if top is None or not _is_ours(Path(top).resolve(), package):
        return "unknown", False
    found = _git(package.parent, "rev-parse", "HEAD")
    changed = _git(package.parent, "status", "--porcelain", "--", *(f":(top){name}" for name in CODE))
    return found or "unknown", bool(changed)


def versions() -> dict[str, str]:
    """Version of Python, of this package and of the libraries that can change a number."""
    found = {"python": platform.python_version(), "synthetic_rm": synthetic_rm.__version__}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def command_line() -> str:
    """The command that started this process, the script named from its own folder."""
    return shlex.join(["python", "/".join(Path(sys.argv[0]).parts[-2:]), *sys.argv[1:]])


def describe(device: str) -> dict[str, Any]:
    """Everything about this process that a result's reader may ask for."""
    revision, dirty = commit()
    return {
        "commit": revision,
        "dirty": dirty,
        "versions": versions(),
        "device": device,
        "cpu": cpu_name(),
        "threads": processors(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command_line(),
    }
