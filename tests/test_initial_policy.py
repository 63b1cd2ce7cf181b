"""The policy that is optimized: the reference itself, or one of another size in the same world."""

import jax
import numpy as np
import pytest

from synthetic_rm.release import load_release, release_build
from synthetic_rm.results import Tables, overoptimization_tables
from synthetic_rm.simulation import Simulation

from tiny_world import SIZE, Made, simulation, tiny_world  # isort: skip

OTHER = 4_000
CHANGES = {
    "policy.size": OTHER,
    "rl.method": "ppo",
    "rl.proxy_seeds": 1,
    "rl.prompts": 4,
    "rl.samples": 2,
    "rl.minibatches": 1,
    "rl.learning_rate": 0.02,
    "rl.warmup": 0.0,
    "rl.kl_budget": 3.0,
    "rl.max_steps": 4,
    "rl.measure_every": 2,
    "rl.measure_samples": 2,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return tiny_world(tmp_path_factory)


@pytest.fixture(scope="module")
def other(made: Made) -> Simulation:
    return simulation(made, CHANGES)


@pytest.fixture(scope="module")
def tables(other: Simulation) -> Tables:
    return overoptimization_tables(other)


def test_the_reference_is_optimized_where_no_size_is_asked_for(made: Made) -> None:
    asked = simulation(made)
    policy, world = asked.policy, asked.world
    assert policy.network is world.reference and policy.params is world.reference_params
    assert policy.keys == world.keys and policy.stages == ()


def test_a_policy_of_the_references_size_is_trained_as_the_reference_was(made: Made) -> None:
    policy = simulation(made, {"policy.size": SIZE}).policy
    assert all(stage.reused for stage in policy.stages)
    assert {stage.key for stage in policy.stages} <= {stage.key for stage in made.world.stages}
    for ours, theirs in zip(*map(jax.tree.leaves, (policy.params, made.world.reference_params)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_another_size_changes_what_is_optimized_and_not_what_it_is_measured_by(
    made: Made, other: Simulation, tables: Tables
) -> None:
    base = simulation(made)
    assert other.policy.total != base.policy.total
    assert set(tables.records["policy_params"]) == {other.policy.total}
    assert other.comparisons.key == base.comparisons.key
    assert other.proxies(SIZE).artifact.key == base.proxies(SIZE).artifact.key
    for seed in range(2):
        assert other.recalibration(other.proxies(SIZE), seed) == base.recalibration(base.proxies(SIZE), seed)
    assert not np.array_equal(other.open_pool().tokens, base.open_pool().tokens)


def test_scores_start_at_zero_and_kl_is_measured_from_the_policy_itself(tables: Tables) -> None:
    for _, points in tables.records.groupby("run"):
        first, last = points.iloc[0], points.iloc[-1]
        assert first["kl"] == 0 < last["kl"] and first["pressure"] in (0, 1)
        assert first["gold"] == pytest.approx(0, abs=1e-6) and first["proxy"] == pytest.approx(0, abs=1e-6)


def test_the_stages_that_made_it_are_listed(other: Simulation, tables: Tables) -> None:
    listed = tables.runs.set_index("run")
    for stage, name in zip(other.policy.stages, ("backbone", "reference"), strict=True):
        row = listed.loc[f"{name}-{stage.key[:8]}"]
        assert row["status"] == "ok" and row["params"] == other.policy.total
    assert tables.runs["run"].is_unique


def test_a_release_tells_how_its_models_were_trained() -> None:
    build = release_build("reviews-v2")
    world = load_release("reviews-v2")
    assert build.reference_steps > 1 and set(build.backbone_sizes) == set(world.backbones)
