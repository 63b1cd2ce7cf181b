"""Training losses against explicit loops in float64, and their gradients against derived ones."""

from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from synthetic_rm.losses import (
    bradley_terry_loss,
    next_token_loss,
    pair_accuracy,
    pair_indices,
    pair_margins,
    ranking_loss,
    token_loss,
)

Group = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def groups() -> Group:
    """Scores [5, 4], soft targets and uneven weights [5, 6]: some pairs dropped, one group wholly, one light."""
    rng = np.random.default_rng(0)
    weight = rng.uniform(0.5, 2.0, (5, 6)) * (rng.random((5, 6)) > 0.3)
    weight[1] *= 0.1
    weight[3] = 0.0
    return rng.normal(size=(5, 4)), rng.random((5, 6)), weight


def explicit_ranking_loss(scores: np.ndarray, target: np.ndarray, weight: np.ndarray) -> float:
    means = []
    for g in range(len(scores)):
        total = mass = 0.0
        for c, (i, j) in enumerate(combinations(range(scores.shape[1]), 2)):
            p = 1 / (1 + np.exp(scores[g, j] - scores[g, i]))
            total -= weight[g, c] * (target[g, c] * np.log(p) + (1 - target[g, c]) * np.log(1 - p))
            mass += weight[g, c]
        means += [total / mass] if mass else []
    return float(np.mean(means))


def as_float32(*arrays: np.ndarray) -> list[jax.Array]:
    return [jnp.asarray(x, jnp.float32) for x in arrays]


@pytest.mark.parametrize("size", [2, 3, 4, 9])
def test_pairs_come_in_the_order_of_combinations(size: int) -> None:
    assert list(zip(*pair_indices(size), strict=True)) == list(combinations(range(size), 2))
    scores = np.arange(size) ** 2.0
    expected = [scores[i] - scores[j] for i, j in combinations(range(size), 2)]
    np.testing.assert_array_equal(pair_margins(jnp.asarray([scores], jnp.float32))[0], expected)


def test_ranking_loss_is_the_mean_over_groups_of_the_weighted_mean_over_pairs(groups: Group) -> None:
    assert float(ranking_loss(*as_float32(*groups))) == pytest.approx(explicit_ranking_loss(*groups), rel=1e-5)
    assert 0.0 in groups[2] and not groups[2].any(axis=1).all()


def test_two_responses_are_bradley_terry() -> None:
    scores = np.random.default_rng(1).normal(size=(6, 2))
    chosen = np.array([1.0, 0.0, 1.0, 1.0, 0.0, 0.0])[:, None]
    margin = np.where(chosen[:, 0] == 1, scores[:, 0] - scores[:, 1], scores[:, 1] - scores[:, 0])
    expected = -np.log(1 / (1 + np.exp(-margin))).mean()
    assert float(ranking_loss(*as_float32(scores, chosen, np.ones((6, 1))))) == pytest.approx(expected, rel=1e-5)


def test_the_ranking_gradient_is_that_of_the_loops(groups: Group) -> None:
    scores, target, weight = groups
    found = jax.jit(jax.grad(ranking_loss))(*as_float32(*groups))
    for index in np.ndindex(scores.shape):
        step = np.zeros_like(scores)
        step[index] = 1e-5
        rise = explicit_ranking_loss(scores + step, target, weight) - explicit_ranking_loss(
            scores - step, target, weight
        )
        assert float(found[index]) == pytest.approx(rise / 2e-5, abs=1e-5)


def test_dropped_pairs_and_groups_do_not_matter(groups: Group) -> None:
    scores, target, weight = groups
    value = float(ranking_loss(*as_float32(*groups)))
    other = np.where(weight == 0, 1 - target, target)
    assert float(ranking_loss(*as_float32(scores, other, weight))) == value
    kept = weight.any(axis=1)
    assert float(ranking_loss(*as_float32(scores[kept], target[kept], weight[kept]))) == pytest.approx(value, rel=1e-6)
    nothing = ranking_loss(*as_float32(scores, target, 0 * weight))
    assert float(nothing) == 0.0


