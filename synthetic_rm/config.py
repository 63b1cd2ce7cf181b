"""F9: the typed configuration as Hydra sees it. The only file of the package that knows Hydra."""

from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from synthetic_rm.errors import InputError
from synthetic_rm.settings import Settings
from synthetic_rm.settings_checks import validate
from synthetic_rm.study import check_study

ERRORS = (HydraException, OmegaConfBaseException)
"""What Hydra raises for input it cannot use."""


def _writable(node: Any) -> None:
    OmegaConf.set_readonly(node, None)
    for key in node:
        child = node._get_node(key)
        if isinstance(child, DictConfig):
            _writable(child)


def register() -> None:
    """Make `Settings` known to Hydra as the schema that every configuration is checked against."""
    schema = OmegaConf.structured(Settings)
    _writable(schema)
    ConfigStore.instance().store(name="schema", node=schema)


def to_settings(config: DictConfig) -> Settings:
    """Typed, validated settings of a composed configuration.

    Raises:
        InputError: a value is missing, of the wrong type, or not allowed; one line.
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
    check_study(settings, validate)
    return settings


def _keys(value: Any, prefix: str = "") -> set[str]:
    """Dotted keys of nested dictionaries, inner nodes included."""
    if not isinstance(value, dict):
        return set()
    inner = [{f"{prefix}{key}"} | _keys(item, f"{prefix}{key}.") for key, item in value.items()]
    return set().union(*inner)


def one_line(error: BaseException) -> str:
    """The message of a configuration error on one line, with the key it names."""
    told = str(error) if error.__cause__ is None or isinstance(error, InputError) else f"{error}\n{error.__cause__}"
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    dropped = ("object_type=", "reference_type=", "Set the environment variable", "See https")
    kept = [line for line in lines if not line.startswith(dropped)]
    return " ".join(kept) if kept else type(error).__name__
