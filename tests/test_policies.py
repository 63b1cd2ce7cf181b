"""Log-probabilities and KL of policies against the enumeration of everything that they can say."""

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synthetic_rm.networks import transformer
from synthetic_rm.policies import policy, response_logits, response_mask, token_statistics
from synthetic_rm.token_kl import k1, k3
from synthetic_rm.types import EOS, PAD, Array, Network, Params, Policy, Responses, Shape

SHAPE = Shape(vocab=4, width=8, layers=2, heads=2, hidden=12)
TOKENS, PROMPT = 3, [1, 3]


def random_params(network: Network, seed: int) -> Params:
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    return jax.tree.map(lambda x: jnp.asarray((x.ndim == 1) + 0.5 * rng.normal(size=x.shape), jnp.float32), shapes)


class World(NamedTuple):
    policy: Policy
    ours: Params
    reference: Params
    responses: Responses
    """every response to one prompt, those cut after TOKENS included"""
    log_prob: Callable[[Params, Responses], Array]
    kl: Callable[[Params, Params, Responses], Array]


@pytest.fixture(scope="module")
def world() -> World:
    network = transformer(SHAPE)
    said = [
        row
        for length in range(1, TOKENS + 1)
        for row in product(range(SHAPE.vocab), repeat=length)
        if EOS not in row[:-1] and (row[-1] == EOS or length == TOKENS)
    ]
    tokens = jnp.array([[*row, *[PAD] * (TOKENS - len(row))] for row in said], jnp.int32)
    prompt = jnp.tile(jnp.array(PROMPT, jnp.int32), (len(said), 1))
    responses = Responses(prompt, tokens, jnp.array([len(row) for row in said], jnp.int32))
    made = policy(network)
    return World(
        made, random_params(network, 0), random_params(network, 1), responses, jax.jit(made.log_prob), jax.jit(made.kl)
    )


@pytest.fixture(scope="module")
def exact(world: World) -> tuple[np.ndarray, np.ndarray]:
    """Log-probability of every response under the policy and under its reference, in float64."""
    ours, theirs = (
        np.asarray(world.log_prob(params, world.responses), np.float64).sum(-1)
        for params in (world.ours, world.reference)
    )
    return ours, theirs


def test_the_probabilities_of_all_responses_sum_to_one(exact: tuple[np.ndarray, np.ndarray]) -> None:
    for log_p in exact:
        assert np.exp(log_p).sum() == pytest.approx(1, abs=1e-5)
    assert np.abs(exact[0] - exact[1]).max() > 1


def test_kl_averages_to_the_divergence_of_whole_responses(world: World, exact: tuple[np.ndarray, np.ndarray]) -> None:
    log_p, log_q = exact
    p, q = np.exp(log_p), np.exp(log_q)
    forward, backward = p @ (log_p - log_q), q @ (log_q - log_p)
    assert p @ np.asarray(world.kl(world.ours, world.reference, world.responses)) == pytest.approx(forward, rel=1e-4)
    assert q @ np.asarray(world.kl(world.reference, world.ours, world.responses)) == pytest.approx(backward, rel=1e-4)
    assert abs(forward - backward) > 0.05 * forward  # the direction shows


def test_estimators_on_the_samplers_responses_agree_with_the_exact_divergence(
    world: World, exact: tuple[np.ndarray, np.ndarray]
) -> None:
    log_p, log_q = exact
    truth, samples = np.exp(log_p) @ (log_p - log_q), 3000
    draw = jax.jit(world.policy.sample, static_argnums=(3, 4))
    drawn, totals = draw(world.ours, jax.random.key(2), jnp.array([PROMPT], jnp.int32), samples, TOKENS)
    flat = jax.tree.map(lambda x: x[0], drawn)
    ours = world.log_prob(world.ours, flat)
    np.testing.assert_allclose(totals[0], ours.sum(-1), rtol=1e-4)  # the sampler's own account of what it said
    ratio = ours - world.log_prob(world.reference, flat)
    estimates = {
        "exact": np.asarray(world.kl(world.ours, world.reference, flat)),
        "k1": np.asarray(k1(ratio)).sum(-1),
        "k3": np.asarray(k3(ratio)).sum(-1),
    }
    for name, values in estimates.items():
        error = values.std() / np.sqrt(samples)
        assert abs(values.mean() - truth) < 4 * error, name
        assert error < 0.1 * truth, name
    assert estimates["exact"].std() < min(estimates["k1"].std(), estimates["k3"].std())


def test_kl_from_itself_is_exactly_zero(world: World) -> None:
    """Also when the two are not the same arrays, so that nothing can be shared between the two passes."""
    twin = jax.tree.map(jnp.copy, world.ours)
    assert np.all(np.asarray(world.kl(world.ours, twin, world.responses)) == 0)
    assert np.all(np.asarray(world.kl(world.ours, world.reference, world.responses)) > 0)
    near = jax.tree.map(lambda x: x * (1 + 1e-4), world.ours)
    small = np.asarray(world.kl(world.ours, near, world.responses))
    assert np.all((small >= 0) & (small < 1e-5))


def garbage(responses: Responses, ids: tuple[int, int]) -> Responses:
    junk = jax.random.randint(jax.random.key(3), responses.tokens.shape, *ids)
    return responses._replace(tokens=jnp.where(response_mask(responses), responses.tokens, junk))


@pytest.mark.parametrize("ids", [(0, SHAPE.vocab), (-100, -99), (99, 100)])
def test_nothing_beyond_the_end_matters(world: World, ids: tuple[int, int]) -> None:
    """Not what tokens stand there, not even ids that do not exist."""
    dirty = garbage(world.responses, ids)
    assert (np.asarray(dirty.tokens) != np.asarray(world.responses.tokens)).any()
    for clean, found in (
        (world.log_prob(world.ours, world.responses), world.log_prob(world.ours, dirty)),
        (world.kl(world.ours, world.reference, world.responses), world.kl(world.ours, world.reference, dirty)),
    ):
        np.testing.assert_allclose(found, clean, atol=1e-6)
    beyond = ~np.asarray(response_mask(world.responses))
    assert beyond.any() and np.all(np.asarray(world.log_prob(world.ours, dirty))[beyond] == 0)


def test_the_mask_counts_the_tokens_of_the_response(world: World) -> None:
    grouped = jax.tree.map(lambda x: x[None], world.responses)
    np.testing.assert_array_equal(response_mask(grouped)[0].sum(-1), world.responses.length)
    assert np.all(np.asarray(response_mask(world.responses))[:, 0])


def test_token_statistics_are_those_of_the_policy_and_its_reference(world: World) -> None:
    network = transformer(SHAPE)
    found = jax.jit(token_statistics, static_argnums=0)(network, world.ours, world.reference, world.responses)
    np.testing.assert_allclose(found.log_prob, world.log_prob(world.ours, world.responses), atol=1e-5)
    np.testing.assert_allclose(found.reference_log_prob, world.log_prob(world.reference, world.responses), atol=1e-5)
    kl = world.kl(world.ours, world.reference, world.responses)
    np.testing.assert_allclose(found.kl.sum(-1), kl, rtol=1e-4, atol=1e-5)
    log_prob = jax.nn.log_softmax(response_logits(network, world.ours, world.responses), axis=-1)
    entropy = -(np.exp(log_prob) * log_prob).sum(-1)
    mask = np.asarray(response_mask(world.responses))
    np.testing.assert_allclose(found.entropy, np.where(mask, entropy, 0.0), rtol=1e-4, atol=1e-5)
