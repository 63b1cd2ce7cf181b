"""F6: REINFORCE with a leave-one-out baseline (RLOO; Kool et al. 2019, Ahmadian et al. 2024)."""

import jax.numpy as jnp

from synthetic_rm.advantages import leave_one_out
from synthetic_rm.optimizers.rl import Batch, Hyper, Method
from synthetic_rm.optimizers.rollout import Rollout
from synthetic_rm.policy_losses import clipped_surrogate
from synthetic_rm.token_kl import masked_sum
from synthetic_rm.types import Array


def _advantages(rollout: Rollout, hyper: Hyper) -> tuple[Array, Array]:
    """Leave-one-out over the responses to a prompt, of score - kl_coef ln(pi / pi_0) of the whole response."""
    log_ratio = rollout.statistics.log_prob - rollout.statistics.reference_log_prob
    penalty = masked_sum(log_ratio, rollout.mask).reshape(rollout.scores.shape)
    advantages = leave_one_out(rollout.scores - hyper.kl_coef * penalty).reshape(-1, 1)
    return jnp.broadcast_to(advantages, rollout.mask.shape), jnp.zeros(rollout.mask.shape)


def _loss(log_prob: Array, mask: Array, batch: Batch, hyper: Hyper) -> tuple[Array, Array]:
    """-A pi(y) / pi_old(y) of whole responses, clipped; its gradient on fresh responses is REINFORCE's."""
    log_ratio = masked_sum(log_prob - batch.log_prob, mask)
    loss, clipped = clipped_surrogate(log_ratio, batch.advantages[:, 0], hyper.clip)
    return loss.mean(), clipped.mean(dtype=jnp.float32)


RLOO = Method("rloo", False, _advantages, _loss)
