"""What the package has to offer, found in its modules: a new implementation is tested without being listed anywhere."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Collection
from types import ModuleType
from typing import Any

from test_layering import FLOORS, PACKAGE

from synthetic_rm import optimizers
from synthetic_rm.optimizers.rl import Method


def modules_of(package: ModuleType) -> list[ModuleType]:
    """Every module of a package, at any depth."""
    found = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    return [importlib.import_module(module.name) for module in found]


def rl_methods() -> list[Method]:
    """Every policy-gradient method that a module of `optimizers` defines."""
    values = [value for module in modules_of(optimizers) for value in vars(module).values()]
    return sorted({value.name: value for value in values if isinstance(value, Method)}.values(), key=lambda m: m.name)


def modules_of_floor(floor: int, *, but: Collection[str] = ()) -> list[ModuleType]:
    """Every module on a floor of the house, less those that are named."""
    names = [name for name, at in FLOORS.items() if at == floor and name not in but]
    return [importlib.import_module(f"{PACKAGE}.{name}") for name in names]


def public_functions(*modules: ModuleType) -> dict[str, Callable[..., Any]]:
    """ "module.function" -> function, of every public function that the modules define themselves."""
    return {
        f"{module.__name__.rpartition('.')[2]}.{name}": function
        for module in modules
        for name, function in vars(module).items()
        if inspect.isfunction(inspect.unwrap(function))  # also behind a cache or a transformation
        and function.__module__ == module.__name__
        and not name.startswith("_")
    }
