"""F1: how much better than expected a response, or a token of it, was: the advantages of policy-gradient methods."""

import jax
import jax.numpy as jnp

from synthetic_rm.types import Array


def gae(rewards: Array, values: Array, mask: Array, *, lam: Array, gamma: Array) -> tuple[Array, Array]:
    """Generalised advantage estimation (Schulman et al. 2016) over the tokens of each response.

    delta_t = r_t + gamma V_(t+1) - V_t, A_t = delta_t + gamma lam A_(t+1), V and A being 0 beyond the response.

    Args:
        rewards: [B, T]; values: [B, T], V of the prompt and the tokens before t; mask: [B, T], true in the response.
        lam, gamma: scalars.
    Returns:
        advantages [B, T] and returns A + V [B, T], 0 beyond the response.
    """
    rewards, values = (jnp.where(mask, x, 0.0) for x in (rewards, values))
    after = jnp.pad(values[:, 1:], ((0, 0), (0, 1)))
    delta = rewards + gamma * after - values

    def backward(later: Array, delta_t: Array) -> tuple[Array, Array]:
        advantage = delta_t + gamma * lam * later
        return advantage, advantage

    _, advantages = jax.lax.scan(backward, jnp.zeros(rewards.shape[0]), jnp.where(mask, delta, 0.0).T, reverse=True)
    advantages = advantages.T
    return advantages, jnp.where(mask, advantages + values, 0.0)


def whiten(values: Array, mask: Array, eps: float = 1e-8) -> Array:
    """Mean 0 and standard deviation 1 over the positions where the mask is true; 0 elsewhere. Shapes [B, T]."""
    count = jnp.maximum(mask.sum(), 1)
    mean = jnp.where(mask, values, 0.0).sum() / count
    centred = jnp.where(mask, values - mean, 0.0)
    return centred * jax.lax.rsqrt((centred**2).sum() / count + eps)


def leave_one_out(scores: Array) -> Array:
    """A_i = R_i - mean over j != i of R_j = N / (N - 1) (R_i - mean R) (Kool et al. 2019; RLOO, Ahmadian et al. 2024).

    Args:
        scores: [G, N], N > 1 responses to each of G prompts.
    """
    samples = scores.shape[-1]
    return (scores - scores.mean(-1, keepdims=True)) * (samples / (samples - 1))


def group_advantages(scores: Array, *, scaled: bool, eps: float = 1e-6) -> Array:
    """A_i = R_i - mean R within each group: scores [G, N] -> [G, N].

    `scaled` divides by the group's (population) standard deviation, as GRPO does (Shao et al. 2024); Dr. GRPO does not
    (Liu et al. 2025).
    """
    centred = scores - scores.mean(-1, keepdims=True)
    return centred / (scores.std(-1, keepdims=True) + eps) if scaled else centred
