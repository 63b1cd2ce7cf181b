"""Scores of many responses are those of each response alone, however they are batched, cut, ordered and padded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synthetic_rm.errors import InputError
from synthetic_rm.ladder import shape_of_width
from synthetic_rm.networks import transformer
from synthetic_rm.rewards.neural import NeuralReward, Readout, init_reward, neural_reward
from synthetic_rm.scoring import check_responses, length_buckets, score, score_members
from synthetic_rm.types import Responses

VOCAB, PROMPT, TOKENS, COUNT = 50, 3, 20, 41
NETWORK = transformer(shape_of_width(8, VOCAB))


def responses(seed: int = 0, longest: int = TOKENS) -> Responses:
    """Every length from 1 to `longest` occurs."""
    rng = np.random.default_rng(seed)
    length = rng.permutation(1 + np.arange(COUNT) % longest).astype(np.int32)
    prompt, tokens = (rng.integers(0, VOCAB, (COUNT, n)).astype(np.int32) for n in (PROMPT, TOKENS))
    return Responses(prompt, tokens, length)  # type: ignore[arg-type]


def reward(seed: int, readout: Readout = "last") -> NeuralReward:
    """A reward model whose scores differ by about 1, and whose shift and scale count."""
    rng = np.random.default_rng(seed)
    like = jax.eval_shape(lambda key: init_reward(NETWORK, key), jax.random.key(0))
    params = jax.tree.map(lambda x: rng.normal(0, 0.5, x.shape).astype(np.float32), like)
    return neural_reward(NETWORK, params, readout).centred(0.3, 1.5)


def close(found: np.ndarray, expected: np.ndarray) -> None:
    assert expected.std() > 0.3  # scores that hardly differ could not tell anything apart
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("readout", ["last", "mean"])
def test_scores_equal_the_model_called_on_each_response_alone(readout: Readout) -> None:
    drawn, model = responses(), reward(0, readout)
    called = jax.jit(lambda model, one: model(one))
    rows = (Responses(*(jnp.asarray(x[i : i + 1]) for x in drawn)) for i in range(COUNT))
    alone = np.array([called(model, row)[0] for row in rows])
    found = score(model, drawn, batch=16)
    assert found.shape == (COUNT,) and found.dtype == np.float32
    close(found, alone)
    for i in (int(np.argmin(drawn.length)), int(np.argmax(drawn.length))):  # nor does the cut to its own length
        n = int(drawn.length[i])
        cut = Responses(drawn.prompt[i : i + 1], drawn.tokens[i : i + 1, :n], drawn.length[i : i + 1])
        assert called(model, cut)[0] == pytest.approx(alone[i], abs=2e-5)


@pytest.mark.parametrize("batch", [1, 64])
def test_the_batch_changes_no_score(batch: int) -> None:
    drawn, model = responses(), reward(0)
    close(score(model, drawn, batch=batch), score(model, drawn, batch=16))


def test_the_order_changes_no_score() -> None:
    drawn, model = responses(), reward(0)
    order = np.random.default_rng(1).permutation(COUNT)
    moved = Responses(*(np.asarray(x)[order] for x in drawn))  # type: ignore[arg-type]
    close(score(model, moved, batch=16), score(model, drawn, batch=16)[order])


@pytest.mark.parametrize("readout", ["last", "mean"])
def test_what_lies_beyond_a_response_changes_no_score(readout: Readout) -> None:
    drawn, model = responses(), reward(0, readout)
    beyond = np.arange(TOKENS) >= np.asarray(drawn.length)[:, None]
    assert beyond.mean() > 0.3
    for others in (responses(5).tokens, -7, 10**6):  # ids of the vocabulary and none
        other = np.where(beyond, others, drawn.tokens).astype(np.int32)
        assert (other != drawn.tokens).any()
        close(score(model, drawn._replace(tokens=other), batch=16), score(model, drawn, batch=16))


def test_the_bucket_changes_no_score() -> None:
    """A response shorter than the shorter bucket is cut to it; alone in a narrower array it is cut elsewhere."""
    low, high = length_buckets(TOKENS)
    assert high == TOKENS and 1 <= low < high
    drawn, model = responses(longest=low - 1), reward(0)
    narrow = drawn._replace(tokens=drawn.tokens[:, : low - 1])
    assert length_buckets(low - 1) != (low, high)
    close(score(model, narrow, batch=16), score(model, drawn, batch=16))


def test_members_score_as_they_do_alone_in_their_order() -> None:
    drawn, models = responses(), [reward(seed) for seed in range(3)]
    together = score_members(jax.tree.map(lambda *x: jnp.stack(x), *models), drawn, batch=16)
    assert together.shape == (3, COUNT)
    for row, model in zip(together, models, strict=True):
        close(row, score(model, drawn, batch=16))
    assert np.abs(np.diff(together, axis=0)).max(axis=1).min() > 0.3


def test_token_ids_of_a_pool_score_as_others_do() -> None:
    drawn, model = responses(), reward(0)
    stored = drawn._replace(tokens=np.asarray(drawn.tokens).astype(np.uint16))  # type: ignore[arg-type]
    close(score(model, stored, batch=16), score(model, drawn, batch=16))


@pytest.mark.parametrize("longest", [1, 2, 9])
def test_short_responses_have_buckets_too(longest: int) -> None:
    low, high = length_buckets(longest)
    assert 1 <= low <= high == longest


@pytest.mark.parametrize("bad", [VOCAB, -1, 10**6])
@pytest.mark.parametrize("field", ["prompt", "tokens"])
def test_an_id_outside_the_vocabulary_is_named_with_its_row(field: str, bad: int) -> None:
    drawn, model = responses(), reward(0)
    row = int(np.argmax(np.asarray(drawn.length) == 2))
    ids = np.array(getattr(drawn, field))
    ids[row, 1] = bad
    ids[row + 1 :, -1] = bad if field == "prompt" else 0  # the first row is named
    named = rf"row {row} has id {bad} in {field}\[1\], allowed is 0 to {VOCAB - 1}"
    with pytest.raises(InputError, match=named):
        score(model, drawn._replace(**{field: ids}))
    grouped = Responses(*(np.asarray(x)[None] for x in drawn._replace(**{field: ids})))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=named):
        check_responses(grouped, VOCAB)


@pytest.mark.parametrize("bad", [0, -1, TOKENS + 1])
def test_a_length_that_cannot_be_is_named_with_its_row(bad: int) -> None:
    """Such a row falls into no batch."""
    drawn = responses()
    length = np.array(drawn.length)
    length[[5, 9]] = bad
    with pytest.raises(InputError, match=rf"row 5 has length {bad}, allowed is 1 to {TOKENS}"):
        score(reward(0), drawn._replace(length=length))  # type: ignore[arg-type]
