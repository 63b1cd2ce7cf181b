"""Labels against enumeration and probability; groups against the prompts and keys they were asked with."""

from itertools import combinations

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthetic_rm.comparisons import GOLD_LABELS, draw_groups, label_by_scores, split_groups
from synthetic_rm.errors import InputError
from synthetic_rm.ladder import shape_of_width
from synthetic_rm.networks import transformer
from synthetic_rm.types import Comparisons, Responses


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_hard_labels_equal_enumeration_and_drop_ties() -> None:
    scores = rng().integers(-2, 3, (60, 4)).astype(np.float32)
    target, weight = label_by_scores(scores, rng(), kind="hard")
    assert target.shape == weight.shape == (60, 6)
    assert target.dtype == weight.dtype == np.float32
    ties = 0
    for row, targets, weights in zip(scores, target, weight, strict=True):
        for (i, j), t, w in zip(combinations(range(4), 2), targets, weights, strict=True):
            ties += row[i] == row[j]
            assert w == float(row[i] != row[j])
            assert w == 0 or t == float(row[i] > row[j])
    assert 30 < ties < 330


@pytest.mark.parametrize("kind", GOLD_LABELS)
def test_equal_scores_are_dropped_whatever_the_labels_and_the_noise(kind: str) -> None:
    scores = np.array([[1.0, 1.0, 2.0]], np.float32)
    for noise in (0.0, 0.5):
        assert label_by_scores(scores, rng(), kind=kind, noise=noise)[1].tolist() == [[0, 1, 1]]  # type: ignore[arg-type]


def test_soft_labels_are_the_logistic_function_of_the_native_margin() -> None:
    scores = rng().normal(0, 3, (500, 3))
    scores[0] = [900, -900, 0]
    target, _ = label_by_scores(scores, rng(), kind="soft")
    for column, (i, j) in enumerate(combinations(range(3), 2)):
        margin = scores[:, i] - scores[:, j]
        np.testing.assert_allclose(target[:, column], np.exp(-np.logaddexp(0, -margin)), atol=1e-6)
    assert np.isfinite(target).all() and target[0].tolist() == [1, 1, 0]


@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("noise", [0.1, 0.35, 0.5])
def test_noise_turns_that_share_of_the_labels_round(kind: str, noise: float) -> None:
    scores = rng(3).normal(size=(40_000, 2))
    clean, _ = label_by_scores(scores, rng(1), kind=kind)  # type: ignore[arg-type]
    noisy, weight = label_by_scores(scores, rng(1), kind=kind, noise=noise)  # type: ignore[arg-type]
    turned = noisy != clean
    np.testing.assert_array_equal(noisy, np.where(turned, 1 - clean, clean))
    assert abs(turned.mean() - noise) < 5 * np.sqrt(noise * (1 - noise) / turned.size)
    assert abs(np.corrcoef(turned.ravel(), scores[:, 0])[0, 1]) < 0.03  # whatever the scores
    assert weight.all()


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_sampled_labels_have_the_frequencies_of_the_soft_ones(noise: float) -> None:
    margins = np.array([-3.0, -1.0, -0.2, 0.4, 2.0])
    scores = np.stack([np.repeat(margins, 20_000), np.zeros(100_000)], axis=1)
    target, _ = label_by_scores(scores, rng(), kind="sampled", noise=noise)
    assert set(np.unique(target)) == {0, 1}
    share = target.reshape(5, 20_000).mean(axis=1)
    clean = 1 / (1 + np.exp(-margins))
    expected = clean * (1 - noise) + (1 - clean) * noise
    assert (np.abs(share - expected) < 5 * np.sqrt(expected * (1 - expected) / 20_000)).all()


