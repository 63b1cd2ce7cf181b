"""F6: group relative policy optimization (GRPO, Shao et al. 2024) and Dr. GRPO (Liu et al. 2025)."""

from collections.abc import Callable

import jax.numpy as jnp

from synthetic_rm.advantages import group_advantages
from synthetic_rm.optimizers.rl import Batch, Hyper, Method
from synthetic_rm.optimizers.rollout import Rollout
from synthetic_rm.policy_losses import clipped_surrogate, constant_mean, kl_penalty, response_mean, token_mean
from synthetic_rm.types import Array


def _method(name: str, *, scaled: bool, mean: Callable[[Array, Array], Array]) -> Method:
    def advantages(rollout: Rollout, hyper: Hyper) -> tuple[Array, Array]:
        """The score against its group's, the same for every token; the KL penalty is in the loss."""
        relative = group_advantages(rollout.scores, scaled=scaled).reshape(-1, 1)
        return jnp.broadcast_to(relative, rollout.mask.shape), jnp.zeros(rollout.mask.shape)

    def loss(log_prob: Array, mask: Array, batch: Batch, hyper: Hyper) -> tuple[Array, Array]:
        """The clipped surrogate and kl_coef k3 of every token."""
        log_ratio = log_prob - batch.log_prob
        surrogate, clipped = clipped_surrogate(log_ratio, batch.advantages, hyper.clip)
        penalty = kl_penalty(log_ratio, log_prob - batch.reference_log_prob)
        return mean(surrogate + hyper.kl_coef * penalty, mask), token_mean(clipped, mask)

    return Method(name, False, advantages, loss)


GRPO = _method("grpo", scaled=True, mean=response_mean)
DR_GRPO = _method("dr_grpo", scaled=False, mean=constant_mean)
