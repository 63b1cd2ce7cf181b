"""The sampler draws from the policy itself: against inversion in float64, and every response of a tiny world."""

import re
from collections import Counter
from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synthetic_rm.networks import transformer
from synthetic_rm.policies import policy
from synthetic_rm.sampling import sample, sample_tokens
from synthetic_rm.types import EOS, PAD, Array, Network, Params, Responses, Shape

draw_tokens = jax.jit(sample_tokens)
LARGEST = np.float32(1 - 2**-24)
"""the largest float32 below 1"""


@pytest.mark.parametrize("vocab", [1, 2, 5, 11, 64, 67])
def test_tokens_are_the_inverse_of_the_distribution_function(vocab: int) -> None:
    """On a grid of uniforms finer than any probability: each token is drawn as often as its probability says."""
    points = 4096
    logits = np.random.default_rng(vocab).normal(size=vocab).astype(np.float32) * 2
    uniform = ((np.arange(points) + 0.5) / points).astype(np.float32)
    tokens, log_probs = draw_tokens(jnp.tile(logits, (points, 1)), jnp.asarray(uniform))
    weight = np.exp(logits.astype(np.float64))
    p = weight / weight.sum()
    counts = np.bincount(tokens, minlength=vocab)
    assert np.abs(counts - points * p).max() <= 1.01
    edges = np.cumsum(p)
    clear = np.abs(uniform[:, None] - edges).min(-1) > 1e-5
    expected = np.minimum(np.searchsorted(edges, uniform, side="right"), vocab - 1)
    np.testing.assert_array_equal(np.asarray(tokens)[clear], expected[clear])
    assert clear.mean() > 0.98
    np.testing.assert_allclose(log_probs, np.log(p)[np.asarray(tokens)], atol=1e-5)


def test_ties_are_shared_evenly_and_shifts_change_nothing() -> None:
    points = 660
    uniform = jnp.float32((np.arange(points) + 0.5) / points)
    for shift in (0.0, 1e4, -1e4):
        tokens, log_probs = draw_tokens(jnp.full((points, 11), shift, jnp.float32), uniform)
        np.testing.assert_array_equal(np.bincount(tokens, minlength=11), 60)
        np.testing.assert_allclose(log_probs, -np.log(11), rtol=1e-6)


def test_the_ends_of_the_uniforms_give_the_first_and_last_possible_tokens() -> None:
    logits = np.full((4, 11), -1e30, np.float32)
    logits[:, 3:7] = np.random.default_rng(0).normal(size=4)
    logits[2:] = -np.inf
    logits[2:, 5] = 0.0
    tokens, log_probs = draw_tokens(jnp.asarray(logits), jnp.array([0.0, LARGEST] * 2, jnp.float32))
    np.testing.assert_array_equal(tokens, [3, 6, 5, 5])
    assert np.all(np.asarray(log_probs)[2:] == 0)


