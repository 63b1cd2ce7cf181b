"""F6: what a policy is worth on held-out prompts. Every figure of a point comes from the same responses.

The only place of policy-gradient optimization where gold enters, called by the host between chunks.
"""

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from synthetic_rm.losses import pair_margins
from synthetic_rm.optimizers.rollout import Summary, roll_out, summarise
from synthetic_rm.types import Array, Key, Network, Params, Responses, RewardModel

ROWS = 256
"""responses in one block of prompts"""


class Measurement(NamedTuple):
    """Of one policy, per held-out prompt: the mean over the responses drawn to it, float32 [prompts]."""

    summary: Summary
    """KL to the reference (exact, and its estimators), length, entropy, repetition, share of finished responses"""
    proxy: Array
    gold: Array
    agreement: Array
    """share of the pairs of responses to the prompt that proxy and gold order alike; ties count half"""
    first: Responses
    """[prompts] the first response to each prompt"""


def pair_agreement(proxy: Array, gold: Array) -> Array:
    """Share of pairs ordered alike: scores [G, N] -> [G]; a pair that only one of them ties counts half."""
    same = jnp.sign(pair_margins(proxy)) * jnp.sign(pair_margins(gold))
    return (0.5 + 0.5 * same).mean(-1)


@cache
def _measure(network: Network, samples: int, max_tokens: int) -> Any:
    def block(
        params: Params, reference: Params, proxy: RewardModel, gold: RewardModel, prompts: Array, key: Key
    ) -> Measurement:
        rollout = roll_out(network, params, reference, proxy, prompts, key, samples=samples, max_tokens=max_tokens)
        golds = gold(rollout.responses).reshape(rollout.scores.shape)
        summary = jax.tree.map(lambda x: x.reshape(golds.shape).mean(-1), summarise(rollout))
        first = jax.tree.map(lambda x: x.reshape(*golds.shape, *x.shape[1:])[:, 0], rollout.responses)
        agreement = pair_agreement(rollout.scores, golds)
        return Measurement(summary, rollout.scores.mean(-1), golds.mean(-1), agreement, first)

    @jax.jit
    def measure(
        params: Params, reference: Params, proxy: RewardModel, gold: RewardModel, prompts: Array, key: Key
    ) -> Measurement:
        keys = jax.random.split(key, prompts.shape[0])
        parts = jax.lax.map(lambda x: block(params, reference, proxy, gold, *x), (prompts, keys))
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), parts)

    return measure


def measure_policy(
    network: Network,
    params: Params,
    reference: Params,
    prompts: np.ndarray,
    key: Key,
    *,
    samples: int,
    max_tokens: int,
    proxy: RewardModel,
    gold: RewardModel,
) -> Measurement:
    """Draw `samples` > 1 responses to each held-out prompt [G, P] and measure them; numpy arrays.

    Args:
        key: consumed.
    """
    count = len(prompts)
    size = max(d for d in range(1, count + 1) if count % d == 0 and (d == 1 or d * samples <= ROWS))
    blocks = jnp.asarray(prompts).reshape(count // size, size, -1)
    found = _measure(network, samples, max_tokens)(params, reference, proxy, gold, blocks, key)
    return jax.tree.map(np.asarray, found)
