"""What devices share comes to what one device does; on one device nothing is changed."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import shared_work
from jax.sharding import PartitionSpec
from scripts import free_port

from synthetic_rm import devices
from synthetic_rm.devices import MODEL, device_memory, everywhere, parameter_spec, share_parameters, sharing, split
from synthetic_rm.errors import InputError
from synthetic_rm.runtime import processors, side_by_side

ROOT = Path(__file__).resolve().parents[1]
COMPILE_FAST = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def start(output: Path, count: int, *words: str) -> subprocess.Popen[str]:
    """A process with so many forced devices."""
    flags = f"--xla_force_host_platform_device_count={count} {COMPILE_FAST}"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "tests" / "shared_work.py"), str(output), *words]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str], output: Path) -> dict[str, Any]:
    _, told = process.communicate(timeout=600)
    assert process.returncode == 0, told[-3000:]
    with np.load(output, allow_pickle=False) as found:
        return dict(found)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same work on one device, in this process."""
    return shared_work.every_loop(tmp_path_factory.mktemp("alone") / "kept")


def alike(found: dict[str, Any], alone: dict[str, Any]) -> None:
    for name, values in alone.items():
        np.testing.assert_allclose(found[name], values, rtol=2e-4, atol=2e-5, err_msg=name)
    np.testing.assert_array_equal(found["resumed"], found["losses"])


def test_eight_devices_come_to_what_one_does(tmp_path: Path, alone: dict[str, Any]) -> None:
    """Batches shared by 4 and parameters by 2: sums are taken in another order, the rest is the same."""
    found = ended(start(tmp_path / "shared.npz", 8, "4,2"), tmp_path / "shared.npz")
    assert list(found["devices"]) == [8, 8]
    assert len(found["rows"]) > 0 and (found["rows"] == 0).all()  # the loss never saw all rows of a batch on a device
    alike(found, alone)
    assert alone["losses"][0, -1] < alone["losses"][0, 0] and alone["kl"][-1] > 0 and alone["both"].shape[0] == 2


def test_two_processes_come_to_what_one_does(tmp_path: Path, alone: dict[str, Any]) -> None:
    """They share the parameters of all networks (and batches in tests/test_several_processes.py)."""
    port = free_port()
    outputs = [tmp_path / f"{i}.npz" for i in range(2)]
    processes = [start(output, 1, "1,2", port, str(i)) for i, output in enumerate(outputs)]
    for place, found in enumerate([ended(*pair) for pair in zip(processes, outputs, strict=True)]):
        assert list(found["devices"]) == [2, 1]
        *agreements, full, left, last = found["told"]
        assert agreements == ["[0, 1]", "said by 0", "made by 0", f"made by {place}", "refused by 0", "refused by 1"]
        assert "No space left" in full and left == "left by 1" and last == "['by itself']"
        alike(found, {name: values for name, values in alone.items() if name != "both"})


def test_one_device_is_used_as_if_there_were_no_mesh() -> None:
    tree = {"x": jnp.ones((4, 2))}
    with sharing([1, 1]):
        assert jax.sharding.get_abstract_mesh().empty and side_by_side() == processors()
        assert split(tree) is tree and share_parameters(tree) is tree and everywhere(tree) is tree
    with pytest.raises(InputError, match=r"runtime.mesh=\[5, 7\]"), sharing([5, 7]):
        pass


def test_a_platform_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """jax raises the one where it knows the platform and finds no device, the other where it does not know it."""
    for error in (RuntimeError("Unable to initialize backend 'cuda'"), AssertionError()):

        def count(error: Exception = error) -> int:
            raise error

        monkeypatch.setattr(devices.jax, "device_count", count)
        with pytest.raises(InputError, match=r"runtime\.platform=.*: jax finds no such device here"), sharing():
            pass


def test_parameters_are_shared_along_the_longest_axis_that_divides() -> None:
    assert parameter_spec((3, 8, 6), 1, 2) == PartitionSpec(None, MODEL)
    assert parameter_spec((8, 3, 6), 1, 2) == PartitionSpec(None, None, MODEL)
    assert parameter_spec((8, 3, 5), 1, 2) == parameter_spec((8, 4), 0, 1) == PartitionSpec()


@pytest.mark.parametrize(
    ("told", "file"),
    [
        ("0::/job/step", "job/memory.max"),
        ("0::/job/step", "memory.max"),
        ("5:cpu,memory:/job/step", "memory/job/memory.limit_in_bytes"),
        ("5:memory:/hidden", "memory/memory.limit_in_bytes"),
    ],
)
def test_a_jobs_own_limit_of_memory_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str, file: str
) -> None:
    """Of this group or of one above it, of either version."""
    limit = tmp_path / "groups" / file
    limit.parent.mkdir(parents=True)
    (tmp_path / "cgroup").write_text(f"{told}\n3:cpuset:/elsewhere\n")
    monkeypatch.setattr(devices, "GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(devices, "GROUP_ROOT", tmp_path / "groups")
    whole = devices.machine_memory()
    limit.write_text("max\n")
    assert devices.machine_memory() == whole > 0
    limit.write_text("1048576\n")
    assert devices.machine_memory() == 1048576
    monkeypatch.setattr(devices, "GROUPS", tmp_path / "none")
    assert devices.machine_memory() == whole and device_memory(2.5) == 2_500_000_000
