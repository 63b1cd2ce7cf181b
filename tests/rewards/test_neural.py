"""A reward model scores a prompt and its response up to its end, and nothing else."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synthetic_rm.networks import transformer
from synthetic_rm.rewards.neural import NeuralReward, Readout, init_reward, neural_reward, raw_scores
from synthetic_rm.types import Array, Network, Params, Responses, Shape

SHAPE = Shape(vocab=11, width=8, layers=1, heads=2, hidden=12)
GROUPS, SAMPLES, PROMPT, TOKENS = 3, 4, 3, 5


class Scored(NamedTuple):
    network: Network
    params: Params
    responses: Responses
    """[GROUPS, SAMPLES]"""
    scores: Array


def random_params(network: Network, seed: int) -> Params:
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda key: init_reward(network, key), jax.random.key(0))
    return jax.tree.map(lambda x: jnp.asarray((x.ndim == 1) + 0.5 * rng.normal(size=x.shape), jnp.float32), shapes)


score = jax.jit(raw_scores, static_argnums=0)


@pytest.fixture(scope="module")
def scored() -> Scored:
    network = transformer(SHAPE)
    params = random_params(network, 0)
    rng = np.random.default_rng(1)
    prompt = np.repeat(rng.integers(3, SHAPE.vocab, (GROUPS, 1, PROMPT)), SAMPLES, axis=1)
    tokens = rng.integers(0, SHAPE.vocab, (GROUPS, SAMPLES, TOKENS))
    length = rng.permutation(np.arange(GROUPS * SAMPLES) % TOKENS + 1).reshape(GROUPS, SAMPLES)
    responses = Responses(*(jnp.asarray(x, jnp.int32) for x in (prompt, tokens, length)))
    return Scored(network, params, responses, score(network, params, responses))


@pytest.mark.parametrize("readout", ["mean", "last"])
def test_a_score_is_the_head_on_what_is_read_out(readout: Readout, scored: Scored) -> None:
    """Each row alone, cut where its response ends, so that nothing is left to pad."""
    weight, bias = (np.asarray(scored.params["head"][name], np.float64) for name in ("weight", "bias"))
    scores = jax.jit(partial(raw_scores, scored.network, readout=readout))(scored.params, scored.responses)
    hidden = jax.jit(scored.network.hidden)
    for g, n in ((0, 0), (0, 1), (1, 2), (2, 3)):
        prompt, tokens, length = (np.asarray(x[g, n]) for x in scored.responses)
        row = np.concatenate([prompt, tokens[:length]])
        states = np.asarray(hidden(scored.params["trunk"], jnp.asarray(row[None])), np.float64)[0]
        summary = states.mean(0) if readout == "mean" else states[-1]
        assert float(scores[g, n]) == pytest.approx(summary @ weight + float(bias), abs=1e-5)
    assert np.ptp(np.asarray(scores)) > 0.5


def test_padding_batch_size_and_order_change_no_score(scored: Scored) -> None:
    network, params, responses, scores = scored
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), responses)
    order = np.random.default_rng(2).permutation(GROUPS * SAMPLES)
    expected = np.asarray(scores).ravel()
    shuffled = jax.tree.map(lambda x: x[order], flat)
    longer = flat._replace(tokens=jnp.pad(flat.tokens, ((0, 0), (0, 2)), constant_values=7))
    single = jax.tree.map(lambda x: x[:1], flat)
    for changed, wanted in ((shuffled, expected[order]), (longer, expected), (single, expected[:1])):
        np.testing.assert_allclose(score(network, params, changed), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("junk", [0, 7, -100, 99])
def test_what_stands_beyond_the_end_does_not_matter(scored: Scored, junk: int) -> None:
    """Not even ids that do not exist; and what stands before it does."""
    network, params, responses, scores = scored
    beyond = np.arange(TOKENS) >= np.asarray(responses.length)[..., None]
    dirty = responses._replace(tokens=jnp.where(beyond, junk, responses.tokens))
    np.testing.assert_allclose(score(network, params, dirty), scores, rtol=1e-5, atol=1e-6)
    other = responses._replace(tokens=jnp.where(beyond, responses.tokens, (responses.tokens + 1) % SHAPE.vocab))
    assert np.all(np.abs(np.asarray(score(network, params, other) - scores)) > 1e-4)


def test_centring_is_affine_and_replaces_what_was_there(scored: Scored) -> None:
    plain = neural_reward(scored.network, scored.params, "mean")
    call = jax.jit(lambda reward, responses: reward(responses))
    raw = np.asarray(call(plain, scored.responses))
    assert np.abs(raw - np.asarray(scored.scores)).max() > 0.1  # which are of the last token
    once = plain.centred(raw.mean(), 1 / raw.std())
    scores = np.asarray(call(once, scored.responses))
    assert scores.mean() == pytest.approx(0, abs=1e-5) and scores.std() == pytest.approx(1, rel=1e-5)
    twice = np.asarray(call(once.centred(1.5, 3.0), scored.responses))
    np.testing.assert_allclose(twice, 3 * (raw - 1.5), rtol=1e-4, atol=1e-5)
    assert call._cache_size() == 1  # shift and scale are arrays: other values use the same program


@pytest.mark.parametrize("readout", ["mean", "last"])
@pytest.mark.parametrize("shared", [True, False], ids=["one prompt", "own prompts"])
def test_responses_read_from_one_row_score_as_each_alone(scored: Scored, readout: Readout, shared: bool) -> None:
    responses = jax.tree.map(lambda x: x[0], scored.responses)
    prompt, tokens, length = (np.asarray(x) for x in responses)
    begin = np.zeros((SAMPLES, 0), int) if shared else prompt
    texts = [np.concatenate([p, row[:n]]) for p, row, n in zip(begin, tokens, length, strict=True)]
    rows = [np.concatenate(texts[:2]), np.concatenate(texts[2:])]
    packed = np.stack([np.pad(row, (0, 20 - len(row))) for row in rows])
    lengths = np.array([[len(texts[0]), len(texts[1]), 0], [len(texts[2]), len(texts[3]), 0]])
    model = neural_reward(scored.network, scored.params, readout).centred(0.2, 1.5)
    first = jnp.asarray(prompt[0]) if shared else None
    read = jax.jit(lambda model, first, *rows: model.reader(first)(*rows))
    found = read(model, first, jnp.asarray(packed), jnp.asarray(lengths))
    expected = jax.jit(lambda model, responses: model(responses))(model, responses)
    np.testing.assert_allclose(np.asarray(found)[:, :2].ravel(), expected, rtol=1e-5, atol=1e-6)
    assert np.ptp(np.asarray(expected)) > 0.5
    assert bool(jnp.isfinite(found).all())


def test_a_stack_of_reward_models_is_mapped_like_any_pytree(scored: Scored) -> None:
    members = [neural_reward(scored.network, random_params(scored.network, s)).centred(s, s + 1.0) for s in range(3)]
    stack = jax.tree.map(lambda *x: jnp.stack(x), *members)
    assert isinstance(stack, NeuralReward)
    mapped = jax.jit(jax.vmap(lambda reward: reward(scored.responses)))(stack)
    for scores, member in zip(mapped, members, strict=True):
        shifted = member.scale * (score(scored.network, member.params, scored.responses) - member.shift)
        np.testing.assert_allclose(scores, shifted, rtol=1e-4, atol=1e-5)


def test_a_new_reward_model_keeps_its_backbone_and_starts_at_random(scored: Scored) -> None:
    network, trunk = scored.network, scored.params["trunk"]
    first, again, other = (init_reward(network, jax.random.key(k), trunk) for k in (0, 0, 1))
    assert first["trunk"] is trunk
    np.testing.assert_array_equal(first["head"]["weight"], again["head"]["weight"])
    assert np.all(np.asarray(first["head"]["weight"]) != np.asarray(other["head"]["weight"]))
    assert float(first["head"]["bias"]) == 0
    starts = [init_reward(network, jax.random.key(k), trunk)["head"]["weight"] for k in range(40)]
    assert 0.1 < np.std(starts) < 1
    fresh = init_reward(network, jax.random.key(0))["trunk"]["embed"]["embedding"]
    assert np.abs(np.asarray(fresh - init_reward(network, jax.random.key(1))["trunk"]["embed"]["embedding"])).min() > 0


@pytest.mark.parametrize("width", [8, 64])
def test_a_fresh_head_gives_scores_of_deviation_about_1(width: int) -> None:
    """Deviation 1 / sqrt(D + 1), over many keys."""
    network = transformer(Shape(vocab=11, width=width, layers=1, heads=2, hidden=12))
    trunk = network.init(jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 200)
    heads = np.asarray(jax.vmap(lambda key: init_reward(network, key, trunk)["head"]["weight"])(keys))
    assert heads.std() * np.sqrt(width + 1) == pytest.approx(1, rel=0.1)
    assert heads.mean() == pytest.approx(0, abs=5 / np.sqrt((width + 1) * heads.size))
