"""Language-model training learns a language that it can learn, and counts the tokens that it should."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synthetic_rm.networks import transformer
from synthetic_rm.policies import policy
from synthetic_rm.training.supervised import (
    TokenRows,
    evaluate_language_model,
    language_model_loss,
    token_rows,
    train_language_model,
)
from synthetic_rm.types import BOS, EOS, PAD, Network, Params, Responses, Shape

SHAPE = Shape(vocab=11, width=16, layers=1, heads=2, hidden=24)
FIRST = 3
"""the first id that is a word"""


def cyclic_language(rng: np.random.Generator, rows: int, prompt: int = 3, tokens: int = 6) -> Responses:
    """Words count upwards and wrap round; the word 3 + 7 = 10 ends the sentence, if it comes within the response."""
    words = SHAPE.vocab - FIRST
    start = rng.integers(0, words, (rows, 1))
    text = FIRST + (start + np.arange(prompt - 1 + tokens)) % words
    said = text[:, prompt - 1 :]
    last = said == SHAPE.vocab - 1
    length = np.where(last.any(1), np.minimum(last.argmax(1) + 2, tokens), tokens)
    place = np.arange(tokens)
    said = np.where(place > last.argmax(1)[:, None], np.where(last.any(1)[:, None], EOS, said), said)
    said = np.where(place < length[:, None], said, rng.integers(0, SHAPE.vocab, said.shape))  # junk behind the end
    prompts = np.concatenate([np.full((rows, 1), BOS), text[:, : prompt - 1]], axis=1)
    return Responses(*(jnp.asarray(x, jnp.int32) for x in (prompts, said, length)))


@pytest.fixture(scope="module")
def network() -> Network:
    return transformer(SHAPE)


@pytest.fixture(scope="module")
def start(network: Network) -> Params:
    return network.init(jax.random.key(0))


def test_a_deterministic_language_is_learned(network: Network, start: Params) -> None:
    train, held_out = (token_rows(cyclic_language(np.random.default_rng(s), 64), response_only=True) for s in (0, 1))
    before = evaluate_language_model(network, start, held_out, batch=64)
    assert before > np.log(SHAPE.vocab) - 0.3
    losses: list[np.ndarray] = []
    result = train_language_model(
        network,
        start,
        train,
        seed=0,
        steps=150,
        batch=16,
        learning_rate=0.03,
        on_chunk=lambda members, step, part: losses.append(part),
    )
    assert result.losses.shape == (1, 150) and result.finite.tolist() == [True]
    np.testing.assert_array_equal(np.concatenate(losses, axis=1), result.losses)
    trained = jax.tree.map(lambda x: x[0], result.params)
    assert evaluate_language_model(network, trained, held_out, batch=64) < 0.05
    assert result.losses[0, 0] == pytest.approx(before, abs=0.5) and result.losses[0, -1] < 0.05


def test_evaluation_counts_each_token_once_whatever_the_batch(network: Network, start: Params) -> None:
    """Against the policy's own account of the same responses."""
    responses = cyclic_language(np.random.default_rng(2), 10)
    log_prob = jax.jit(policy(network).log_prob)(start, responses)
    expected = -float(log_prob.sum()) / int(responses.length.sum())
    rows = token_rows(responses, response_only=True)
    assert len(set(np.asarray(responses.length).tolist())) > 2
    for batch in (3, 5, 64):
        assert evaluate_language_model(network, start, rows, batch=batch) == pytest.approx(expected, rel=1e-5)


def test_weights_say_what_is_to_be_predicted() -> None:
    prompt = jnp.array([[BOS, 5, 6], [BOS, 7, 8]], jnp.int32)
    tokens = jnp.array([[4, EOS, 9, 9], [4, PAD, 5, 6]], jnp.int32)
    responses = Responses(prompt, tokens, jnp.array([2, 4]))
    whole, answer = (token_rows(responses, response_only=only) for only in (False, True))
    np.testing.assert_array_equal(whole.tokens, np.concatenate([prompt, tokens], axis=1))
    np.testing.assert_array_equal(answer.tokens, whole.tokens)
    np.testing.assert_array_equal(whole.weight, [[0, 1, 1, 1, 1, 0, 0], [0, 1, 1, 1, 1, 1, 1]])
    np.testing.assert_array_equal(answer.weight, [[0, 0, 0, 1, 1, 0, 0], [0, 0, 0, 1, 1, 1, 1]])


def test_a_token_is_predicted_from_those_before_it_where_it_has_weight(network: Network, start: Params) -> None:
    loss = jax.jit(partial(language_model_loss, network))
    rng = np.random.default_rng(3)
    tokens = jnp.asarray(rng.integers(0, SHAPE.vocab, (1, 5)), jnp.int32)
    hidden = jax.jit(network.hidden)(start, tokens)
    log_p = np.asarray(jax.nn.log_softmax(network.logits(start, hidden)[0]))
    for s in range(1, 5):
        rows = TokenRows(tokens, jnp.zeros((1, 5)).at[0, s].set(1.0))
        assert float(loss(start, rows)) == pytest.approx(-float(log_p[s - 1, tokens[0, s]]), rel=1e-4)
    first = TokenRows(tokens, jnp.zeros((1, 5)).at[0, 0].set(1.0))
    assert float(loss(start, first)) == 0.0  # nothing comes before the begin token
