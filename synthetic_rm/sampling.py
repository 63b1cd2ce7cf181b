"""F2: the KV-cached, jitted sampler. Temperature 1, no top-k, no top-p: what is sampled is the policy itself."""

import jax
import jax.numpy as jnp

from synthetic_rm.types import EOS, PAD, Array, Key, Network, Params, Responses


def sample_tokens(logits: Array, uniform: Array) -> tuple[Array, Array]:
    """Draw from softmax(logits) by inverting its distribution function, in blocks of about sqrt(V).

    One uniform number a row instead of V: the block whose mass holds the number is found first, then the token in it.

    Args:
        logits: [M, V] float32.
        uniform: [M] in [0, 1).
    Returns:
        tokens [M] int32 and their log-probabilities [M] float32.
    """
    rows, vocab = logits.shape
    block = 1 << max(0, (vocab - 1).bit_length() + 1) // 2
    blocks = -(-vocab // block)
    peak = logits.max(-1, keepdims=True)
    mass = jnp.pad(jnp.exp(logits - peak), ((0, 0), (0, blocks * block - vocab)))
    mass = jax.lax.optimization_barrier(mass.reshape(rows, blocks, block))
    below = _running_sum(mass.sum(-1))
    total = below[:, -1]
    target = jnp.minimum(uniform * total, jnp.nextafter(total, 0.0))
    chosen = jnp.minimum((below <= target[:, None]).sum(-1), blocks - 1)
    inside = jnp.take_along_axis(mass, chosen[:, None, None], axis=1)[:, 0]
    start = jnp.take_along_axis(jnp.pad(below, ((0, 0), (1, 0))), chosen[:, None], axis=1)
    last = block - 1 - jnp.argmax(inside[:, ::-1] > 0, axis=-1)  # rounding must not end on a token without mass
    offset = jnp.minimum((start + _running_sum(inside) <= target[:, None]).sum(-1), last)
    tokens = jnp.minimum(chosen * block + offset, vocab - 1).astype(jnp.int32)
    picked = jnp.take_along_axis(logits, tokens[:, None], axis=1) - peak
    return tokens, picked[:, 0] - jnp.log(total)


def _running_sum(x: Array) -> Array:
    """Inclusive sums along the last, short axis as one matrix product."""
    size = x.shape[-1]
    return jnp.matmul(x, jnp.triu(jnp.ones((size, size), x.dtype)), precision="highest")


def sample(
    network: Network, params: Params, key: Key, prompts: Array, samples: int, max_tokens: int
) -> tuple[Responses, Array]:
    """Draw `samples` responses to every prompt; the prompt is read once, not once per sample.

    Args:
        key: consumed.
        prompts: [G, P].
        samples: N, static.
        max_tokens: T, static, at least 1: a response without an end token after T tokens is cut there.
    Returns:
        responses [G, N] and the float32 log-probability [G, N, T] of every response token, 0 beyond the response.
    """
    groups = prompts.shape[0]
    uniform = jax.random.uniform(key, (max_tokens, groups * samples))
    hidden, prompt_cache = network.prefill(params, prompts)
    hidden = jnp.broadcast_to(hidden[:, None, -1], (groups, samples, hidden.shape[-1]))
    alive = jnp.ones(groups * samples, bool)

    def draw(hidden: Array, alive: Array, uniform: Array) -> tuple[Array, Array, Array]:
        logits = network.logits(params, hidden.reshape(groups * samples, -1))
        token, log_prob = sample_tokens(logits, uniform)
        token, log_prob = jnp.where(alive, token, PAD), jnp.where(alive, log_prob, 0.0)
        return token, log_prob, alive & (token != EOS)

    def body(carry: tuple, inputs: tuple[Array, Array]) -> tuple[tuple, tuple]:
        token, alive, cache = carry
        step, uniform = inputs
        hidden, cache = network.decode(params, prompt_cache, cache, token.reshape(groups, samples), step)
        drawn, log_prob, still = draw(hidden, alive, uniform)
        return (drawn, still, cache), (drawn, log_prob, alive)

    first, first_log_prob, still = draw(hidden, alive, uniform[0])
    carry = (first, still, network.response_cache(groups, samples, max(1, max_tokens - 1)))
    steps = jnp.arange(max_tokens - 1)
    _, (tokens, log_probs, lived) = jax.lax.scan(body, carry, (steps, uniform[1:]))
    stack = (groups, samples, max_tokens)
    tokens = jnp.concatenate([first[None], tokens]).T.reshape(stack)
    log_probs = jnp.concatenate([first_log_prob[None], log_probs]).T.reshape(stack)
    length = 1 + lived.sum(0, dtype=jnp.int32).reshape(groups, samples)
    repeated = jnp.broadcast_to(prompts[:, None], (groups, samples, prompts.shape[1]))
    return Responses(repeated, tokens, length), log_probs
