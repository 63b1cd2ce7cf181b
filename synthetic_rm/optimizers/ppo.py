"""F6: PPO (Schulman et al. 2017) as InstructGPT and the paper use it."""

from synthetic_rm.advantages import gae, whiten
from synthetic_rm.optimizers.rl import Batch, Hyper, Method
from synthetic_rm.optimizers.rollout import Rollout, end_rewards
from synthetic_rm.policy_losses import clipped_surrogate, token_mean
from synthetic_rm.types import Array


def _advantages(rollout: Rollout, hyper: Hyper) -> tuple[Array, Array]:
    """GAE over the proxy score at the end and -kl_coef ln(pi / pi_0) at every token, whitened over the batch."""
    log_ratio = rollout.statistics.log_prob - rollout.statistics.reference_log_prob
    rewards = end_rewards(rollout) - hyper.kl_coef * log_ratio
    advantages, returns = gae(rewards, rollout.values, rollout.mask, lam=hyper.gae_lambda, gamma=hyper.gamma)
    return whiten(advantages, rollout.mask), returns


def _loss(log_prob: Array, mask: Array, batch: Batch, hyper: Hyper) -> tuple[Array, Array]:
    """The clipped surrogate of every token, each counted the same."""
    loss, clipped = clipped_surrogate(log_prob - batch.log_prob, batch.advantages, hyper.clip)
    return token_mean(loss, mask), token_mean(clipped, mask)


PPO = Method("ppo", True, _advantages, _loss)
