"""Every method on a bandit that can be enumerated: with a KL penalty it ends at softmax(r / beta + ln pi_0)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optimizers.tabular import (
    PROMPTS,
    all_responses,
    distribution,
    hyper,
    program,
    reference,
    reward,
    value_start,
)

from synthetic_rm.optimizers.grpo import DR_GRPO, GRPO
from synthetic_rm.optimizers.ppo import PPO
from synthetic_rm.optimizers.reinforce import RLOO
from synthetic_rm.optimizers.rl import Method
from synthetic_rm.optimizers.rl_step import init_state, run_chunk
from synthetic_rm.types import Params

Optimum = Callable[[np.ndarray, np.ndarray, float], np.ndarray]


def tilted(start: np.ndarray, scores: np.ndarray, beta: float) -> np.ndarray:
    """softmax(r / beta + ln pi_0)"""
    weight = start * np.exp((scores - scores.max()) / beta)
    return weight / weight.sum()


def tilted_by_scaled_scores(start: np.ndarray, scores: np.ndarray, beta: float) -> np.ndarray:
    """The same with r in standard deviations of the optimum itself, which is what GRPO's division makes of it."""
    found = start
    for _ in range(500):
        deviation = np.sqrt(found @ (scores - found @ scores) ** 2)
        found = 0.5 * found + 0.5 * tilted(start, scores, beta * deviation)
    return found


def train(method: Method, tokens: int, beta: float, steps: int) -> Params:
    """The mean of the policies of the last steps: what Adam's noise averages out to."""
    made = program(method, prompts=8, samples=64, max_tokens=tokens)
    state = init_state(reference(), value_start() if method.has_value else None, jax.random.key(1), beta)
    state = jax.tree.map(lambda x: x[None], state)
    numbers = jax.tree.map(lambda x: jnp.full(1, x, jnp.float32), hyper(kl_coef=beta, clip=0.5))
    proxies = jax.tree.map(lambda x: x[None], reward(3))
    tables = []
    for _ in range(steps // 10):
        state, _, done = run_chunk(
            state,
            numbers,
            proxies,
            jnp.ones(1, bool),
            jnp.full(1, jnp.inf),
            jnp.int32(10),
            reference(),
            jnp.asarray(PROMPTS),
            None,
            program=made,
            size=10,
        )
        assert done == 10 and bool(state.alive[0])
        tables.append(np.asarray(jax.nn.log_softmax(state.learner.policy["table"][0])))
    return {"table": np.mean(tables[-10:], axis=0)}


@pytest.mark.parametrize(
    ("method", "tokens", "beta", "optimum"),
    [
        (PPO, 2, 0.5, tilted),
        (RLOO, 2, 0.5, tilted),
        (DR_GRPO, 1, 0.5, tilted),
        (GRPO, 1, 1.5, tilted_by_scaled_scores),
    ],
    ids=["ppo", "rloo", "dr_grpo", "grpo"],
)
def test_each_method_ends_at_its_closed_form(method: Method, tokens: int, beta: float, optimum: Optimum) -> None:
    responses = all_responses(tokens)
    start = distribution(reference(), responses)
    assert start.sum() == pytest.approx(1)
    scores = np.asarray(reward(3)(responses), np.float64)
    wanted = optimum(start, scores, beta)
    found = distribution(train(method, tokens, beta, 400), responses)
    distance = 0.5 * np.abs(found - wanted).sum()
    assert distance < 0.04
    assert 0.5 * np.abs(start - wanted).sum() > 6 * distance
    for other in (0.5 * beta, 2 * beta):
        assert 0.5 * np.abs(found - tilted(start, scores, other)).sum() > 2 * distance
