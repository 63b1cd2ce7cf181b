"""Reward models recover a ranking that is known, and are measured alike whatever the batch."""

from functools import partial
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synthetic_rm.errors import InputError
from synthetic_rm.networks import transformer
from synthetic_rm.rewards.neural import Readout, init_reward, raw_scores
from synthetic_rm.training.loop import TrainResult
from synthetic_rm.training.reward import RewardMetrics, evaluate_reward, reward_learning_rate, train_reward
from synthetic_rm.types import Comparisons, Network, Params, Responses, Shape

SHAPE = Shape(vocab=6, width=8, layers=1, heads=1, hidden=16)
PROMPT, TOKENS, GOOD, SEEDS = 2, 6, 5, (0, 1)


def counted_ranking(seed: int, groups: int, size: int) -> Comparisons:
    """The response with more of one token is preferred; ties are dropped. That token lies behind the ends as well."""
    rng = np.random.default_rng(seed)
    prompt = np.repeat(rng.integers(3, SHAPE.vocab, (groups, 1, PROMPT)), size, axis=1)
    tokens = rng.integers(3, SHAPE.vocab, (groups, size, TOKENS))
    length = rng.integers(1, TOKENS + 1, (groups, size))
    count = ((tokens == GOOD) & (np.arange(TOKENS) < length[..., None])).sum(-1)
    first, second = np.array(list(combinations(range(size), 2))).T
    margin = count[:, first] - count[:, second]
    responses = Responses(*(jnp.asarray(x, jnp.int32) for x in (prompt, tokens, length)))
    return Comparisons(responses, jnp.float32(0.5 * (1 + np.sign(margin))), jnp.float32(margin != 0))


@pytest.fixture(scope="module")
def network() -> Network:
    return transformer(SHAPE)


@pytest.fixture(scope="module")
def start(network: Network) -> Params:
    """[2] parameters."""
    members = [init_reward(network, jax.random.key(seed)) for seed in SEEDS]
    return jax.tree.map(lambda *x: jnp.stack(x), *members)


def member(params: Params, seed: int) -> Params:
    return jax.tree.map(lambda x: x[seed], params)


options = {"epochs": 2.0, "batch": 16, "learning_rate": 0.02, "width": 2}


@pytest.fixture(scope="module")
def trained(network: Network, start: Params) -> TrainResult:
    return train_reward(network, start, counted_ranking(0, 1500, 3), seeds=list(SEEDS), **options)


@pytest.mark.parametrize("size", [2, 3])
def test_a_known_ranking_is_recovered(size: int, network: Network, start: Params, trained: TrainResult) -> None:
    """On comparisons that were not seen, in pairs and in groups."""
    held_out = counted_ranking(1, 300, size)
    for seed in SEEDS:
        before = evaluate_reward(network, member(start, seed), held_out)
        after = evaluate_reward(network, member(trained.params, seed), held_out)
        assert before.accuracy < 0.85 and after.accuracy > 0.9
        assert after.loss < 0.3 < np.log(2) - 0.05 < before.loss
    assert trained.finite.all()