@pytest.mark.parametrize("vocab", [64, 300])
def test_a_forbidden_token_is_never_drawn(vocab: int) -> None:
    """Half of the tokens have no mass; uniforms are 0, the largest, and those around the edges of the tokens."""
    rng, rows = np.random.default_rng(vocab), 6000
    logits = (rng.normal(size=(rows, vocab)) * 3).astype(np.float32)
    logits[rng.random(logits.shape) < 0.5] = -1e30
    edges = np.cumsum(np.exp(logits - logits.max(-1, keepdims=True), dtype=np.float64), axis=-1)
    edge = edges[np.arange(rows), rng.integers(0, vocab, rows)] / edges[:, -1]
    uniform = np.clip(edge - rng.integers(-3, 4, rows) * 2.0**-24, 0, LARGEST).astype(np.float32)
    uniform[: rows // 6], uniform[rows // 6 : rows // 3] = 0.0, LARGEST
    tokens, log_probs = draw_tokens(jnp.asarray(logits), jnp.asarray(uniform))
    forbidden = logits[np.arange(rows), np.asarray(tokens)] == -1e30
    assert forbidden.sum() == 0
    assert np.all(np.asarray(log_probs) > -100)


GROUPS, SAMPLES, TOKENS, PROMPT = 2, 6000, 3, 3
SHAPE = Shape(vocab=4, width=8, layers=2, heads=2, hidden=12)
Sampler = Callable[[Params, Array, Array], tuple[Responses, Array]]


class World(NamedTuple):
    """Everything that a policy of four tokens can say in three, and what it was heard to say."""

    network: Network
    params: Params
    sampler: Sampler
    prompts: Array
    drawn: Responses
    log_probs: np.ndarray


def random_params(network: Network, seed: int) -> Params:
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    return jax.tree.map(lambda x: jnp.asarray((x.ndim == 1) + 0.5 * rng.normal(size=x.shape), jnp.float32), shapes)


@pytest.fixture(scope="module")
def world() -> World:
    network = transformer(SHAPE)
    sampler = jax.jit(lambda params, key, prompts: sample(network, params, key, prompts, SAMPLES, TOKENS))
    params, prompts = random_params(network, 0), jnp.array([[1, 3, 0], [1, 0, 3]], jnp.int32)
    drawn, log_probs = sampler(params, jax.random.key(0), prompts)
    return World(network, params, sampler, prompts, jax.tree.map(np.asarray, drawn), np.asarray(log_probs))


def every_response() -> list[tuple[int, ...]]:
    """Those that end with an end token, and those that are cut after TOKENS."""
    rows = (row for length in range(1, TOKENS + 1) for row in product(range(SHAPE.vocab), repeat=length))
    return [row for row in rows if EOS not in row[:-1] and (row[-1] == EOS or len(row) == TOKENS)]


def test_responses_come_as_often_as_the_policy_says(world: World) -> None:
    rows = every_response()
    tokens = jnp.array([[*row, *[PAD] * (TOKENS - len(row))] for row in rows], jnp.int32)
    log_prob = jax.jit(policy(world.network).log_prob)
    for g in range(GROUPS):
        prompt = jnp.tile(world.prompts[g], (len(rows), 1))
        p = np.exp(log_prob(world.params, Responses(prompt, tokens, jnp.array([len(r) for r in rows]))).sum(-1))
        lengths = world.drawn.length[g]
        seen = Counter(tuple(row[:n].tolist()) for row, n in zip(world.drawn.tokens[g], lengths, strict=True))
        counts = np.array([seen.pop(row, 0) for row in rows])
        assert not seen
        assert p.sum() == pytest.approx(1, abs=1e-5)
        error = (counts - SAMPLES * p) / np.sqrt(SAMPLES * p * (1 - p))
        assert np.abs(error).max() < 4.5
        chi_square = np.sum((counts - SAMPLES * p) ** 2 / (SAMPLES * p))
        assert chi_square < len(rows) + 4 * np.sqrt(2 * len(rows))
        uniform_chi_square = np.sum((counts - SAMPLES / len(rows)) ** 2 / (SAMPLES / len(rows)))
        assert uniform_chi_square > 10 * len(rows)  # a sampler blind to the policy would be noticed


def test_log_probabilities_are_those_of_the_full_pass(world: World) -> None:
    flat = jax.tree.map(lambda x: jnp.asarray(x[:, :500].reshape(-1, *x.shape[2:])), world.drawn)
    full = jax.jit(policy(world.network).log_prob)(world.params, flat)
    np.testing.assert_allclose(world.log_probs[:, :500].reshape(-1, TOKENS), full, atol=2e-5)


def test_ends_are_explicit(world: World) -> None:
    """Read off the tokens one row at a time: the end token counts, nothing behind it does."""
    tokens, lengths = world.drawn.tokens.reshape(-1, TOKENS), world.drawn.length.ravel()
    for row, length, log_probs in zip(tokens, lengths, world.log_probs.reshape(-1, TOKENS), strict=True):
        ends = np.flatnonzero(row == EOS)
        assert length == (ends[0] + 1 if len(ends) else TOKENS)
        assert np.all(row[length:] == PAD) and np.all(log_probs[length:] == 0)
        assert np.all(log_probs[:length] < 0)
    cut = (lengths == TOKENS) & (tokens[:, -1] != EOS)
    assert {1, 2, 3} == set(lengths.tolist()) and cut.any()
    assert (tokens[lengths == TOKENS] == PAD).any()  # a pad token may be said: it ends nothing
    np.testing.assert_array_equal(world.drawn.prompt, np.repeat(world.prompts[:, None], SAMPLES, axis=1))


def test_the_key_decides_and_other_prompts_do_not(world: World) -> None:
    again, other_key = (world.sampler(world.params, jax.random.key(k), world.prompts)[0] for k in (0, 1))
    neighbour = world.sampler(world.params, jax.random.key(0), world.prompts.at[1].set(jnp.array([1, 3, 3])))[0]
    np.testing.assert_array_equal(again.tokens, world.drawn.tokens)
    assert (np.asarray(other_key.tokens) != world.drawn.tokens).any(-1).mean() > 0.3
    np.testing.assert_array_equal(neighbour.tokens[0], world.drawn.tokens[0])
    assert (np.asarray(neighbour.tokens[1]) != world.drawn.tokens[1]).any()
    halves = [row[: SAMPLES // 2] for row in world.drawn.tokens], [row[SAMPLES // 2 :] for row in world.drawn.tokens]
    assert (np.array(halves[0]) != np.array(halves[1])).any(-1).mean() > 0.3  # samples do not repeat each other


def test_other_parameters_and_keys_use_the_same_program(world: World) -> None:
    traces = []

    @jax.jit
    def counted(params: Params, key: Array, prompts: Array) -> Array:
        traces.append(1)
        return sample(world.network, params, key, prompts, 2, 2)[0].tokens

    trained = jax.tree.map(lambda x: x * 0.5, world.params)
    first = counted(world.params, jax.random.key(0), world.prompts)
    for params, key in ((trained, 0), (trained, 1), (random_params(world.network, 1), 2)):
        assert counted(params, jax.random.key(key), world.prompts).shape == first.shape
    assert len(traces) == 1


def test_a_prompt_is_read_once_and_not_once_per_sample(world: World) -> None:
    read = []

    def prefill(params: Params, prompts: Array) -> tuple[Array, Params]:
        read.append(prompts.shape)
        return world.network.prefill(params, prompts)

    def hidden(params: Params, tokens: Array) -> Array:
        raise AssertionError("the sampler must not run the full pass")

    network = world.network._replace(prefill=prefill, hidden=hidden)
    jax.eval_shape(lambda p: sample(network, p, jax.random.key(0), world.prompts, 5, 4), world.params)
    assert read == [(GROUPS, PROMPT)]


def computations(program: str, kind: str) -> dict[str, int]:
    """How many operations of a kind each computation of an HLO text has, the entry's under ENTRY."""
    found: Counter[str] = Counter()
    name = ""
    for line in program.splitlines():
        if line.endswith("{") and not line.startswith(" "):
            name = line.split()[0]
        elif kind in line:
            found[name] += 1
    return dict(found)


def test_the_cache_is_not_copied_from_step_to_step(world: World) -> None:
    """Keys and values are written where they lie: copies of them are made outside of the loop, if anywhere."""
    samples, tokens = 5, 9

    def draw(params: Params, prompts: Array) -> Array:
        return sample(world.network, params, jax.random.key(0), prompts, samples, tokens)[0].tokens

    program = jax.jit(draw).lower(world.params, world.prompts).compile().as_text()
    shape = rf"f32\[{GROUPS},{samples},{SHAPE.heads},{tokens - 1},{SHAPE.width // SHAPE.heads}\]\S*"
    once = jax.jit(lambda x: (x.at[0, 0].set(1.0), x)).lower(jnp.zeros((GROUPS, samples, 2, 8, 4))).compile().as_text()
    assert computations(re.sub(shape, "CACHE", once), "= CACHE copy(")  # what a copy looks like
    program = re.sub(shape, "CACHE", program)
    assert computations(program, "= CACHE dynamic-update-slice(")
    assert set(computations(program, "= CACHE copy(")) <= {"ENTRY"}


def test_a_single_token_can_be_sampled(world: World) -> None:
    drawn, log_probs = jax.jit(lambda key: sample(world.network, world.params, key, world.prompts, SAMPLES, 1))(
        jax.random.key(3)
    )
    assert drawn.tokens.shape == log_probs.shape == (GROUPS, SAMPLES, 1)
    assert np.all(np.asarray(drawn.length) == 1)
    hidden = jax.jit(world.network.hidden)(world.params, world.prompts)[:, -1]
    logits = np.asarray(world.network.logits(world.params, hidden), np.float64)
    exact = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    for g in range(GROUPS):
        tokens = np.asarray(drawn.tokens[g, :, 0])
        counts = np.bincount(tokens, minlength=SHAPE.vocab)
        assert np.abs(counts - SAMPLES * exact[g]).max() < 4.5 * np.sqrt(SAMPLES / 4)
        np.testing.assert_allclose(log_probs[g, :, 0], np.log(exact[g])[tokens], atol=1e-5)
    assert np.abs(exact[0] - exact[1]).max() > 10 / np.sqrt(SAMPLES)  # each prompt has its own
