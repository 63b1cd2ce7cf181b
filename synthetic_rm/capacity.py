"""F7: whether the stages of a run fit into the devices of this machine: told before anything is compiled."""

from collections.abc import Iterable

from synthetic_rm.cost_stages import Machine, Stage
from synthetic_rm.costs import Costs
from synthetic_rm.devices import device_memory, mesh_shape
from synthetic_rm.errors import require
from synthetic_rm.release import release_build
from synthetic_rm.runtime import processors
from synthetic_rm.scoring import rows_at_once
from synthetic_rm.settings import BuildSettings, RuntimeSettings, Settings, points_of


def build_of(settings: Settings) -> BuildSettings:
    """How the world of a run is built, or was: what its release tells."""
    name = settings.environment.release
    if name is None:
        return settings.environment.build
    return release_build(name)


def machine_of(runtime: RuntimeSettings) -> Machine:
    """This machine as a run uses it.

    Raises:
        InputError: `runtime.mesh` is of more or fewer devices than there are.
    """
    batch, model = mesh_shape(runtime.mesh)
    programs = processors() if (batch, model) == (1, 1) else 1
    return Machine(device_memory(runtime.memory_gb), programs, rows_at_once(), batch, model)


def costs_of(settings: Settings, machine: Machine | None = None) -> Costs:
    """What a run costs on a machine, by default this one."""
    return Costs(settings, build_of(settings), machine or machine_of(settings.runtime))


def check_memory(settings: Settings, machine: Machine | None = None) -> None:
    """See that every stage of a run, of every point of a study, fits into the memory of a machine's devices, by default
    this one's.

    Raises:
        InputError: one does not; the first is named, with what it needs and what there is.
    """
    machine = machine or machine_of(settings.runtime)
    for point in points_of(settings):
        _check_memory(costs_of(point, machine))


def _check_memory(costs: Costs) -> None:
    for stage in costs.stages():
        parts = {"the world's models": stage.resident, **stage.memory._asdict()}
        told = ", ".join(f"{name} {part / 1e9:.3g}" for name, part in parts.items() if part)
        need = sum(parts.values())
        require(
            need <= costs.usable,
            f"runtime.memory_gb={costs.machine.memory / 1e9:.3g}: {stage.name}: {need / 1e9:.3g} GB ({told}) do not "
            f"fit into the {costs.usable / 1e9:.3g} of a device to fill; lower {stage.advice}"
            + (", or runtime.threads" if costs.machine.programs > 1 else "")
            + (", or share parameters by runtime.mesh" if costs.machine.batch > 1 else ""),
        )


def stages_of(points: Iterable[Costs]) -> list[Stage]:
    """The stages of several points of a study; what they share is made, and counted, once."""
    found = {
        (stage, *(repr(getattr(costs.settings, group)) for group in stage.depends)): stage
        for costs in points
        for stage in costs.stages()
    }
    return list(found.values())