def test_every_seed_sees_the_comparisons_in_its_own_order(
    network: Network, start: Params, trained: TrainResult
) -> None:
    assert trained.losses.shape == (2, 2 * 1500 // 16)
    same = jax.tree.map(lambda x: jnp.stack([x[0], x[0]]), start)
    go = partial(train_reward, network, same, counted_ranking(0, 1500, 3), **{**options, "epochs": 0.502})
    twins, again = go(seeds=[7, 8]), go(seeds=[8, 8])
    assert twins.losses.shape == (2, 47)
    assert np.all(twins.losses[0] != twins.losses[1])
    np.testing.assert_array_equal(again.losses[0], twins.losses[1])
    np.testing.assert_array_equal(again.losses[0], again.losses[1])


def explicit_metrics(scores: np.ndarray, comparisons: Comparisons) -> RewardMetrics:
    target, weight = np.asarray(comparisons.target), np.asarray(comparisons.weight)
    losses, right, counted = [], 0.0, 0.0
    for g, row in enumerate(scores):
        terms = []
        for c, (i, j) in enumerate(combinations(range(len(row)), 2)):
            if weight[g, c]:
                p = 1 / (1 + np.exp(row[j] - row[i]))
                terms.append(-target[g, c] * np.log(p) - (1 - target[g, c]) * np.log(1 - p))
                right += (p > 0.5) == (target[g, c] > 0.5)
                counted += 1
        losses += [np.mean(terms)] if terms else []
    return RewardMetrics(float(np.mean(losses)), right / counted)


@pytest.mark.parametrize(("size", "readout"), [(2, "mean"), (3, "last")])
def test_metrics_are_those_of_the_loops_whatever_the_batch(
    size: int, readout: Readout, network: Network, trained: TrainResult
) -> None:
    """Groups that are wholly dropped count nowhere, and neither do the rows that fill the last batch."""
    params, comparisons = member(trained.params, 0), counted_ranking(3, 23, size)
    comparisons = comparisons._replace(weight=comparisons.weight.at[4].set(0.0))
    scores = np.asarray(
        jax.jit(partial(raw_scores, network, readout=readout))(params, comparisons.responses), np.float64
    )
    expected = explicit_metrics(scores, comparisons)
    for batch in (5, 64):
        found = evaluate_reward(network, params, comparisons, readout=readout, batch=batch)
        assert found == pytest.approx(expected, rel=1e-4)


def test_what_is_read_out_is_what_is_trained(network: Network, start: Params) -> None:
    """The loss of a first step on everything is the loss that is measured."""
    comparisons, params = counted_ranking(6, 30, 2), member(start, 0)
    last, mean = (evaluate_reward(network, params, comparisons, readout=r).loss for r in ("last", "mean"))
    stacked = jax.tree.map(lambda x: x[None], params)
    result = train_reward(
        network, stacked, comparisons, seeds=[0], epochs=1, batch=30, learning_rate=0.1, readout="last"
    )
    assert result.losses.tolist() == [[pytest.approx(last, rel=1e-5)]]
    assert abs(last - mean) > 1e-4


def test_a_constant_model_is_at_chance(network: Network, start: Params) -> None:
    params = member(start, 0)
    constant = {**params, "head": jax.tree.map(jnp.zeros_like, params["head"])}
    found = evaluate_reward(network, constant, counted_ranking(4, 23, 3))
    assert found.loss == pytest.approx(np.log(2), rel=1e-6) and found.accuracy == 0.5


def test_nothing_to_compare_is_not_a_perfect_score(network: Network, start: Params) -> None:
    comparisons = counted_ranking(5, 4, 2)
    dropped = comparisons._replace(weight=0 * comparisons.weight)
    found = evaluate_reward(network, member(start, 0), dropped)
    assert np.isnan(found.loss) and np.isnan(found.accuracy)


def test_larger_models_learn_at_lower_rates() -> None:
    rates = [reward_learning_rate(n) for n in (500, 2_000, 64_000, 2_000_000, 300_000_000)]
    assert rates[0] == rates[1] == pytest.approx(0.03)
    assert rates == sorted(rates, reverse=True)
    assert rates[2] == pytest.approx(0.03 / 4)  # 32 times the size, 32^0.4 = 4 times lower


def test_a_batch_larger_than_the_data_and_ids_that_are_none_are_refused(network: Network, start: Params) -> None:
    few = counted_ranking(3, 15, 2)
    for batch in (0, 16):
        with pytest.raises(InputError, match=f"batch={batch}: allowed is 1 to 15"):
            train_reward(network, start, few, seeds=list(SEEDS), **(options | {"batch": batch}))
    other = few.responses._replace(prompt=few.responses.prompt.at[3, 1, 0].set(SHAPE.vocab))
    with pytest.raises(InputError, match=f"row 7 has id {SHAPE.vocab}"):
        train_reward(network, start, few._replace(responses=other), seeds=list(SEEDS), **(options | {"batch": 5}))
