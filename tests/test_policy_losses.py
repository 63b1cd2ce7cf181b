"""Policy-gradient losses: gradients by finite differences, means by hand, the penalty by enumeration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synthetic_rm.policy_losses import (
    clipped_surrogate,
    clipped_value_loss,
    constant_mean,
    kl_penalty,
    response_mean,
    token_mean,
)
from synthetic_rm.token_kl import k3

CLIP = 0.2


def surrogate(log_ratio: np.ndarray, advantages: np.ndarray) -> float:
    """Mean of the loss, in float64 and in words: no credit for going beyond the clip in the direction of A."""
    total = 0.0
    for x, a in zip(log_ratio, advantages, strict=True):
        ratio = np.exp(x)
        bound = 1 + CLIP if a > 0 else 1 - CLIP
        beyond = ratio > bound if a > 0 else ratio < bound
        total -= (bound if beyond else ratio) * a
    return total / len(log_ratio)


def test_the_gradient_of_the_surrogate_is_that_of_finite_differences() -> None:
    rng = np.random.default_rng(0)
    log_ratio, advantages = rng.normal(scale=0.3, size=40), rng.normal(size=40)

    def mean(x: jax.Array) -> jax.Array:
        return clipped_surrogate(x, jnp.asarray(advantages, jnp.float32), jnp.float32(CLIP))[0].mean()

    value, gradient = jax.value_and_grad(mean)(jnp.asarray(log_ratio, jnp.float32))
    assert value == pytest.approx(surrogate(log_ratio, advantages), rel=1e-5)
    step, finite = 1e-6, np.empty(40)
    for i in range(40):
        shift = step * (np.arange(40) == i)
        finite[i] = (surrogate(log_ratio + shift, advantages) - surrogate(log_ratio - shift, advantages)) / (2 * step)
    np.testing.assert_allclose(gradient, finite, rtol=1e-3, atol=1e-6)
    clipped = clipped_surrogate(jnp.asarray(log_ratio), jnp.asarray(advantages), jnp.float32(CLIP))[1]
    np.testing.assert_array_equal(clipped, finite == 0)
    assert 0 < clipped.sum() < 40


def test_on_fresh_responses_the_surrogate_is_reinforce() -> None:
    advantages = jnp.array([1.0, -2.0, 0.5])
    gradient = jax.grad(lambda x: clipped_surrogate(x, advantages, jnp.float32(CLIP))[0].sum())(jnp.zeros(3))
    np.testing.assert_allclose(gradient, -advantages)


def test_the_clipped_value_loss_is_the_larger_of_two_squares() -> None:
    values, old, returns = (jnp.array([[x]]) for x in (2.0, 0.0, 1.0))
    free = clipped_value_loss(values, old, returns, jnp.float32(jnp.inf))
    assert free == pytest.approx(0.5)
    assert clipped_value_loss(values, old, returns, jnp.float32(0.2)) == pytest.approx(0.5)
    assert clipped_value_loss(values, old, jnp.array([[2.0]]), jnp.float32(0.2)) == pytest.approx(0.5 * 1.8**2)


def test_means_weigh_tokens_and_responses_as_they_say() -> None:
    values = jnp.array([[1.0, 99.0, 99.0], [2.0, 3.0, 4.0]])
    mask = jnp.array([[True, False, False], [True, True, True]])
    assert token_mean(values, mask) == pytest.approx(10 / 4)
    assert response_mean(values, mask) == pytest.approx((1 + 3) / 2)
    assert constant_mean(values, mask) == pytest.approx((1 + 9) / 2 / 3)


def test_the_penalty_has_the_gradient_of_the_exact_kl() -> None:
    """Summed over every token with its probability; plain k3 has that of KL(reference || policy) instead."""
    rng = np.random.default_rng(3)
    ours, reference = jnp.asarray(rng.normal(size=5), jnp.float32), jax.nn.log_softmax(jnp.asarray(rng.normal(size=5)))
    old = jax.nn.log_softmax(ours)

    def forward(logits: jax.Array) -> jax.Array:
        return jnp.sum(jnp.exp(jax.nn.log_softmax(logits)) * (jax.nn.log_softmax(logits) - reference))

    def backward(logits: jax.Array) -> jax.Array:
        return jnp.sum(jnp.exp(reference) * (reference - jax.nn.log_softmax(logits)))

    def weighted(logits: jax.Array) -> jax.Array:
        log_prob = jax.nn.log_softmax(logits)
        return jnp.sum(jnp.exp(old) * kl_penalty(log_prob - old, log_prob - reference))

    def plain(logits: jax.Array) -> jax.Array:
        return jnp.sum(jnp.exp(old) * k3(jax.nn.log_softmax(logits) - reference))

    assert weighted(ours) == pytest.approx(float(forward(ours)), rel=1e-5)
    np.testing.assert_allclose(jax.grad(weighted)(ours), jax.grad(forward)(ours), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(jax.grad(plain)(ours), jax.grad(backward)(ours), rtol=1e-4, atol=1e-6)
    assert np.abs(jax.grad(forward)(ours) - jax.grad(backward)(ours)).max() > 0.01
