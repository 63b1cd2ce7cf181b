"""Rollouts and held-out measurement against enumeration and plain loops."""

from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optimizers.tabular import (
    NETWORK,
    PROMPTS,
    TOKENS,
    all_responses,
    distribution,
    reference,
    reward,
    token_reward,
    token_scores,
    value_start,
)

from synthetic_rm.environments.tabular import TableReward
from synthetic_rm.optimizers.measure_rl import Measurement, measure_policy, pair_agreement
from synthetic_rm.optimizers.rollout import (
    Rollout,
    end_rewards,
    repeated_bigrams,
    roll_out,
    summarise,
    token_values,
)
from synthetic_rm.types import EOS

SAMPLES = 1500


@pytest.fixture(scope="module")
def rollout() -> Rollout:
    draw = jax.jit(roll_out, static_argnums=0, static_argnames=("samples", "max_tokens"))
    prompts, key = jnp.asarray(PROMPTS), jax.random.key(4)
    sizes: Any = {"samples": SAMPLES, "max_tokens": TOKENS}
    return jax.tree.map(np.asarray, draw(NETWORK, reference(7), reference(), reward(1), prompts, key, **sizes))


def test_every_kl_of_a_rollout_agrees_with_enumeration(rollout: Rollout) -> None:
    ours, theirs = distribution(reference(7)), distribution(reference())
    exact = float(ours @ np.log(ours / theirs))
    summary = jax.tree.map(np.asarray, summarise(rollout))
    errors = {}
    for name in ("kl", "k1", "k3"):
        values = getattr(summary, name).astype(np.float64)
        errors[name] = values.std() / np.sqrt(len(values))
        assert abs(values.mean() - exact) < 4 * errors[name]
    assert errors["kl"] < 0.7 * errors["k1"] and exact > 20 * errors["kl"]
    assert summary.length.mean() == pytest.approx(float(ours @ np.asarray(all_responses().length)), abs=0.01)


def test_the_score_of_a_response_is_paid_at_its_last_token(rollout: Rollout) -> None:
    rewards = np.asarray(end_rewards(rollout))
    scores, length = rollout.scores.ravel(), rollout.responses.length
    np.testing.assert_array_equal(rewards.sum(1), scores)
    np.testing.assert_array_equal(rewards[np.arange(len(scores)), length - 1], scores)
    assert set(length) == {1, 2}


def test_finished_says_whether_the_end_token_was_drawn(rollout: Rollout) -> None:
    finished = np.asarray(summarise(rollout).finished)
    tokens, length = rollout.responses.tokens, rollout.responses.length
    expected = [EOS in row[:count] for row, count in zip(tokens.tolist(), length, strict=True)]
    np.testing.assert_array_equal(finished, expected)


def test_entropy_is_that_of_the_rows_that_were_used(rollout: Rollout) -> None:
    table = np.asarray(reference(7)["table"][0], np.float64)
    log_prob = table - np.log(np.exp(table).sum(-1, keepdims=True))
    entropy = -(np.exp(log_prob) * log_prob).sum(-1)
    first, length = rollout.responses.tokens[:, 0], rollout.responses.length
    expected = (entropy[0] + np.where(length == 2, entropy[1 + first], 0)) / length
    np.testing.assert_allclose(summarise(rollout).entropy, expected, rtol=1e-4)


def test_values_are_read_before_the_token_is_seen(rollout: Rollout) -> None:
    start = value_start()
    table, head = np.asarray(start["trunk"]["table"][0]), np.asarray(start["head"]["weight"])
    found = token_values(NETWORK, start, rollout.responses)
    first = rollout.responses.tokens[:, 0]
    np.testing.assert_allclose(found[:, 0], np.broadcast_to(table[0] @ head, first.shape), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[:, 1], table[1 + first] @ head, rtol=1e-4, atol=1e-5)


def test_repeated_bigrams_are_those_said_before() -> None:
    rng = np.random.default_rng(0)
    tokens, length = rng.integers(0, 3, (40, 9)), rng.integers(1, 10, 40)
    expected = []
    for row, count in zip(tokens.tolist(), length, strict=True):
        said = list(pairwise(row[:count]))
        expected.append(1 - len(set(said)) / len(said) if said else 0.0)
    mask = np.arange(9) < length[:, None]
    np.testing.assert_allclose(repeated_bigrams(jnp.asarray(tokens), jnp.asarray(mask)), expected, atol=1e-6)
    assert max(expected) > 0.4


def test_agreement_counts_pairs_ordered_alike() -> None:
    proxy = np.array([[1.0, 2.0, 3.0], [1.0, 1.0, 0.0]])
    gold = np.array([[5.0, 4.0, 9.0], [0.0, 1.0, 2.0]])
    expected = [2 / 3, (0.5 + 0 + 0) / 3]
    np.testing.assert_allclose(pair_agreement(jnp.asarray(proxy), jnp.asarray(gold)), expected, rtol=1e-6)


@pytest.fixture(scope="module")
def measured() -> Measurement:
    options: Any = {"samples": 64, "max_tokens": TOKENS, "proxy": reward(1), "gold": reward(2)}
    return measure_policy(NETWORK, reference(7), reference(), PROMPTS, jax.random.key(0), **options)


def test_a_measurement_has_a_row_for_every_prompt_and_their_means_are_the_policys(measured: Measurement) -> None:
    responses = all_responses()
    ours = distribution(reference(7))
    np.testing.assert_array_equal(measured.first.prompt, PROMPTS)
    for found, model in ((measured.proxy, reward(1)), (measured.gold, reward(2))):
        assert found.shape == (len(PROMPTS),) and len(np.unique(found)) > 1
        scores = np.asarray(model(responses), np.float64)
        mean = ours @ scores
        error = np.sqrt(ours @ (scores - mean) ** 2 / (64 * len(PROMPTS)))
        assert abs(found.mean() - mean) < 4 * error


def test_proxy_gold_and_agreement_of_a_point_come_from_the_same_responses() -> None:
    def measure(gold: TableReward) -> Measurement:
        options: Any = {"samples": 8, "max_tokens": TOKENS, "proxy": reward(1), "gold": gold}
        return measure_policy(NETWORK, reference(7), reference(), PROMPTS, jax.random.key(1), **options)

    same, against = measure(reward(1)), measure(token_reward(-token_scores(1)))
    np.testing.assert_array_equal(same.proxy, same.gold)
    np.testing.assert_array_equal(against.proxy, -against.gold)
    np.testing.assert_array_equal(same.proxy, against.proxy)
    np.testing.assert_allclose(same.agreement + against.agreement, 1.0, atol=1e-6)
    assert same.agreement.mean() > 0.7