def test_bradley_terry_is_a_cross_entropy_at_any_margin() -> None:
    margins = np.array([-1e4, -30.0, -2.0, 0.0, 0.5, 30.0, 1e4])
    target = np.array([0.0, 1.0, 0.3, 0.5, 0.9, 0.2, 1.0])
    expected = target * np.logaddexp(0, -margins) + (1 - target) * np.logaddexp(0, margins)
    np.testing.assert_allclose(bradley_terry_loss(*as_float32(margins, target)), expected, rtol=1e-5, atol=1e-6)
    slope = jax.grad(lambda m: bradley_terry_loss(m, jnp.asarray(target, jnp.float32)).sum())(jnp.float32(margins))
    np.testing.assert_allclose(slope, 1 / (1 + np.exp(-np.clip(margins, -80, 80))) - target, atol=1e-6)


def test_token_loss_has_the_value_and_gradient_of_log_softmax() -> None:
    rng = np.random.default_rng(2)
    logits = jnp.asarray(rng.normal(size=(2, 3, 7)) * 4, jnp.float32)
    targets = jnp.asarray(rng.integers(0, 7, (2, 3)), jnp.int32)
    cotangent = jnp.asarray(rng.normal(size=(2, 3)), jnp.float32)

    def derived(x: jax.Array) -> jax.Array:
        return -jnp.take_along_axis(jax.nn.log_softmax(x), targets[..., None], axis=-1)[..., 0]

    (ours, our_slope), (theirs, their_slope) = (jax.vjp(f, logits) for f in (lambda x: token_loss(x, targets), derived))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(our_slope(cotangent)[0], their_slope(cotangent)[0], rtol=1e-5, atol=1e-6)
    check_grads(lambda x: token_loss(x, targets), (logits,), order=1, modes=["rev"], atol=2e-2, rtol=2e-2)
    mapped = jax.vmap(jax.grad(lambda x, t: token_loss(x, t).sum()))(logits, targets)
    np.testing.assert_allclose(mapped, jax.grad(lambda x: derived(x).sum())(logits), rtol=1e-5, atol=1e-6)


def test_token_loss_survives_forbidden_and_enormous_logits() -> None:
    logits = jnp.array([[1e4, 0.0, -1e4], [0.0, -jnp.inf, 1.0]], jnp.float32)
    values, slope = jax.vjp(lambda x: token_loss(x, jnp.array([1, 0])), logits)
    np.testing.assert_allclose(values, [1e4, np.log1p(np.e)], rtol=1e-6)
    p = 1 / (1 + np.e)
    np.testing.assert_allclose(slope(jnp.ones(2))[0], [[1, -1, 0], [p - 1, 0, 1 - p]], atol=1e-6)


def test_next_token_loss_is_a_mean_over_weighted_positions_alone() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(2, 4, 5))
    targets = rng.integers(0, 5, (2, 4))
    weight = np.array([[0.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -np.mean([log_p[b, s, targets[b, s]] for b, s in np.argwhere(weight)])
    changed = np.where(weight[..., None] == 0, 50.0, logits)
    for values in (logits, changed):
        found = next_token_loss(jnp.float32(values), jnp.asarray(targets), jnp.float32(weight))
        assert float(found) == pytest.approx(expected, rel=1e-5)
    assert float(next_token_loss(jnp.float32(logits), jnp.asarray(targets), jnp.zeros((2, 4)))) == 0.0


def test_accuracy_gives_ties_half_and_leaves_out_even_targets_and_dropped_pairs() -> None:
    scores = jnp.array([[3.0, 1.0, 1.0], [0.0, 2.0, 1.0]])
    target = jnp.array([[1.0, 0.2, 1.0], [1.0, 0.5, 0.9]])  # right, wrong, tie; wrong, even, right
    ones = jnp.ones((2, 3))
    assert [float(x) for x in pair_accuracy(scores, target, ones)] == [1 + 0 + 0.5 + 0 + 1, 5]
    weight = jnp.array([[2.0, 0.0, 1.0], [0.0, 1.0, 3.0]])
    assert [float(x) for x in pair_accuracy(scores, target, weight)] == [2 + 0.5 + 3, 6]
    assert [float(x) for x in pair_accuracy(0 * scores, target, ones)] == [2.5, 5]
    assert [float(x) for x in pair_accuracy(-scores, target, ones)] == [1 + 0.5 + 1, 5]
