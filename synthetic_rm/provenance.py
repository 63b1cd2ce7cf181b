"""F0: where a result comes from: commit, versions, device, time."""

import hashlib
import json
import platform
import shlex
import subprocess
import sys
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


def digest(value: Any) -> str:
    """Hex SHA-256 of a plain value, written as canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git(*arguments: str) -> str | None:
    folder = Path(synthetic_rm.__file__).parent
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def commit() -> tuple[str, bool]:
    """(commit of the code or "unknown", whether the code differs from it)."""
    found = _git("rev-parse", "HEAD")
    changed = _git("status", "--porcelain", "--", ":(top)synthetic_rm", ":(top)experiments", ":(top)conf")
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
