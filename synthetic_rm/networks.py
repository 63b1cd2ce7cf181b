"""F2: the decoder transformer behind `Network`.

RMSNorm, rotary positions, gated feed-forward, tied embeddings (the Llama shape). The only file that imports flax.nnx,
and it uses nnx modules as pytrees only. Rows and positions are kept flat, [B * S, D], wherever they need not be apart,
and values that a CPU backend would recompute inside every consumer are pinned by `optimization_barrier`: together they
make a training step about three times faster there and change no number.
"""

from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from synthetic_rm.types import Array, Network, Params, Shape

ROTARY_BASE = 10_000.0
_pin = jax.lax.optimization_barrier


class Block(nnx.Module):
    """One pre-norm layer's parameters."""

    def __init__(self, shape: Shape, dtype: Any, rngs: nnx.Rngs):
        def linear(inputs: int, outputs: int, scale: float = 1.0) -> nnx.Linear:
            init = nnx.initializers.normal(scale * inputs**-0.5)
            return nnx.Linear(inputs, outputs, use_bias=False, dtype=dtype, kernel_init=init, rngs=rngs)

        width, hidden = shape.width, shape.hidden
        residual = (2 * shape.layers) ** -0.5
        self.attention_norm = nnx.RMSNorm(width, dtype=dtype, rngs=rngs)
        self.query, self.key, self.value = (linear(width, width) for _ in range(3))
        self.attention_out = linear(width, width, residual)
        self.feed_forward_norm = nnx.RMSNorm(width, dtype=dtype, rngs=rngs)
        self.gate, self.up = linear(width, hidden), linear(width, hidden)
        self.down = linear(hidden, width, residual)


class Transformer(nnx.Module):
    """The parameters of a decoder of the given shape."""

    def __init__(self, shape: Shape, dtype: Any, rngs: nnx.Rngs):
        init = nnx.initializers.normal(shape.width**-0.5)
        self.embed = nnx.Embed(shape.vocab, shape.width, embedding_init=init, dtype=dtype, rngs=rngs)
        self.blocks = nnx.List([Block(shape, dtype, rngs) for _ in range(shape.layers)])
        self.norm = nnx.RMSNorm(shape.width, dtype=dtype, rngs=rngs)


class Cache(NamedTuple):
    """Rotated keys and values of every layer."""

    keys: tuple[Array, ...]
    values: tuple[Array, ...]


@jax.custom_vjp
def softmax(x: Array) -> Array:
    """Softmax over the last axis, with a backward pass that reuses the forward's result."""
    return jax.nn.softmax(x, axis=-1)


def _softmax_forward(x: Array) -> tuple[Array, Array]:
    p = _pin(jax.nn.softmax(x, axis=-1))
    return p, p


def _softmax_backward(p: Array, g: Array) -> tuple[Array]:
    return (_pin(p * (g - (p * g).sum(-1, keepdims=True))),)


softmax.defvjp(_softmax_forward, _softmax_backward)


def angles(shape: Shape, position: Array) -> tuple[Array, Array]:
    """Cosine and sine [..., 1, d] of position * base^(-2i/d), i < d/2 twice over, for positions [...]."""
    half = shape.width // shape.heads // 2
    frequency = ROTARY_BASE ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = position[..., None, None] * jnp.tile(frequency, 2).reshape((1,) * (position.ndim + 1) + (-1,))
    return jnp.cos(angle), jnp.sin(angle)


def rotate(x: Array, turn: tuple[Array, Array]) -> Array:
    """Rotary embedding: (x_i, x_{i + d/2}) of x [..., H, d] turned by its `angles`."""
    half = x.shape[-1] // 2
    eye, zero = jnp.eye(half, dtype=x.dtype), jnp.zeros((half, half), x.dtype)
    quarter_turn = jnp.block([[zero, eye], [-eye, zero]])
    turned = jnp.matmul(x, quarter_turn, precision="highest")
    cosine, sine = (part.astype(x.dtype) for part in turn)
    return x * cosine + turned * sine


