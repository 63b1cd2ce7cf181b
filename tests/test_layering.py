"""Imports point down: read from the syntax trees of the package and the experiments."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "synthetic_rm"
MAX_LINES = 300

FLOORS = {
    name: floor
    for floor, names in enumerate(
        (
            "types errors entry files reading tracking trackers progress runtime provenance devices hosts meeting",
            "divergences finite_support quantile_policies tails token_kl estimators losses advantages policy_losses "
            "recalibration weights packing checkpoints snapshots filling",
            "networks ladder sampling flops memory",
            "policies rewards scoring",
            "environments",
            "comparisons training",
            "optimizers",
            "settings settings_checks store storekeeping world calibration build checks release initial_policy "
            "simulation curves measuring rl_simulation rl_tables run_rows results study learned_world analytic "
            "cost_stages costs capacity",
            "analysis",
            "config experiments sweep experiment analytic_experiment",
        )
    )
    for name in names.split()
}
EXPERIMENTS_FLOOR = max(FLOORS.values()) + 1
ANALYSIS = f"{PACKAGE}.analysis"
JAX_LIBRARIES = {"jax", "jaxlib", "flax", "optax", "orbax", "chex"}
CONFIGURATION_LIBRARIES = {"hydra", "omegaconf"}


def module_name(path: str) -> str:
    """Dotted name of the module at a repository path."""
    return ".".join(path.removesuffix(".py").removesuffix("/__init__").split("/"))


def floor_of(module: str) -> int | None:
    """Floor of a module of the house, None when it has none; the package itself lies at the bottom."""
    parts = module.split(".")
    if parts[0] == "experiments":
        return EXPERIMENTS_FLOOR
    return FLOORS.get(parts[1]) if len(parts) > 1 else 0


def is_ours(module: str) -> bool:
    return module.split(".")[0] in (PACKAGE, "experiments")


def is_under(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


def imports_of(path: str, source: str, known: frozenset[str]) -> set[str]:
    """Modules that a source names: at any depth, relative ones resolved, `import_module("x")` included."""
    return {name for node in ast.walk(ast.parse(source, path)) for name in _imported(node, path, known)}


def _imported(node: ast.AST, path: str, known: frozenset[str]) -> Iterator[str]:
    match node:
        case ast.Import():
            yield from (alias.name for alias in node.names)
        case ast.ImportFrom():
            here = path.removesuffix(".py").split("/")
            parents = here[: len(here) - node.level] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            for alias in node.names:
                child = f"{base}.{alias.name}"
                is_module = child in known or (base == PACKAGE and alias.name in FLOORS)
                yield child if is_module else base
        case ast.Call(
            func=ast.Name(id="__import__" | "import_module") | ast.Attribute(attr="import_module"),
            args=[ast.Constant(value=str(name)), *_],
        ):
            yield name


def reaches_jax(module: str, graph: Mapping[str, set[str]]) -> bool:
    """Whether importing the module imports jax: itself, through its imports, or through a parent package."""
    seen: set[str] = set()
    queue = [module]
    while queue:
        name = queue.pop()
        if name.split(".")[0] in JAX_LIBRARIES:
            return True
        if is_ours(name) and name not in seen:
            seen.add(name)
            queue += graph.get(name, set())
            queue += [name.rpartition(".")[0]] if "." in name else []
    return False


def violations(sources: Mapping[str, str]) -> list[str]:
    """One line for each import that breaks a rule of the house; `sources` maps repository paths to code."""
    known = frozenset(module_name(path) for path in sources)
    graph = {module_name(path): imports_of(path, source, known) for path, source in sources.items()}
    return [line for module in sorted(graph) for line in _violations_of(module, graph)]


def _violations_of(module: str, graph: Mapping[str, set[str]]) -> Iterator[str]:
    floor = floor_of(module)
    if floor is None:
        yield f"{module} has no floor: give it one in FLOORS of tests/test_layering.py"
        return
    for name in sorted(graph[module]):
        library, target = name.split(".")[0], floor_of(name) if is_ours(name) else None
        if is_ours(name) and target is None:
            yield f"{module} imports {name}, which has no floor"
        if target is not None and target > floor:
            yield f"{module} (floor {floor}) imports upward: {name} (floor {target})"
        if library == "flax" and module != f"{PACKAGE}.networks":
            yield f"{module} imports {name}: flax belongs to {PACKAGE}.networks alone"
        if library in CONFIGURATION_LIBRARIES and module != f"{PACKAGE}.config" and floor < EXPERIMENTS_FLOOR:
            yield f"{module} imports {name}: Hydra belongs to {PACKAGE}.config and experiments"
        if is_under(module, ANALYSIS):
            if reaches_jax(name, graph):
                yield f"{module} imports {name}, which imports jax: analysis only reads tables"
            elif target is not None and target > 1 and not is_under(name, ANALYSIS):
                yield f"{module} imports {name}: analysis stands on floors 0 and 1 and on itself"


def sources_of_the_house() -> dict[str, str]:
    paths = [path for folder in (PACKAGE, "experiments") for path in sorted((ROOT / folder).rglob("*.py"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def test_imports_point_down() -> None:
    sources = sources_of_the_house()
    assert f"{PACKAGE}/errors.py" in sources
    assert violations(sources) == []


def test_files_stay_short() -> None:
    lengths = {path: len(source.splitlines()) for path, source in sources_of_the_house().items()}
    assert {path: n for path, n in lengths.items() if path.startswith(PACKAGE) and n > MAX_LINES} == {}


LOW = {
    "synthetic_rm/types.py": "import jax",
    "synthetic_rm/errors.py": "",
    "synthetic_rm/losses.py": "import optax",
}


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "synthetic_rm/training/reward.py",
            "from synthetic_rm import losses\nfrom synthetic_rm.types import X",
        ),
        (
            "synthetic_rm/training/reward.py",
            "from . import supervised\nfrom ..losses import f\nimport jax, optax",
        ),
        ("synthetic_rm/simulation.py", "from synthetic_rm import __version__, store"),
        ("synthetic_rm/networks.py", "from flax import nnx"),
        (
            "synthetic_rm/config.py",
            "import hydra\nfrom omegaconf import MISSING\nimport synthetic_rm.simulation",
        ),
        ("synthetic_rm/analysis/curves.py", "import numpy\nfrom synthetic_rm.errors import InputError"),
        ("synthetic_rm/analysis/figures/style.py", "from ..fitting import Fit\nfrom . import panels"),
        (
            "experiments/run.py",
            "import hydra, jax\nfrom synthetic_rm import config\nfrom synthetic_rm.analysis import x",
        ),
    ],
)
def test_sound_imports_pass(path: str, source: str) -> None:
    assert violations({**LOW, path: source}) == []


@pytest.mark.parametrize(
    ("path", "source", "message"),
    [
        ("synthetic_rm/losses.py", "import synthetic_rm.networks", "upward"),
        ("synthetic_rm/losses.py", "from synthetic_rm import networks", "upward"),
        ("synthetic_rm/losses.py", "def f():\n    from .networks import Transformer", "upward"),
        ("synthetic_rm/rewards/__init__.py", "from ..optimizers import ppo", "upward"),
        ("synthetic_rm/rewards/ensemble.py", "from .. import training", "upward"),
        (
            "synthetic_rm/store.py",
            "import importlib\nimportlib.import_module('synthetic_rm.config')",
            "upward",
        ),
        ("synthetic_rm/__init__.py", "from synthetic_rm.store import Store", "upward"),
        ("synthetic_rm/config.py", "from experiments.run import main", "upward"),
        ("synthetic_rm/sampling.py", "from flax import nnx", "flax"),
        ("experiments/run.py", "import flax.nnx as nnx", "flax"),
        ("synthetic_rm/store.py", "from omegaconf import OmegaConf", "Hydra"),
        ("synthetic_rm/environments/reviews/build.py", "import hydra.utils", "Hydra"),
        ("synthetic_rm/analysis/curves.py", "import jax.numpy as jnp", "imports jax"),
        ("synthetic_rm/analysis/curves.py", "from synthetic_rm.types import Curve", "imports jax"),
        ("synthetic_rm/analysis/figures/style.py", "from ...losses import loss", "imports jax"),
        ("synthetic_rm/analysis/curves.py", "from synthetic_rm.store import Store", "floors 0 and 1"),
        ("synthetic_rm/misc.py", "", "no floor"),
        ("synthetic_rm/losses.py", "from synthetic_rm.misc import x", "no floor"),
    ],
)
def test_broken_rules_are_caught(path: str, source: str, message: str) -> None:
    assert any(message in line and module_name(path) in line for line in violations({**LOW, path: source}))


def test_jax_is_found_through_a_chain_and_through_a_parent_package() -> None:
    curves = {"synthetic_rm/analysis/curves.py": "from synthetic_rm import estimators"}
    chain = {
        "synthetic_rm/estimators.py": "from .divergences import f",
        "synthetic_rm/divergences.py": "import jax",
    }
    assert len(violations({**curves, **chain})) == 1
    assert violations({**curves, "synthetic_rm/estimators.py": "import numpy"}) == []
    parent = {"synthetic_rm/analysis/__init__.py": "", "synthetic_rm/__init__.py": "import jax"}
    assert violations({**curves, **parent, "synthetic_rm/estimators.py": ""}) != []
