"""F0: the accelerators of a run: how much memory each has, and how programs share their work among them.

Within `sharing` every program is spread over a mesh of two axes, by what it is given and by a few marks in it: devices
along the first axis share a batch, those along the second the parameters of networks. Elsewhere, and with one device,
the marks are nothing and programs are those of one device.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from synthetic_rm.errors import InputError, require
from synthetic_rm.hosts import first, gathered
from synthetic_rm.runtime import alone

BATCH, MODEL = "batch", "model"
GROUPS, GROUP_ROOT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
"""the control groups of this process, and where their limits are told"""


def group_limits() -> Iterator[int]:
    """Bytes that the control groups of this process, and those above them, are allowed (cgroups of version 1 and 2)."""
    try:
        lines = GROUPS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "" or "memory" in controllers.split(","):
            root, name = (GROUP_ROOT / "memory", "memory.limit_in_bytes") if controllers else (GROUP_ROOT, "memory.max")
            own = root / path.lstrip("/")
            for folder in (own, *own.parents):
                if folder.is_relative_to(root):
                    with suppress(OSError, ValueError):  # "max", or hidden from a container
                        yield int((folder / name).read_text())


def machine_memory() -> int:
    """Bytes of main memory that this process may use: the machine's, or what a scheduler or a container allows."""
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *group_limits()])


def device_memory(gigabytes: float | None = None) -> int:
    """Bytes of one device: as given in GB of 10^9 bytes, or asked of the device, or the machine's among its devices.

    The least of all, where several processes make a run together.
    """
    return int(min(gathered(_own_memory(gigabytes))))


def _own_memory(gigabytes: float | None) -> int:
    if gigabytes is not None:
        return int(gigabytes * 1e9)
    devices = jax.local_devices()
    told = (devices[0].memory_stats() or {}).get("bytes_limit")
    return int(told) if told else machine_memory() // len(devices)


def mesh_shape(mesh: Sequence[int] | None) -> tuple[int, int]:
    """(devices that share every batch, devices that share every network's parameters), of all that there are.

    Raises:
        InputError: they are not so many, or there are none of the platform that is asked for.
    """
    try:
        count = jax.device_count()
    except (RuntimeError, AssertionError) as error:  # the latter where the platform's own library is not installed
        asked = os.environ.get("JAX_PLATFORMS") or "null"
        raise InputError(f"runtime.platform={asked}: jax finds no such device here; allowed is cpu, or null") from error
    batch, model = mesh or (count, 1)
    require(batch * model == count, f"runtime.mesh={list(mesh or ())}: allowed are two numbers of product {count}")
    return batch, model


@contextmanager
def sharing(mesh: Sequence[int] | None = None) -> Iterator[None]:
    """Share the work of programs among all devices; they then run one after another, in one order on every host.

    Args:
        mesh: see `mesh_shape`; none: all devices share batches.
    """
    shape = mesh_shape(mesh)
    if shape == (1, 1):
        yield
        return
    made = jax.make_mesh(shape, (BATCH, MODEL), axis_types=(AxisType.Auto, AxisType.Auto))
    with alone(), jax.set_mesh(made):
        yield


def shared_by(axis: str) -> int:
    """Devices along an axis of the mesh; 1 outside `sharing`."""
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if mesh.empty else int(mesh.shape[axis])


def share_of(rows: int, devices: int) -> int:
    """Rows of a batch on each of the devices that share it; all of them where devices do not divide it, see `split`."""
    return rows // devices if rows % devices == 0 else rows


def split(tree: Any, axis: int = 0) -> Any:
    """In a program: rows shared by devices along an axis of the arrays; where they do not divide it, it stays whole."""
    count = shared_by(BATCH)
    spec = PartitionSpec(*[None] * axis, BATCH)

    def mark(x: Any) -> Any:
        return jax.lax.with_sharding_constraint(x, spec) if x.shape[axis] % count == 0 else x

    return jax.tree.map(mark, tree) if count > 1 else tree


def parameter_spec(shape: Sequence[int], lead: int, count: int) -> PartitionSpec:
    """Where `count` devices share an array: along the longest axis that they divide, leading ones apart, or nowhere."""
    axes = [i for i in range(lead, len(shape)) if shape[i] % count == 0]
    longest = max(axes, key=lambda i: shape[i], default=None)
    return PartitionSpec() if longest is None or count == 1 else PartitionSpec(*[None] * longest, MODEL)


def share_parameters(tree: Any, lead: int = 0) -> Any:
    """Networks, or what is shaped like them, on the devices that share their parameters; axes `lead` are never split.

    In a program and outside of it.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return tree
    return jax.tree.map(lambda x: _put(x, parameter_spec(x.shape, lead, shared_by(MODEL))), tree)


def everywhere(tree: Any) -> Any:
    """Arrays that every device has whole, in a program and outside of it."""
    if jax.sharding.get_abstract_mesh().empty:
        return tree
    return jax.tree.map(partial(_put, spec=PartitionSpec()), tree)


def on_first(tree: Any) -> Any:
    """Arrays whole as numpy's, random keys as the numbers they are made of; None in all processes but the first.

    All processes call it alike.
    """
    return jax.tree.map(_fetched, tree)


def _fetched(x: Any) -> np.ndarray | None:
    if isinstance(x, jax.Array):
        if jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key):
            x = jax.random.key_data(x)
        if not (x.is_fully_addressable or x.is_fully_replicated):
            x = everywhere(x)
    return np.asarray(x, order="C") if first() else None


def _put(x: Any, spec: PartitionSpec) -> Any:
    if isinstance(x, jax.core.Tracer):
        return jax.lax.with_sharding_constraint(x, spec)
    sharding = NamedSharding(jax.sharding.get_mesh(), spec)
    if sharding.is_fully_addressable:
        return jax.device_put(x, sharding)
    if isinstance(x, jax.Array) and not x.is_fully_addressable:  # of a random key it can be nothing else
        return x if x.sharding.is_equivalent_to(sharding, x.ndim) else jax.device_put(x, sharding)
    host = np.asarray(x)
    host = host.astype(jax.dtypes.canonicalize_dtype(host.dtype), copy=False)
    # all processes have the same: `device_put` would compare them, array by array
    return jax.make_array_from_callback(host.shape, sharding, lambda part: host[part])
