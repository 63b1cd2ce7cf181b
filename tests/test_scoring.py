"""Scores of many responses are those of each response alone, however they are batched, cut, ordered and padded."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synthetic_rm import scoring
from synthetic_rm.errors import InputError
from synthetic_rm.ladder import shape_of_width
from synthetic_rm.networks import transformer
from synthetic_rm.rewards.neural import NeuralReward, Readout, init_reward, neural_reward
from synthetic_rm.scoring import check_responses, score, score_answers, score_members
from synthetic_rm.types import Array, PackedReward, Responses

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
    found = score(model, drawn)
    assert found.shape == (COUNT,) and found.dtype == np.float32
    close(found, alone)
    for i in (int(np.argmin(drawn.length)), int(np.argmax(drawn.length))):  # nor does the cut to its own length
        n = int(drawn.length[i])
        cut = Responses(drawn.prompt[i : i + 1], drawn.tokens[i : i + 1, :n], drawn.length[i : i + 1])
        assert called(model, cut)[0] == pytest.approx(alone[i], abs=2e-5)


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows in batches of 3 and programs of 2 batches, so that the responses need many, and the last are not full."""
    monkeypatch.setattr(scoring, "rows_at_once", lambda: 3)
    monkeypatch.setattr(scoring, "BATCHES", 2)


@pytest.mark.usefixtures("few_rows")
def test_the_batch_changes_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, model = responses(), reward(0)
    found = score(model, drawn)
    monkeypatch.undo()
    close(found, score(model, drawn))


def test_the_order_changes_no_score() -> None:
    drawn, model = responses(), reward(0)
    order = np.random.default_rng(1).permutation(COUNT)
    moved = Responses(*(np.asarray(x)[order] for x in drawn))  # type: ignore[arg-type]
    close(score(model, moved), score(model, drawn)[order])


@pytest.mark.parametrize("readout", ["last", "mean"])
def test_what_lies_beyond_a_response_changes_no_score(readout: Readout) -> None:
    drawn, model = responses(), reward(0, readout)
    beyond = np.arange(TOKENS) >= np.asarray(drawn.length)[:, None]
    assert beyond.mean() > 0.3
    for others in (responses(5).tokens, -7, 10**6):  # ids of the vocabulary and none
        other = np.where(beyond, others, drawn.tokens).astype(np.int32)
        assert (other != drawn.tokens).any()
        close(score(model, drawn._replace(tokens=other)), score(model, drawn))


def test_what_shares_a_row_changes_no_score() -> None:
    """Short responses alone, several to a row of their own, and among long ones."""
    drawn, model = responses(), reward(0)
    short = np.flatnonzero(np.asarray(drawn.length) <= 6)
    assert len(short) > 10
    alone = Responses(drawn.prompt[short], drawn.tokens[short, :6], drawn.length[short])
    close(score(model, alone), score(model, drawn)[short])


@pytest.mark.usefixtures("few_rows")
@pytest.mark.parametrize("readout", ["last", "mean"])
def test_answers_to_one_prompt_score_as_responses_with_it(readout: Readout) -> None:
    drawn, models = responses(), [reward(seed, readout) for seed in range(2)]
    prompt = np.asarray(drawn.prompt[0])
    members = jax.tree.map(lambda *x: jnp.stack(x), *models)
    found = score_answers(members, prompt, np.asarray(drawn.tokens), np.asarray(drawn.length))
    expected = score_members(members, drawn._replace(prompt=np.broadcast_to(prompt, drawn.prompt.shape)))
    close(found, expected)
    other = score_answers(members, (prompt + 1) % VOCAB, np.asarray(drawn.tokens), np.asarray(drawn.length))
    assert np.abs(other - found).max() > 0.1


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Counts:
    """A reward model without a network: how often a token occurs in the response."""

    token: Array

    def __call__(self, responses: Responses) -> Array:
        inside = jnp.arange(responses.tokens.shape[1])[None] < responses.length[:, None]
        return ((responses.tokens == self.token) & inside).sum(1) + 100.0 * responses.prompt[:, 0]


def test_a_reward_model_that_reads_no_rows_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "CALLED", 16)
    drawn, members = responses(), Counts(jnp.arange(3, 5))
    assert not isinstance(members, PackedReward) and isinstance(reward(0), PackedReward)
    rows = list(zip(*(np.asarray(x) for x in drawn), strict=True))
    expected = [[int((t[:n] == token).sum()) + 100 * int(p[0]) for p, t, n in rows] for token in (3, 4)]
    np.testing.assert_array_equal(score_members(members, drawn), expected)
    answers = score_answers(members, np.asarray(drawn.prompt[0]), np.asarray(drawn.tokens), np.asarray(drawn.length))
    shift = 100 * (np.asarray(drawn.prompt[:, 0]) - int(drawn.prompt[0, 0]))
    np.testing.assert_array_equal(answers, np.array(expected) - shift)


@pytest.mark.usefixtures("few_rows")
def test_a_network_that_reads_rows_of_one_text_scores_alike() -> None:
    drawn, model = responses(), reward(0)
    plain = replace(model, network=model.network._replace(packed=None))
    close(score(plain, drawn), score(model, drawn))
    with pytest.raises(InputError, match="rows of one text"):
        plain.reader(None)


def test_any_number_of_responses_is_one_program(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, members = responses(longest=13), jax.tree.map(lambda x: x[None], reward(7))  # a shape of its own
    traces = []
    reader = NeuralReward.reader

    def counted(self: NeuralReward, prompt: Array | None) -> Callable[[Array, Array], Array]:
        traces.append(prompt)
        return reader(self, prompt)

    monkeypatch.setattr(NeuralReward, "reader", counted)
    for count in (1, 2, 17, COUNT):
        part = Responses(drawn.prompt[:count], drawn.tokens[:count, :13], drawn.length[:count])
        assert score_members(members, part).shape == (1, count)
    assert len(traces) == 1


def test_no_responses_have_no_scores() -> None:
    none = Responses(*(np.asarray(x)[:0] for x in responses()))  # type: ignore[arg-type]
    assert score(reward(0), none).shape == (0,)


def test_members_score_as_they_do_alone_in_their_order() -> None:
    drawn, models = responses(), [reward(seed) for seed in range(3)]
    together = score_members(jax.tree.map(lambda *x: jnp.stack(x), *models), drawn)
    assert together.shape == (3, COUNT)
    for row, model in zip(together, models, strict=True):
        close(row, score(model, drawn))
    assert np.abs(np.diff(together, axis=0)).max(axis=1).min() > 0.3


def test_token_ids_of_a_pool_score_as_others_do() -> None:
    drawn, model = responses(), reward(0)
    stored = drawn._replace(tokens=np.asarray(drawn.tokens).astype(np.uint16))  # type: ignore[arg-type]
    close(score(model, stored), score(model, drawn))


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
