"""Every module of `optimizers` is an optimizer held to a known answer, or a part of the loop that others share."""

import inspect
from pathlib import Path

import jax
import numpy as np
from contracts.implementations import modules_of, rl_methods
from optimizers.tabular import reference

from synthetic_rm import optimizers
from synthetic_rm.environments.tabular import Tabular
from synthetic_rm.optimizers import best_of_n
from synthetic_rm.optimizers.exact import EXACT, exact_curve, exact_policies
from synthetic_rm.optimizers.rl import Method

PARTS = {"measure_rl", "rl", "rl_run", "rl_step", "rollout"}
"""of the loop that every policy-gradient method runs in"""
SAMPLED = {"best_of_n"}
"""optimizers that draw from the reference, each with a test of its own below"""


def test_every_module_is_held_to_a_known_answer() -> None:
    modules = {module.__name__.rpartition(".")[2]: module for module in modules_of(optimizers)}
    methods = {name for name, module in modules.items() if any(isinstance(v, Method) for v in vars(module).values())}
    exact = {inspect.getmodule(optimizer).__name__.rpartition(".")[2] for optimizer in EXACT.values()}  # type: ignore[union-attr]
    without = set(modules) - methods - exact - PARTS - SAMPLED
    assert without == set(), "define a Method, an exact optimizer, or add a test against enumeration here"
    assert len(rl_methods()) >= 4


def test_sampled_best_of_n_is_the_exact_one(tmp_path: Path) -> None:
    world = Tabular(num_prompts=3, vocab=4, response_tokens=2)
    params = reference(world=world)
    rng = np.random.default_rng(0)
    law = world.distribution(params)
    proxy, gold = rng.normal(size=(2, *law.shape))
    ns = np.array([1, 2, 3, 6])
    options = {"samples": 20 * 60, "max_tokens": 2, "prompts_at_once": 3, "samples_at_once": 600}
    pool = best_of_n.draw_pool(world.network, params, world.prompts(), jax.random.key(1), tmp_path, **options)
    scores = []
    for name, table in (("proxy", proxy), ("gold", gold)):
        members = jax.tree.map(lambda x: x[None], world.reward(table))
        identity = best_of_n.response_identity(pool)
        scores.append(best_of_n.score_pool(members, pool, identity, tmp_path / f"{name}.npy")[0].reshape(-1, 20))
    found = best_of_n.measure(*scores, ns)
    exact = exact_curve(exact_policies(EXACT["best_of_n"], law, proxy, ns), law, proxy, gold, ns)
    for name in ("proxy", "gold"):
        pools = getattr(found, name).reshape(3, 60, len(ns))
        error = pools.std(1, ddof=1) / np.sqrt(60)
        assert (np.abs(pools.mean(1) - getattr(exact, name)) < 4.5 * error + 1e-3).all()
        assert (error[:, 1:] < 0.2).all()
    assert (exact.kl <= found.kl + 1e-12).all()
