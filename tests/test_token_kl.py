"""Token divergences against the enumeration of a small autoregressive pair of policies."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synthetic_rm.token_kl import k1, k2, k3, masked_sum, per_token_kl, token_kl

VOCAB, LENGTH, END = 3, 4, 0
Toy = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def toy() -> Toy:
    """Every response of two random policies: logits [2, Y, T, V], log-probabilities [2, Y, T], mask [Y, T].

    A response ends with END or after LENGTH tokens; what lies beyond its end is garbage.
    """
    rng = np.random.default_rng(0)
    tables = [
        {prefix: rng.normal(size=VOCAB) for t in range(LENGTH) for prefix in product(range(VOCAB), repeat=t)}
        for _ in range(2)
    ]
    responses = [
        row
        for length in range(1, LENGTH + 1)
        for row in product(range(VOCAB), repeat=length)
        if END not in row[:-1] and (length == LENGTH or row[-1] == END)
    ]
    logits = np.full((2, len(responses), LENGTH, VOCAB), np.nan)
    log_probs = np.full((2, len(responses), LENGTH), np.nan)
    mask = np.zeros((len(responses), LENGTH), bool)
    for y, row in enumerate(responses):
        for t, token in enumerate(row):
            mask[y, t] = True
            for policy, table in enumerate(tables):
                values = table[row[:t]]
                logits[policy, y, t] = values
                log_probs[policy, y, t] = values[token] - np.log(np.exp(values).sum())
    return logits, log_probs, mask


def test_every_exact_estimate_has_the_divergence_of_whole_responses_as_its_mean(toy: Toy) -> None:
    logits, log_probs, mask = toy
    log_p, log_q = np.where(mask, log_probs, 0).sum(axis=-1)
    p = np.exp(log_p)
    assert p.sum() == pytest.approx(1)
    exact = np.sum(p * (log_p - log_q))
    ratio = jnp.asarray(log_probs[0] - log_probs[1])
    assert p @ np.asarray(token_kl(logits[0], logits[1], jnp.asarray(mask))) == pytest.approx(exact, rel=1e-5)
    assert p @ np.asarray(masked_sum(k1(ratio), mask)) == pytest.approx(exact, rel=1e-5)
    assert p @ np.asarray(masked_sum(k3(ratio), mask)) == pytest.approx(exact, rel=1e-5)
    # the neighbours that are easily taken for it: the other direction, the other ratio, the second-order one
    for wrong in (
        token_kl(logits[1], logits[0], mask),
        masked_sum(k3(-ratio), mask),
        masked_sum(k2(ratio), mask),
    ):
        assert abs(p @ np.asarray(wrong) - exact) > 0.02 * exact


def test_the_exact_token_divergence_varies_less_than_the_estimators(toy: Toy) -> None:
    logits, log_probs, mask = toy
    p = np.exp(np.where(mask, log_probs[0], 0).sum(axis=-1))
    ratio = jnp.asarray(log_probs[0] - log_probs[1])

    def variance(values: jax.Array) -> float:
        return p @ np.square(np.asarray(values) - p @ np.asarray(values))

    exact = variance(token_kl(logits[0], logits[1], mask))
    assert exact < 0.5 * variance(masked_sum(k3(ratio), mask)) < 0.5 * variance(masked_sum(k1(ratio), mask))


def test_what_lies_beyond_the_mask_reaches_neither_value_nor_gradient(toy: Toy) -> None:
    logits, _, mask = toy
    clean = np.where(mask[..., None], logits, 0.0)
    value, grad = jax.value_and_grad(lambda p, q: token_kl(p, q, mask).sum())(jnp.asarray(logits[0]), logits[1])
    expected, expected_grad = jax.value_and_grad(lambda p, q: token_kl(p, q, mask).sum())(
        jnp.asarray(clean[0]), clean[1]
    )
    assert value == expected
    np.testing.assert_array_equal(grad, expected_grad)
    assert (np.asarray(grad)[~mask] == 0).all()


@pytest.mark.parametrize("shift", [1e-3, 1e-2, 1.0, 30.0])
def test_small_and_large_divergences_keep_their_digits_in_float32(shift: float) -> None:
    rng = np.random.default_rng(1)
    p = (5 * rng.normal(size=(64, 1024))).astype(np.float32)
    q = (p + shift * rng.normal(size=p.shape)).astype(np.float32)
    log_p, log_q = (x - np.log(np.exp(x).sum(-1, keepdims=True)) for x in (p.astype(float), q.astype(float)))
    exact = np.sum(np.exp(log_p) * (log_p - log_q), axis=-1)
    kl = per_token_kl(jnp.asarray(p), jnp.asarray(q))
    assert kl.dtype == jnp.float32
    np.testing.assert_allclose(kl, exact, rtol=2e-3)
    assert (np.asarray(per_token_kl(p, p)) == 0).all()
    assert (np.asarray(per_token_kl(p, p + 3)) < 1e-9).all()


def test_forbidden_tokens_and_missing_support() -> None:
    p, q = jnp.array([0.0, 1.0, -jnp.inf]), jnp.array([0.5, 0.0, -jnp.inf])
    both = per_token_kl(p, q)
    assert both == pytest.approx(float(per_token_kl(p[:2], q[:2])), rel=1e-6)
    assert np.isfinite(np.asarray(jax.grad(lambda x: per_token_kl(x, q))(p))[:2]).all()
    assert per_token_kl(jnp.zeros(3), q) == jnp.inf  # never clamped
    assert per_token_kl(q, jnp.zeros(3)) == pytest.approx(
        float(jnp.log(3.0) + jnp.sum(jax.nn.softmax(q[:2]) * jax.nn.log_softmax(q[:2]))), rel=1e-5
    )


def test_estimators_at_the_edges_of_float32() -> None:
    x = jnp.array([0.0, 1e-4, -1e-4, 50.0, -50.0, 1e4], jnp.float32)
    exact = np.expm1(-np.asarray(x, float)) + np.asarray(x, float)
    np.testing.assert_allclose(k3(x)[3:], exact[3:], rtol=1e-5)
    assert (np.asarray(k3(x)) >= 0).all()
    assert np.abs(np.asarray(k3(x))[:3] - exact[:3]).max() < 1e-11
    assert k3(jnp.array(-200.0)) == jnp.inf
    np.testing.assert_allclose(k2(x), np.square(np.asarray(x, float)) / 2, rtol=1e-6)
    assert k1(x.astype(jnp.bfloat16)).dtype == k3(x.astype(jnp.bfloat16)).dtype == jnp.float32
