"""F9: the typed configuration and sweeps as Hydra sees them. The only file of the package that knows Hydra.

Nothing here imports jax before a configuration is typed: what it says of processors and devices comes first.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, cast

from hydra import compose
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, OverrideParseException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from synthetic_rm.errors import InputError, require
from synthetic_rm.runtime import prepare, processors
from synthetic_rm.settings import RuntimeSettings, Settings
from synthetic_rm.sweep import begin, for_each, point_name, settings_of_point, spare_the_others

ERRORS = (HydraException, OmegaConfBaseException)
"""What Hydra raises for input it cannot use."""
SHARING = ("BasicLauncher", "RayLauncher")
"""launchers whose processes run more than one point"""
APART = ("LocalLauncher", "SlurmLauncher", "RayLauncher")
"""launchers whose points run in other processes"""
PACKAGES = {"submitit_local": "submitit", "submitit_slurm": "submitit", "ray": "ray"}
"""extras that bring a launcher"""
LOCAL_MINUTES = 1440
"""that hydra/launcher=submitit_local gives a point before it is ended, to go on in another process; its own are 60"""
RAY_BYTES = 78_643_200
"""of Ray's object store, the least there is: nothing but configurations goes through it"""
NOT_SWEPT = ("output", "store", "fail_fast")


def _writable(node: Any) -> None:
    OmegaConf.set_readonly(node, None)
    for key in node:
        child = node._get_node(key)
        if isinstance(child, DictConfig):
            _writable(child)


def register() -> None:
    """Make known to Hydra: `Settings`, the schema that every configuration is checked against, and `LOCAL_MINUTES`."""
    schema = OmegaConf.structured(Settings)
    _writable(schema)
    known = ConfigStore.instance()
    known.store(name="schema", node=schema)
    Plugins.instance()  # those that are installed store configurations of their own
    if "submitit_local.yaml" in known.list("hydra/launcher"):
        local = known.load("hydra/launcher/submitit_local.yaml").node
        local.timeout_min = LOCAL_MINUTES
        known.store(group="hydra/launcher", name="submitit_local", node=local)


def to_settings(config: DictConfig) -> Settings:
    """Typed, validated settings of a composed configuration.

    Raises:
        InputError: a value is missing, of the wrong type, or not allowed; one line.
    """
    from synthetic_rm.experiments import check_settings

    settings = typed(config)
    check_settings(settings)
    return settings


def typed(config: DictConfig) -> Settings:
    """Typed settings of a composed configuration, their values not looked at.

    Raises:
        InputError: a key is unknown, or a value is missing or of the wrong type; one line.
    """
    known = _keys(OmegaConf.to_container(OmegaConf.structured(Settings)))
    for key in sorted(_keys(OmegaConf.to_container(config)) - known):
        parent = key.rpartition(".")[0]
        beside = sorted(k.rpartition(".")[2] for k in known if k.rpartition(".")[0] == parent)
        raise InputError(
            f"{key}: unknown key; {parent or 'the configuration'} has {', '.join(beside) or 'no such part'}"
        )
    try:
        settings = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise InputError(one_line(error)) from error
    assert isinstance(settings, Settings)
    return settings


def check_choices(config: Any) -> None:
    """See that every group's choice is the name of a file in it, and no path to another.

    Args:
        config: Hydra's own, `HydraConfig.get()`.
    Raises:
        InputError: a choice leads out of its group.
    """
    for group, choice in config.runtime.choices.items():
        if isinstance(choice, str) and (choice.startswith("/") or ".." in choice.split("/")):
            raise InputError(f"{group}={choice}: allowed are the names of the files in conf/{group}")


def _keys(value: Any, prefix: str = "") -> set[str]:
    """Dotted keys of nested dictionaries, inner nodes included."""
    if not isinstance(value, dict):
        return set()
    inner = [{f"{prefix}{key}"} | _keys(item, f"{prefix}{key}.") for key, item in value.items()]
    return set().union(*inner)


def one_line(error: BaseException) -> str:
    """The message of a configuration error on one line, with the key it names."""
    whole = error.__cause__ is None or isinstance(error, InputError | Refused)
    told = str(error) if whole else f"{error}\n{error.__cause__}"
    if isinstance(error, OSError) and error.filename:
        told = f"{error.filename}: cannot be used ({error.strerror})"
    if isinstance(error, OverrideParseException) and error.override not in told:
        told = f"{error.override}: {told}"
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    dropped = ("object_type=", "reference_type=", "Set the environment variable", "See https")
    kept = [line for line in lines if not line.startswith(dropped)]
    missing = next((name for name in PACKAGES if f"'hydra/launcher/{name}'" in told), None)
    kept += [f"needs: pip install 'synthetic-rm[{PACKAGES[missing]}]'"] if missing else []
    return " ".join(kept) if kept else type(error).__name__


class Refused(BaseException):
    """A sweep that cannot be. Hydra turns every `Exception` of a callback into a warning, and goes on."""


