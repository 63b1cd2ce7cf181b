"""Options of RL through settings and store: each does what it says, and what a method does not read names no stage."""

from typing import Any

import numpy as np
import pytest
from tiny_world import RL, Made, simulation, tiny_world

from synthetic_rm.rl_simulation import optimized
from synthetic_rm.rl_tables import rl_tables
from synthetic_rm.weights import load_arrays

SHORT = RL | {"rl.max_steps": 3, "rl.proxy_seeds": 1}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return tiny_world(tmp_path_factory)


def moved(made: Made, **changes: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Policies [runs, ...] and history of a short run of PPO with these options."""
    group = optimized(simulation(made, SHORT | {f"rl.{name}": value for name, value in changes.items()}))[0]
    return load_arrays(group.artifact.path / "policies.safetensors"), group.history


def differ(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> bool:
    return any(not np.array_equal(ours[name], theirs[name]) for name in ours)


def test_the_value_function_starts_where_it_is_told(made: Made) -> None:
    """Another start explains other shares of the returns, from the first iteration on; its rollout is the same."""
    found = {start: moved(made, value_start=start)[1] for start in ("proxy", "reference", "fresh")}
    shares = [history["explained_variance"][0, 0] for history in found.values()]
    assert len(set(shares)) == 3 and np.isfinite(shares).all()
    for history in found.values():
        np.testing.assert_array_equal(history["proxy"][:, 0], found["proxy"]["proxy"][:, 0])


def test_the_language_model_term_and_the_values_clip_change_what_is_learnt(made: Made) -> None:
    plain, free = moved(made)
    with_text, _ = moved(made, ptx_coef=1.0, ptx_rows=4)
    held, history = moved(made, value_clip=1e-4)
    assert differ(plain, with_text) and differ(plain, held)
    assert not np.array_equal(history["value_loss"], free["value_loss"])


def test_several_policies_against_a_proxy_under_one_vmap_are_runs_of_their_own(made: Made) -> None:
    changes = SHORT | {"rl.proxy_seeds": 2, "rl.policy_seeds": 2, "rl.vmap_width": 4}
    tables = rl_tables(simulation(made, changes))
    seeds = [(row["proxy_seed"], row["policy_seed"]) for row in tables.runs]
    assert seeds == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert len({row["run"] for row in tables.runs}) == 4 and tables.records["run"].nunique() == 4
    alone = rl_tables(simulation(made, changes | {"rl.vmap_width": 1}))
    np.testing.assert_allclose(tables.records["kl"], alone.records["kl"], rtol=0.05, atol=1e-3)
    ends = tables.records.groupby("run")["kl"].last()
    assert ends.nunique() == 4


def test_settings_of_a_value_function_name_no_stage_of_a_method_without_one(made: Made) -> None:
    changes = SHORT | {"rl.method": "rloo", "rl.max_steps": 1}
    group = optimized(simulation(made, changes))[0]
    again = optimized(simulation(made, changes | {"rl.value_start": "fresh", "rl.gae_lambda": 0.5}))[0]
    assert again.artifact.reused and again.artifact.key == group.artifact.key
    assert np.isnan(group.history["explained_variance"]).all()
