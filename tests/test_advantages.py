"""Advantages against their definitions, written out as loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synthetic_rm.advantages import gae, group_advantages, leave_one_out, whiten

ROWS, TOKENS = 6, 7


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rewards and values with garbage beyond each response, and the mask."""
    rng = np.random.default_rng(0)
    mask = np.arange(TOKENS) < np.array([1, 2, 4, 5, 7, 7])[:, None]
    rewards, values = (np.where(mask, rng.normal(size=(ROWS, TOKENS)), 1e6) for _ in range(2))
    return rewards, values, mask


@pytest.mark.parametrize(("lam", "gamma"), [(0.95, 1.0), (0.5, 0.9), (0.0, 1.0), (1.0, 1.0)])
def test_gae_is_the_weighted_sum_of_temporal_differences(
    drawn: tuple[np.ndarray, np.ndarray, np.ndarray], lam: float, gamma: float
) -> None:
    rewards, values, mask = drawn
    expected = np.zeros((ROWS, TOKENS))
    for row in range(ROWS):
        length = mask[row].sum()
        value = [*values[row, :length], 0.0]
        for t in range(length):
            for later in range(t, length):
                delta = rewards[row, later] + gamma * value[later + 1] - value[later]
                expected[row, t] += (gamma * lam) ** (later - t) * delta
    found, returns = jax.jit(gae)(*map(jnp.asarray, drawn), lam=jnp.float32(lam), gamma=jnp.float32(gamma))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(returns, np.where(mask, expected + values, 0), rtol=1e-4, atol=1e-5)


def test_gae_with_lambda_one_is_the_return_less_the_value(drawn: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    rewards, values, mask = drawn
    found, returns = gae(*map(jnp.asarray, drawn), lam=jnp.float32(1), gamma=jnp.float32(1))
    to_go = np.cumsum(np.where(mask, rewards, 0)[:, ::-1], axis=1)[:, ::-1]
    np.testing.assert_allclose(returns, np.where(mask, to_go, 0), atol=1e-5)
    np.testing.assert_allclose(found, np.where(mask, to_go - values, 0), atol=1e-5)


def test_whitening_looks_at_responses_only(drawn: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    values, _, mask = drawn
    found = np.asarray(whiten(jnp.asarray(values), jnp.asarray(mask)))
    inside = values[mask]
    np.testing.assert_allclose(found[mask], (inside - inside.mean()) / inside.std(), rtol=1e-4, atol=1e-5)
    assert (found[~mask] == 0).all()
    constant = np.asarray(whiten(jnp.full((2, 3), 5.0), jnp.ones((2, 3), bool)))
    assert (constant == 0).all()


def test_leave_one_out_takes_the_mean_of_the_others() -> None:
    scores = np.random.default_rng(1).normal(size=(3, 5))
    expected = [[row[i] - np.delete(row, i).mean() for i in range(5)] for row in scores]
    np.testing.assert_allclose(leave_one_out(jnp.asarray(scores)), expected, rtol=1e-4, atol=1e-6)


def test_group_advantages_forget_the_scale_only_when_scaled() -> None:
    scores = np.random.default_rng(2).normal(size=(3, 5))
    centred = scores - scores.mean(1, keepdims=True)
    np.testing.assert_allclose(group_advantages(jnp.asarray(scores), scaled=False), centred, rtol=1e-4, atol=1e-6)
    scaled = group_advantages(jnp.asarray(7 * scores + 3), scaled=True)
    np.testing.assert_allclose(scaled, centred / scores.std(1, keepdims=True), rtol=1e-4, atol=1e-5)
    assert (np.asarray(group_advantages(jnp.ones((2, 4)), scaled=True)) == 0).all()
