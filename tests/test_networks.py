"""The decoder against a float64 transcription of its formulas, and its invariances."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from synthetic_rm.ladder import count_parameters
from synthetic_rm.networks import ROTARY_BASE, angles, rotate, softmax, transformer
from synthetic_rm.types import Array, Network, Params, Shape

SHAPE = Shape(vocab=11, width=8, layers=2, heads=2, hidden=12)
ROWS, LENGTH, PROMPT = 4, 7, 3
Hidden = Callable[[Params, Array], Array]
CLOSE = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def network() -> Network:
    return transformer(SHAPE)


def random_params(network: Network, seed: int) -> Params:
    """Parameters all of which matter: the norms' scales are not all 1."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    return jax.tree.map(lambda x: jnp.asarray((x.ndim == 1) + 0.4 * rng.normal(size=x.shape), jnp.float32), shapes)


@pytest.fixture(scope="module")
def params(network: Network) -> Params:
    return random_params(network, 0)


@pytest.fixture(scope="module")
def tokens() -> Array:
    """[ROWS, LENGTH] ids, no id twice in a row."""
    rng = np.random.default_rng(1)
    return jnp.asarray([rng.permutation(SHAPE.vocab)[:LENGTH] for _ in range(ROWS)], dtype=jnp.int32)


@pytest.fixture(scope="module")
def hidden(network: Network) -> Hidden:
    return jax.jit(network.hidden)


def reference_hidden(params: Params, tokens: Array, shape: Shape) -> np.ndarray:
    """The decoder written out, one row and one head at a time, in float64."""

    def norm(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
        return x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + 1e-6) * scale

    def turn(x: np.ndarray) -> np.ndarray:
        """Rotary positions as multiplication of complex numbers."""
        half = x.shape[-1] // 2
        angle = np.arange(len(x))[:, None] * ROTARY_BASE ** (-np.arange(half) / half)
        z = (x[:, :half] + 1j * x[:, half:]) * np.exp(1j * angle)
        return np.concatenate([z.real, z.imag], axis=-1)

    def row(ids: np.ndarray) -> np.ndarray:
        x = params["embed"]["embedding"][ids]
        for layer in range(shape.layers):
            block = params["blocks"][layer]
            y = norm(x, block["attention_norm"]["scale"])
            query, key, value = (
                np.split(y @ block[n]["kernel"], shape.heads, axis=-1) for n in ("query", "key", "value")
            )
            mixed = []
            for q, k, v in zip(query, key, value, strict=True):
                scores = turn(q) @ turn(k).T / np.sqrt(q.shape[-1])
                weight = np.tril(np.exp(scores))
                mixed.append(weight / weight.sum(-1, keepdims=True) @ v)
            x = x + np.concatenate(mixed, axis=-1) @ block["attention_out"]["kernel"]
            y = norm(x, block["feed_forward_norm"]["scale"])
            gate = y @ block["gate"]["kernel"]
            x = x + (gate / (1 + np.exp(-gate)) * (y @ block["up"]["kernel"])) @ block["down"]["kernel"]
        return norm(x, params["norm"]["scale"])

    return np.stack([row(ids) for ids in np.asarray(tokens)])


def in_float64(params: Params) -> Params:
    return jax.tree.map(lambda x: np.asarray(x, np.float64), params)


def test_hidden_states_and_logits_are_those_of_the_formulas(
    network: Network, hidden: Hidden, params: Params, tokens: Array
) -> None:
    expected = reference_hidden(in_float64(params), tokens, SHAPE)
    found = hidden(params, tokens)
    CLOSE(found, expected)
    table = np.asarray(params["embed"]["embedding"], np.float64)
    CLOSE(network.logits(params, found), expected @ table.T, atol=1e-4)


def test_the_gradient_is_the_slope_of_the_formulas(network: Network, params: Params, tokens: Array) -> None:
    """Along random directions of the parameter space: the hand-written backward passes, and the barriers."""
    rng = np.random.default_rng(2)
    weight = rng.normal(size=(ROWS, LENGTH, SHAPE.width))
    gradient = jax.jit(jax.grad(lambda p: (network.hidden(p, tokens) * jnp.float32(weight)).sum()))(params)
    for _ in range(3):
        direction = jax.tree.map(lambda x: rng.normal(size=x.shape), params)
        up, down = (
            (reference_hidden(jax.tree.map(lambda x, d, e=e: x + e * d, in_float64(params), direction), tokens, SHAPE))
            for e in (1e-5, -1e-5)
        )
        slope = ((up - down) * weight).sum() / 2e-5
        along = sum(jax.tree.leaves(jax.tree.map(lambda g, d: float((np.asarray(g) * d).sum()), gradient, direction)))
        assert along == pytest.approx(slope, rel=1e-3)