def test_labels_follow_their_generator_alone() -> None:
    scores = rng().normal(size=(200, 3))
    first, again, other = (label_by_scores(scores, rng(s), kind="sampled", noise=0.2)[0] for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(
    ("kind", "noise", "key"),
    [
        ("human", 0.0, "comparisons.labels='human'"),
        ("Hard", 0.0, "comparisons.labels='Hard'"),
        ("hard", -0.1, "comparisons.noise=-0.1"),
        ("soft", 0.6, "comparisons.noise=0.6"),
        ("hard", float("nan"), "comparisons.noise=nan"),
    ],
)
def test_other_labels_and_noise_are_refused(kind: str, noise: float, key: str) -> None:
    with pytest.raises(InputError) as error:
        label_by_scores(np.zeros((2, 2)), rng(), kind=kind, noise=noise)  # type: ignore[arg-type]
    assert key in str(error.value) and "\n" not in str(error.value)


def test_gold_scores_that_are_not_finite_label_nothing() -> None:
    """NaN differs from everything: as a margin it would pass for a preference."""
    with pytest.raises(InputError, match="finite"):
        label_by_scores(np.array([[0.0, np.nan]]), rng(), kind="hard")


def numbered(groups: int) -> Comparisons:
    column = np.arange(groups)[:, None]
    return Comparisons(Responses(column, column, column), column, column)  # type: ignore[arg-type]


@given(st.integers(2, 400), st.floats(0.01, 0.9))
def test_parts_are_disjoint_whole_and_in_proportion(groups: int, share: float) -> None:
    if groups - max(1, round(groups * share)) < 1:
        with pytest.raises(InputError, match=r"comparisons\.held_out"):
            split_groups(numbered(groups), share)
        return
    training, held_out = split_groups(numbered(groups), share)
    assert len(held_out.target) >= 1
    assert abs(len(held_out.target) - groups * share) <= 1
    for first, last in zip(jax.tree.leaves(training), jax.tree.leaves(held_out), strict=True):
        assert [*first[:, 0], *last[:, 0]] == list(range(groups))


NETWORK = transformer(shape_of_width(4, 30))
LIKE = jax.eval_shape(NETWORK.init, jax.random.key(0))
DRAW = rng(8)
PARAMS = jax.tree.map(lambda x: DRAW.normal(0, 0.3, x.shape).astype(np.float32), LIKE)
PROMPTS = np.array([[1, 5, 6], [1, 7, 8], [1, 9, 4]], np.int32)


def groups_of(num: int, key: int = 0, *, heard: list[int] | None = None) -> Responses:
    """64 responses a group, so that the sampler draws 4 groups at once: more than there are prompts."""
    listen = None if heard is None else heard.append
    options = {"num_groups": num, "group_size": 64, "max_tokens": 5, "on_chunk": listen}
    return draw_groups(NETWORK, PARAMS, PROMPTS, jax.random.key(key), **options)  # type: ignore[arg-type]


def test_groups_take_the_prompts_in_order_and_begin_again() -> None:
    drawn = groups_of(10)
    assert [x.shape for x in drawn] == [(10, 64, 3), (10, 64, 5), (10, 64)]
    expected = np.broadcast_to(PROMPTS[np.arange(10) % 3][:, None], (10, 64, 3))
    np.testing.assert_array_equal(drawn.prompt, expected)
    assert all(isinstance(x, np.ndarray) for x in drawn)
    length = np.asarray(drawn.length)
    assert length.min() >= 1 and length.max() <= 5


def test_groups_follow_their_key_alone() -> None:
    heard: list[int] = []
    drawn, listened, other = groups_of(10), groups_of(10, heard=heard), groups_of(10, key=1)
    assert heard == [4, 4, 2]
    for a, b in zip(drawn, listened, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (np.asarray(drawn.tokens) != np.asarray(other.tokens)).mean() > 0.3


def test_fewer_groups_are_the_first_of_more_and_no_group_is_drawn_twice() -> None:
    few, many = groups_of(5), groups_of(10)
    for a, b in zip(few, many, strict=True):
        np.testing.assert_array_equal(a, b[:5])
    tokens = np.asarray(many.tokens)
    for i, j in combinations(range(10), 2):
        assert (tokens[i] != tokens[j]).mean() > 0.3, (i, j)
