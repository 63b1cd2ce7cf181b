"""Points of a sweep in one process share their programs and their stages."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import pytest
from tiny_world import ORIGIN, changed, tiny_world

from synthetic_rm.progress import Reporter
from synthetic_rm.results import overoptimization_tables
from synthetic_rm.settings import Settings
from synthetic_rm.settings_checks import validate
from synthetic_rm.simulation import Simulation
from synthetic_rm.store import Store
from synthetic_rm.sweep import for_each, point_name, run_point, settings_of_point

COMPILED = "/jax/core/compile/backend_compile_duration"
TINY_RL: dict[str, Any] = {"rl.method": "ppo", "rl.proxy_seeds": 1, "rl.prompts": 8, "rl.samples": 2}
TINY_RL |= {"rl.minibatches": 2, "rl.max_steps": 2, "rl.measure_every": 1, "rl.measure_samples": 2}
TRACED: dict[str, list[float]] = {
    "comparisons.noise": [0.0, 0.2],
    "proxy.learning_rate": [0.01, 0.03],
    "rl.learning_rate": [0.001, 0.01],
    "rl.kl_coef": [0.0, 0.1, 0.3, 1.0, 3.0],
}
"""40 points"""


@contextmanager
def compilations() -> Iterator[list[str]]:
    """What is compiled within the block, one entry a program."""
    found: list[str] = []

    def listen(event: str, duration: float, **_: object) -> None:
        found.extend([event] if event == COMPILED else [])

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_forty_points_over_traced_values_compile_each_program_once(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """Best of n and RL of every point, in one process; of the stages that points have in common each is made once."""
    made = tiny_world(tmp_path_factory)
    whole = changed(TINY_RL | {"output": str(tmp_path), "store": str(tmp_path / "store")}, made.settings)
    store = Store(tmp_path / "store", ORIGIN)

    def run(settings: Settings) -> None:
        assert len(overoptimization_tables(Simulation(settings, store, Reporter(False))).records)

    points = {}
    for values in itertools.product(*TRACED.values()):
        name = point_name([f"{key}={value}" for key, value in zip(TRACED, values, strict=True)])
        points[name] = settings_of_point(changed(dict(zip(TRACED, values, strict=True)), whole), name)
    assert len(points) == 40
    for_each(points, validate)
    counts = []
    for name, settings in points.items():
        with compilations() as compiled:
            assert run_point(settings, name, run).status == "ok"
        counts.append(len(compiled))
    assert counts[1:] == [0] * 39, counts
    with compilations() as compiled:
        jax.jit(lambda x: x + 1)(1.0)
    assert len(compiled) > 0  # it does count
    stages = {path.name: len([p for p in path.iterdir() if p.is_dir()]) for path in (tmp_path / "store").iterdir()}
    wanted = {"tokenizer": 1, "reference": 1, "gold": 1, "pool": 1, "comparisons": 2, "proxy": 4, "curves": 4, "rl": 40}
    assert {stage: stages[stage] for stage in wanted} == wanted