def test_no_position_sees_a_later_token(network: Network, params: Params, tokens: Array) -> None:
    """By gradient: ids are distinct, so the embedding row of an id is the input of one position."""
    row = tokens[:1]
    probe = jax.random.normal(jax.random.key(3), (SHAPE.width,))

    def outputs(table: Array) -> Array:
        return network.hidden({**params, "embed": {"embedding": table}}, row)[0] @ probe

    slopes = jax.jit(jax.jacrev(outputs))(params["embed"]["embedding"])  # [position, id, width]
    size = np.abs(np.asarray(slopes)).max(-1)
    by_position = size[:, np.asarray(row[0])]
    assert np.all(by_position[np.triu_indices(LENGTH, 1)] == 0)
    assert np.all(by_position[np.tril_indices(LENGTH)] > 1e-4)
    absent = np.setdiff1d(np.arange(SHAPE.vocab), row[0])
    assert np.all(size[:, absent] == 0)


def test_decoding_on_the_prompt_cache_equals_the_full_pass(network: Network, hidden: Hidden, params: Params) -> None:
    groups, samples, steps = 3, 2, LENGTH - PROMPT
    rows = jax.random.randint(jax.random.key(4), (groups, samples, LENGTH), 0, SHAPE.vocab)
    rows = rows.at[:, :, :PROMPT].set(rows[:, :1, :PROMPT])

    @jax.jit
    def cached(params: Params, rows: Array) -> tuple[Array, Array]:
        read, prompt = network.prefill(params, rows[:, 0, :PROMPT])

        def body(cache: Params, step: Array) -> tuple[Params, Array]:
            token = jax.lax.dynamic_index_in_dim(rows, PROMPT + step, axis=2, keepdims=False)
            out, cache = network.decode(params, prompt, cache, token, step)
            return cache, out

        empty = network.response_cache(groups, samples, steps)
        return read, jax.lax.scan(body, empty, jnp.arange(steps))[1]

    read, decoded = cached(params, rows)
    full = hidden(params, rows.reshape(-1, LENGTH)).reshape(groups, samples, LENGTH, -1)
    CLOSE(read, full[:, 0, :PROMPT])
    CLOSE(np.moveaxis(np.asarray(decoded), 0, 2), full[:, :, PROMPT:])


@pytest.mark.parametrize("prompt", [0, PROMPT])
def test_texts_that_share_a_row_are_read_as_each_alone(
    network: Network, hidden: Hidden, params: Params, prompt: int
) -> None:
    """After one prompt or none; rows are filled to different ends, and one holds fewer texts than places for them."""
    rng, size = np.random.default_rng(5), 8
    begin = rng.integers(0, SHAPE.vocab, (1, prompt))
    length = np.array([[3, 4, 1], [8, 0, 0], [2, 2, 0], [1, 1, 5]])
    tokens = rng.integers(0, SHAPE.vocab, (len(length), size))

    @jax.jit
    def packed(params: Params, tokens: Array) -> Array:
        cache = network.prefill(params, jnp.asarray(begin))[1] if prompt else None
        return network.packed(params, cache, tokens, jnp.asarray(length))

    found = packed(params, jnp.asarray(tokens))
    assert bool(jnp.isfinite(found).all())
    for row, lengths in enumerate(length):
        for start, end in zip(np.cumsum(lengths) - lengths, np.cumsum(lengths), strict=True):
            text = np.concatenate([begin[0], tokens[row, start:end]])
            padded = jnp.asarray(np.pad(text, (0, PROMPT + size - len(text))))[None]  # one shape: one program
            CLOSE(found[row, start:end], hidden(params, padded)[0, prompt : len(text)])


