"""F1: losses of policy-gradient methods, from log-probabilities of drawn tokens.

`log_ratio` is ln pi - ln pi_old: of the policy being trained to the one that drew the responses.
"""

import jax.numpy as jnp

from synthetic_rm.token_kl import k3, masked_sum
from synthetic_rm.types import Array


def clipped_surrogate(log_ratio: Array, advantages: Array, clip: Array) -> tuple[Array, Array]:
    """-min(w A, clip(w, 1 - clip, 1 + clip) A), w = e^log_ratio (PPO, Schulman et al. 2017, eq. 7).

    Args:
        log_ratio, advantages: one shape, of tokens [B, T] or of whole responses [B].
        clip: scalar.
    Returns:
        loss and whether the clipped branch, which has no gradient, was taken; both of that shape.
    """
    ratio = jnp.exp(log_ratio)
    free, held = ratio * advantages, jnp.clip(ratio, 1.0 - clip, 1.0 + clip) * advantages
    return -jnp.minimum(free, held), held < free


def clipped_value_loss(values: Array, old: Array, returns: Array, clip: Array) -> Array:
    """max((V - R)^2, (V_c - R)^2) / 2, V_c = V held within `clip` of V_old; clip = inf is plain least squares.

    Shapes [B, T]; the clipped form is that of PPO's reference implementation (Dhariwal et al. 2017).
    """
    held = old + jnp.clip(values - old, -clip, clip)
    return 0.5 * jnp.maximum((values - returns) ** 2, (held - returns) ** 2)


def token_mean(values: Array, mask: Array) -> Array:
    """Mean over all response tokens of the batch: [B, T] -> scalar. A token counts the same in every response."""
    return masked_sum(values, mask).sum() / jnp.maximum(mask.sum(), 1)


def response_mean(values: Array, mask: Array) -> Array:
    """Mean over responses of the mean over their tokens, GRPO's 1 / |o_i|: [B, T] -> scalar."""
    return (masked_sum(values, mask) / jnp.maximum(mask.sum(-1), 1)).mean()


def constant_mean(values: Array, mask: Array) -> Array:
    """Mean over responses of the sum over tokens / T, Dr. GRPO's constant instead of the length: [B, T] -> scalar."""
    return masked_sum(values, mask).mean() / mask.shape[-1]


def kl_penalty(log_ratio: Array, log_ratio_to_reference: Array) -> Array:
    """w k3(ln pi - ln pi_0), w = e^log_ratio, at each drawn token: shapes [B, T].

    k3 is the penalty of GRPO (Shao et al. 2024, eq. 4). Alone its gradient is that of KL(pi_0 || pi), the other
    direction: weighted by w, which is 1 in value on fresh responses, it is that of KL(pi || pi_0) at each token.
    """
    return jnp.exp(log_ratio) * k3(log_ratio_to_reference)
