"""What the package has to offer, found in its modules: a new implementation is tested without being listed anywhere."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from types import ModuleType
from typing import Any

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


def public_functions(*modules: ModuleType) -> dict[str, Callable[..., Any]]:
    """ "module.function" -> function, of every public function that the modules define themselves."""
    return {
        f"{module.__name__.rpartition('.')[2]}.{name}": function
        for module in modules
        for name, function in vars(module).items()
        if inspect.isfunction(function) and function.__module__ == module.__name__ and not name.startswith("_")
    }
