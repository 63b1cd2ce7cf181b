"""Every policy-gradient method on a bandit that can be enumerated: it ends at the optimum of what it maximises."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts.implementations import rl_methods
from optimizers.tabular import hyper, program, reference, value_start

from synthetic_rm.environments.analytic.error_laws import normal, student_t
from synthetic_rm.environments.analytic.proxy_error import ProxyError
from synthetic_rm.environments.analytic.quantile import peaked
from synthetic_rm.environments.tabular import Tabular
from synthetic_rm.finite_support import kl_optimum
from synthetic_rm.optimizers.rl import Method
from synthetic_rm.optimizers.rl_step import init_state, run_chunk

STEPS = 300
BETA = 0.5


def scaled_optimum(start: np.ndarray, scores: np.ndarray, beta: float) -> np.ndarray:
    """softmax(r / (beta sd) + ln pi_0), sd that of r under the optimum itself: what GRPO's division makes of r.

    The smaller sd, the harder the push: below some beta (1.5 here is near it) the only end is a single response.
    """
    found = start
    for _ in range(500):
        spread = np.sqrt(((scores - (found * scores).sum(-1, keepdims=True)) ** 2 * found).sum(-1))
        found = 0.5 * found + 0.5 * np.stack(
            [kl_optimum(p, r, beta * s) for p, r, s in zip(start, scores, spread, strict=True)]
        )
    return found


class Case(NamedTuple):
    """What a method is to reach. Of a new method: the KL-regularised optimum over two tokens."""

    tokens: int = 2
    beta: float = BETA
    optimum: Callable[[np.ndarray, np.ndarray, float], np.ndarray] = kl_optimum


CASES = {
    # their penalty is on each token alone and does not see what a token does to the KL of those that follow it
    "dr_grpo": Case(tokens=1),
    "grpo": Case(tokens=1, beta=2.0, optimum=scaled_optimum),
}


def train(method: Method, world: Tabular, scores: np.ndarray, beta: float) -> np.ndarray:
    """The distribution of the mean of the policies of the last steps: what Adam's noise averages out to."""
    made = program(method, world, prompts=world.num_prompts, samples=256)
    value = value_start(world=world) if method.has_value else None
    state = init_state(reference(world=world), value, jax.random.key(1), beta)
    state = jax.tree.map(lambda x: x[None], state)
    numbers = jax.tree.map(lambda x: jnp.full(1, x, jnp.float32), hyper(kl_coef=beta, clip=0.5))
    proxies = jax.tree.map(lambda x: x[None], world.reward(scores))
    everything = jnp.ones(1, bool), jnp.full(1, jnp.inf), jnp.int32(10), reference(world=world), world.prompts(), None
    tables = []
    for _ in range(STEPS // 10):
        state, _, done = run_chunk(state, numbers, proxies, *everything, program=made, size=10)
        assert done == 10 and bool(state.alive[0])
        tables.append(np.asarray(jax.nn.log_softmax(state.learner.policy["table"][0])))
    return world.distribution({"table": np.mean(tables[-10:], axis=0)})


def distance(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Total variation, per prompt."""
    return 0.5 * np.abs(p - q).sum(-1)


@pytest.mark.parametrize("method", rl_methods(), ids=lambda method: method.name)
def test_a_method_ends_at_its_optimum_for_every_prompt(method: Method) -> None:
    case = CASES.get(method.name, Case())
    world = Tabular(num_prompts=2, vocab=4, response_tokens=case.tokens)
    start = world.distribution(reference(world=world))
    levels = np.broadcast_to(np.linspace(-1.5, 1.5, world.num_responses), start.shape)
    scores = np.random.default_rng(3).permuted(levels, axis=1)
    found = train(method, world, scores, case.beta)
    wanted = case.optimum(start, scores, case.beta)
    left = distance(found, wanted)
    assert (left < 0.02).all()
    assert (distance(start, wanted) > 10 * left).all()
    for other in (0.5 * case.beta, 2 * case.beta):
        assert (distance(found, case.optimum(start, scores, other)) > 5 * left).all()


CURVE_WORLDS = {
    "normal error": ProxyError(normal()),
    "heavy error": ProxyError(student_t(3)),
    "quantiles": peaked(2.0),
}


@pytest.mark.parametrize("name", CURVE_WORLDS)
def test_draws_of_a_curve_world_are_tables_of_an_environment_where_methods_run(name: str) -> None:
    """The method ends at the optimum by the proxy's table, and gold is worth there what it is worth at the optimum."""
    world = Tabular(num_prompts=2, vocab=4, response_tokens=2)
    proxy, gold = CURVE_WORLDS[name].sample(np.random.default_rng(4), (world.num_prompts, world.num_responses))
    start = world.distribution(reference(world=world))
    (method,) = (method for method in rl_methods() if method.name == "rloo")
    beta = BETA * float(proxy.std())
    found, wanted = train(method, world, proxy, beta), kl_optimum(start, proxy, beta)
    assert (distance(found, wanted) < 0.03).all() and (distance(start, wanted) > 0.3).all()
    np.testing.assert_allclose((found * gold).sum(-1), (wanted * gold).sum(-1), atol=0.05)


def test_the_methods_of_the_package_are_found() -> None:
    assert {"ppo", "rloo", "grpo", "dr_grpo"} <= {method.name for method in rl_methods()}
