"""Token-level divergences of a policy from its reference: exact over the vocabulary, and from samples."""

import jax
import jax.numpy as jnp


def per_token_kl(logits_p: jax.Array, logits_q: jax.Array) -> jax.Array:
    """KL(p || q) = sum_v p_v x_v = sum_v p_v (x_v + e^(-x_v) - 1), x = ln p - ln q, at each position.

    The right-hand terms cannot be negative and do not feel a common error of the log-normalisers, so that a
    small divergence keeps its digits and equal logits give exactly 0. Nothing is clamped: mass of p where q
    has none gives inf.

    Args:
        logits_p: [..., tokens, vocabulary], any float type; -inf where a token is forbidden.
        logits_q: the same shape.
    Returns:
        [..., tokens] nats, float32.
    """
    log_p = jax.nn.log_softmax(logits_p.astype(jnp.float32), axis=-1)
    log_q = jax.nn.log_softmax(logits_q.astype(jnp.float32), axis=-1)
    allowed = log_p > -jnp.inf
    log_ratio = jnp.where(allowed, jnp.where(allowed, log_p, 0.0) - jnp.where(allowed, log_q, 0.0), 0.0)
    p, q = jnp.exp(log_p), jnp.exp(log_q)
    near = jnp.abs(log_ratio) < 1.0
    small = jnp.where(near, log_ratio, 0.0)
    terms = jnp.where(near, p * (small + jnp.expm1(-small)), p * log_ratio + (q - p))
    return jnp.sum(jnp.where(allowed, terms, q), axis=-1)


def token_kl(logits_p: jax.Array, logits_q: jax.Array, mask: jax.Array) -> jax.Array:
    """sum over response tokens t of KL(p(. | y_<t) || q(. | y_<t)), exact over the vocabulary, never clamped.

    Averaged over responses y drawn from p this is KL(p || q) of whole responses, with less variance than any
    estimator from the log-ratios of the drawn tokens (Rao-Blackwellised).

    Args:
        logits_p: [..., tokens, vocabulary] logits for the token at each position.
        logits_q: the same shape.
        mask: [..., tokens], true (or 1) at the response tokens, their end included; other positions may hold
            anything.
    Returns:
        [...] nats, float32.
    """
    kept = mask.astype(bool)
    return masked_sum(
        per_token_kl(jnp.where(kept[..., None], logits_p, 0.0), jnp.where(kept[..., None], logits_q, 0.0)),
        kept,
    )


def masked_sum(values: jax.Array, mask: jax.Array) -> jax.Array:
    """sum_t values_t over the positions where the mask is true, float32: [..., tokens] -> [...]."""
    return jnp.sum(jnp.where(mask.astype(bool), values.astype(jnp.float32), 0.0), axis=-1)


def k1(log_ratio: jax.Array) -> jax.Array:
    """k1 = ln(p/q), for samples of p: unbiased for KL(p || q), of either sign.

    Args:
        log_ratio: ln p - ln q of the drawn tokens or responses, any shape.
    Returns:
        The same shape, float32.
    """
    return log_ratio.astype(jnp.float32)


def k2(log_ratio: jax.Array) -> jax.Array:
    """k2 = ln(p/q)^2 / 2, for samples of p: biased, equal to KL(p || q) to second order.

    Args:
        log_ratio: ln p - ln q of the drawn tokens or responses, any shape.
    Returns:
        The same shape, float32.
    """
    return 0.5 * jnp.square(log_ratio.astype(jnp.float32))


def k3(log_ratio: jax.Array) -> jax.Array:
    """k3 = q/p - 1 - ln(q/p), for samples of p: unbiased for KL(p || q) and never negative.

    Written expm1(-x) + x with x = ln(p/q): no digits lost near 0 and no nan for any finite x; not clamped, so
    inf where q/p itself exceeds float32 (x below -88).

    Args:
        log_ratio: ln p - ln q of the drawn tokens or responses, any shape.
    Returns:
        The same shape, float32.
    """
    ratio = log_ratio.astype(jnp.float32)
    return jnp.expm1(-ratio) + ratio