class Sweep(Callback):
    """Hears from Hydra of a sweep's points: checks all of them before the first is run, and knows which one runs.

    Launchers carry the instance to the processes that run the points; `points` stays in the one that started them.
    """

    points: ClassVar[dict[str, Settings]] = {}
    """the points of the sweep that this process started, by name"""
    running: ClassVar[str | None] = None
    """the name of the point that runs in this process; None outside of sweeps"""
    place: ClassVar[int] = 0
    """of that point among all"""

    def __init__(self) -> None:
        self.names: dict[tuple[str, ...], str] = {}

    def on_multirun_start(self, config: DictConfig, config_name: str | None = None, **_: Any) -> None:
        """Compose and check every point; `Refused` if one cannot be."""
        try:
            launcher = str(config.hydra.launcher._target_).rpartition(".")[2]
            self.names = names_of_points(config)
            named = {name: list(overrides) for overrides, name in self.names.items()}
            asked = for_each(named, lambda overrides: composed(config_name, overrides))
            if launcher == "RayLauncher":
                _start_ray(config.hydra.launcher.ray.init)
            _prepare_here(asked, launcher)
            Sweep.points = _checked(asked, here=launcher == "BasicLauncher")
            if launcher in APART:
                spare_the_others(launcher)
            if launcher == "LocalLauncher" and config.hydra.sweeper.max_batch_size is None:
                threads = max(settings.runtime.threads for settings in asked.values())
                config.hydra.sweeper.max_batch_size = max(1, processors() // threads) if threads else 1
        except InputError as error:
            raise Refused(one_line(error)) from error

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Remember which point runs here."""
        overrides = tuple(_words(config))
        if self.names and overrides not in self.names:
            raise Refused(f"{' '.join(overrides)}: is no point of this sweep")
        Sweep.running = self.names.get(overrides)
        Sweep.place = list(self.names).index(overrides) if self.names else 0


def composed(config_name: str | None, overrides: list[str]) -> Settings:
    """`typed` settings of a point.

    Raises:
        InputError: the overrides cannot be composed, or what they make cannot be typed; one line.
    """
    try:
        return typed(compose(config_name, overrides))
    except ERRORS as error:
        raise InputError(one_line(error)) from error


def prepare_runtime(runtime: RuntimeSettings, place: int = 0) -> None:
    """`runtime.prepare` as the settings say, before jax is imported; `place` among processes side by side.

    Raises:
        InputError: they ask for what is not there.
    """
    prepare(**_of_process(runtime), place=place)


def _of_process(runtime: RuntimeSettings) -> dict[str, Any]:
    """The settings that hold for a whole process."""
    names = ("threads", "platform", "devices", "memory_fraction", "coordinator", "processes", "process")
    return {name: getattr(runtime, name) for name in names}


def _start_ray(init: DictConfig) -> None:
    """What the launcher would do itself, but before jax is imported here to check the points: Ray's start forks.

    Raises:
        InputError: it cannot be started or reached so.
    """
    from hydra_plugins.hydra_ray_launcher._core import start_ray

    try:
        start_ray(OmegaConf.create({"object_store_memory": RAY_BYTES, **init}))
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"hydra.launcher.ray.init: {one_line(error)[:300]}") from error


def _prepare_here(points: Mapping[str, Settings], launcher: str) -> None:
    """Before jax is imported here to check the points: what they say of a process that runs all of them, or, where
    others run them, that this one leaves accelerators alone.

    Raises:
        InputError: points that share a process differ in what holds for all of it, or several are to make a point.
    """
    for settings in points.values():
        where = settings.runtime.coordinator
        require(where is None, f"runtime.coordinator={where}: allowed is null in a sweep, a process makes each point")
    wanted = [_of_process(settings.runtime) for settings in points.values()]
    for key, first in wanted[0].items() if launcher in SHARING else ():
        other = next((runtime[key] for runtime in wanted if runtime[key] != first), first)
        require(
            other == first,
            f"runtime.{key}={first},{other}: cannot be swept by points that share a process; hydra/launcher="
            "submitit_local gives each its own",
        )
    if launcher == "BasicLauncher":
        prepare(**wanted[0])
        return
    import jax

    jax.config.update("jax_platforms", "cpu")


def _checked(asked: Mapping[str, Settings], here: bool) -> dict[str, Settings]:
    """The points with folders of their own, after everything that can be checked of them before anything is compiled.

    Raises:
        InputError: a point cannot be; its name and what is wrong with it.
    """
    from synthetic_rm.experiments import check_settings, checker

    for_each(asked, check_settings)
    points = {name: settings_of_point(settings, name) for name, settings in asked.items()}
    for_each(points, checker(here))
    begin(points)
    return points


def _words(config: DictConfig) -> list[str]:
    """The overrides as they were given, "${...}" in them left as it is."""
    return cast(list[str], OmegaConf.to_container(config.hydra.overrides.task, resolve=False))


def names_of_points(config: DictConfig) -> dict[tuple[str, ...], str]:
    """Overrides and name of every point of a sweep, as Hydra's basic sweeper makes them, in its order.

    Raises:
        InputError: another sweeper, a key that cannot be swept, or two points that are the same.
    """
    sweeper = config.hydra.sweeper
    require(
        str(sweeper._target_).endswith(".BasicSweeper"),
        f"hydra/sweeper={config.hydra.runtime.choices['hydra/sweeper']}: allowed is basic",
    )
    asked = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()]
    try:
        parsed = OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(
            [*asked, *_words(config)]
        )
        (points,) = BasicSweeper.split_arguments(parsed, None)
    except ERRORS as error:
        raise InputError(one_line(error)) from error
    swept = {override.get_key_element(): override.is_sweep_override() for override in parsed}
    for key in NOT_SWEPT:
        require(not swept.get(key), f"{key}: cannot be swept; it holds for all points together")
    names: dict[tuple[str, ...], str] = {}
    for overrides in points:
        name = point_name([text for text, among in zip(overrides, swept.values(), strict=True) if among])
        require(name not in names.values(), f"{name}: a point of the sweep is given twice")
        names[tuple(overrides)] = name
    return names