def test_batch_size_order_and_padding_change_nothing(hidden: Hidden, params: Params, tokens: Array) -> None:
    together = hidden(params, tokens)
    order = np.array([2, 0, 3, 1])
    CLOSE(hidden(params, tokens[order]), together[order])
    CLOSE(hidden(params, tokens[1:2]), together[1:2])
    padded = jnp.concatenate([tokens, tokens[:, :2] * 0 + 7], axis=1)
    CLOSE(hidden(params, padded)[:, :LENGTH], together)
    assert np.abs(together[order] - together).max() > 0.1  # the rows do differ


def test_vmap_over_parameters_equals_a_loop(network: Network, hidden: Hidden, tokens: Array) -> None:
    members = [random_params(network, seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *members)
    mapped = jax.jit(jax.vmap(network.hidden, in_axes=(0, None)))(stacked, tokens)
    for i, member in enumerate(members):
        CLOSE(mapped[i], hidden(member, tokens))


def test_initial_parameters_are_a_function_of_the_key(network: Network) -> None:
    """The same key, the same numbers; and no two matrices, of one key or of two, share their draws."""
    first, again, other = (jax.tree.leaves(network.init(jax.random.key(k))) for k in (6, 6, 7))
    draws = []
    for x, y, z in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(x, y)
        draws += [float(x.ravel()[0]), float(z.ravel()[0])] if x.ndim == 2 else []
    assert len(set(draws)) == len(draws) == 2 * (1 + 7 * SHAPE.layers)


def test_arrays_are_as_many_as_counted(network: Network) -> None:
    arrays = jax.tree.leaves(jax.eval_shape(network.init, jax.random.key(0)))
    assert sum(x.size for x in arrays) == count_parameters(SHAPE).total
    assert transformer(Shape(*SHAPE)) is network


def test_bfloat16_is_near_float32_and_leaves_in_float32(tokens: Array) -> None:
    shape = SHAPE._replace(layers=1)
    networks = transformer(shape), transformer(shape, jnp.bfloat16)
    params = random_params(networks[1], 1)
    assert {x.dtype for x in jax.tree.leaves(params)} == {np.dtype("float32")}

    slopes = jax.eval_shape(jax.grad(lambda p: networks[1].hidden(p, tokens).sum()), params)
    assert {x.dtype for x in jax.tree.leaves(slopes)} == {np.dtype("float32")}
    exact, rough = (jax.jit(network.hidden)(params, tokens) for network in networks)
    assert rough.dtype == jnp.float32
    error = np.linalg.norm(exact - rough) / np.linalg.norm(exact)
    assert 1e-4 < error < 0.05  # not float32 under another name, and not another function
    logits = networks[1].logits(params, rough)  # not jitted: a compiler may keep more digits than it was asked for
    assert logits.dtype == jnp.float32
    assert bool((logits.astype(jnp.bfloat16).astype(jnp.float32) != logits).any())  # sums kept in float32


def test_softmax_has_the_derived_gradient() -> None:
    x = jax.random.normal(jax.random.key(8), (3, 5)) * 3
    hidden = x.at[:, 3:].set(-1e30)
    cotangent = jax.random.normal(jax.random.key(9), (3, 5))
    for values in (x, hidden):
        ours, derived = (jax.vjp(f, values) for f in (softmax, jax.nn.softmax))
        CLOSE(ours[0], derived[0])
        CLOSE(ours[1](cotangent)[0], derived[1](cotangent)[0], atol=1e-6)
    check_grads(softmax, (x,), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)
    assert np.all(np.asarray(jax.vjp(softmax, hidden)[1](cotangent)[0])[:, 3:] == 0)


def test_rotation_keeps_lengths_and_sees_distances_alone() -> None:
    query, key = jax.random.normal(jax.random.key(10), (2, 1, 1, 6))

    def turned(x: Array, m: int) -> Array:
        return rotate(x, angles(SHAPE._replace(width=12), jnp.array([m])))

    def product(m: int, n: int) -> float:
        return float((turned(query, m) * turned(key, n)).sum())

    assert product(9, 4) == pytest.approx(product(25, 20), abs=1e-5)
    assert abs(product(9, 4) - product(4, 9)) > 1e-2
    CLOSE(jnp.linalg.norm(turned(query, 13)), jnp.linalg.norm(query))
    CLOSE(turned(query, 0), query)