def _projections(shape: Shape, block: Block, x: Array, rows: tuple[int, ...], turn: tuple[Array, Array]) -> list[Array]:
    """Queries, keys (both rotated) and values [*rows, H, d] of flat activations x [prod(rows), D]."""
    normed = block.attention_norm(x)
    heads = (*rows, shape.heads, shape.width // shape.heads)
    query, key, value = (f(normed).reshape(heads) for f in (block.query, block.key, block.value))
    query = query * (shape.width // shape.heads) ** -0.5
    return list(_pin((rotate(query, turn), rotate(key, turn), value)))


def _feed_forward(block: Block, x: Array) -> Array:
    normed = block.feed_forward_norm(x)
    gate = block.gate(normed)
    sigmoid = _pin(0.5 + 0.5 * jnp.tanh(0.5 * gate))
    return x + block.down(gate * sigmoid * block.up(normed))


def _attend(
    shape: Shape, model: Transformer, tokens: Array, turn: tuple[Array, Array], visible: Array, prompt: Cache | None
) -> tuple[Array, Cache]:
    """Hidden states [B, S, D] of tokens [B, S] that see what is `visible` [B or 1, 1, S, P + S] of the prompt and them.

    The prompt's keys and values [1, P, H, d] are those of every row. The cache holds the tokens' own.
    """
    rows, length = tokens.shape
    # what stands beyond an end may be anything; inside a response `scoring.check_responses` refuses other ids
    x = model.embed(jnp.clip(tokens.reshape(-1), 0, shape.vocab - 1))
    keys, values = [], []
    for i, block in enumerate(model.blocks):
        query, key, value = _projections(shape, block, x, (rows, length), turn)
        keys.append(key)
        values.append(value)
        if prompt is not None:
            key, value = (
                jnp.concatenate([jnp.broadcast_to(past[i], (rows, *past[i].shape[1:])), new], axis=1)
                for past, new in ((prompt.keys, key), (prompt.values, value))
            )
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=jnp.float32)
        attention = softmax(jnp.where(visible, scores, -1e30)).astype(value.dtype)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", attention, value).reshape(x.shape)
        x = _feed_forward(block, x + block.attention_out(mixed))
    return model.norm(x).reshape(rows, length, shape.width), Cache(tuple(keys), tuple(values))


def _causal(shape: Shape, model: Transformer, tokens: Array) -> tuple[Array, Cache]:
    position = jnp.arange(tokens.shape[1])
    visible = (position[:, None] >= position[None, :])[None, None]
    return _attend(shape, model, tokens, angles(shape, position[None]), visible, None)


def _packed(shape: Shape, model: Transformer, prompt: Cache | None, tokens: Array, length: Array) -> Array:
    rows, size = tokens.shape
    before = 0 if prompt is None else prompt.keys[0].shape[1]
    place, ends = jnp.arange(size)[None], jnp.cumsum(length, axis=1)[:, None]
    starts = ends - length[:, None]
    text = (place[..., None] >= ends).sum(-1)  # [B, S] number of the text that a token belongs to
    start = jnp.where(place[..., None] >= starts, starts, 0).max(-1)
    same = (text[:, :, None] == text[:, None, :]) & (place[..., None] >= place[:, None])
    visible = jnp.concatenate([jnp.ones((rows, size, before), bool), same], axis=-1)
    table = angles(shape, jnp.arange(before + size))
    turn = tuple(_pin(x[before + place - start]) for x in table)
    return _attend(shape, model, tokens, turn, _pin(visible)[:, None], prompt)[0]


def _decode(
    shape: Shape, model: Transformer, prompt: Cache, response: Cache, tokens: Array, step: Array
) -> tuple[Array, Cache]:
    groups, samples = tokens.shape
    prompt_length, capacity = prompt.keys[0].shape[1], response.keys[0].shape[3]
    turn = angles(shape, jnp.full((1, 1), prompt_length + step))
    visible = (jnp.arange(capacity) <= step)[None, None, None]
    x = model.embed(tokens.reshape(-1))
    keys, values = [], []
    for i, block in enumerate(model.blocks):
        query, key, value = _projections(shape, block, x, (groups, samples), turn)
        key = jax.lax.dynamic_update_index_in_dim(response.keys[i], key, step, 3)
        value = jax.lax.dynamic_update_index_in_dim(response.values[i], value, step, 3)
        past = jnp.einsum("gnhd,gphd->gnhp", query, prompt.keys[i], preferred_element_type=jnp.float32)
        new = jnp.einsum("gnhd,gnhtd->gnht", query, key, preferred_element_type=jnp.float32)
        scores = jnp.concatenate([past, jnp.where(visible, new, -1e30)], axis=-1)
        attention = _pin(jax.nn.softmax(scores, axis=-1).astype(x.dtype))
        mixed = jnp.einsum("gnhp,gphd->gnhd", attention[..., :prompt_length], prompt.values[i])
        mixed += jnp.einsum("gnht,gnhtd->gnhd", attention[..., prompt_length:], value)
        x = _feed_forward(block, x + block.attention_out(mixed.reshape(x.shape)))
        keys.append(key)
        values.append(value)
    return model.norm(x).reshape(groups, samples, shape.width), Cache(tuple(keys), tuple(values))


@cache
def transformer(shape: Shape, dtype: Any = jnp.float32) -> Network:
    """The decoder of `shape`; matrix products are in `dtype`, their sums, softmax and outputs in float32.

    Cached: equal arguments give the same object, so programs compiled for it are found again.
    """
    graph = jax.eval_shape(lambda: nnx.split(Transformer(shape, dtype, nnx.Rngs(0))))[0]
    build = partial(nnx.merge, graph)

    def init(key: Array) -> Params:
        return nnx.to_pure_dict(nnx.split(Transformer(shape, dtype, nnx.Rngs(key)))[1])

    def hidden(params: Params, tokens: Array) -> Array:
        return _causal(shape, build(params), tokens)[0].astype(jnp.float32)

    def logits(params: Params, hidden: Array) -> Array:
        flat = hidden.reshape(-1, shape.width).astype(dtype)
        table = params["embed"]["embedding"].astype(dtype)
        out = jnp.matmul(flat, table.T, preferred_element_type=jnp.float32)
        return out.reshape(*hidden.shape[:-1], shape.vocab)

    def prefill(params: Params, prompts: Array) -> tuple[Array, Cache]:
        out, cache = _causal(shape, build(params), prompts)
        return out.astype(jnp.float32), cache

    def packed(params: Params, prompt: Cache | None, tokens: Array, length: Array) -> Array:
        return _packed(shape, build(params), prompt, tokens, length).astype(jnp.float32)

    def decode(params: Params, prompt: Cache, response: Cache, tokens: Array, step: Array) -> tuple[Array, Cache]:
        out, cache = _decode(shape, build(params), prompt, response, tokens, step)
        return out.astype(jnp.float32), cache

    def response_cache(groups: int, samples: int, tokens: int) -> Cache:
        empty = jnp.zeros((groups, samples, shape.heads, tokens, shape.width // shape.heads), dtype)
        return Cache((empty,) * shape.layers, (empty,) * shape.layers)

    return Network(shape, init, hidden, logits, prefill, decode, response_cache, packed)
