"""F6: what a policy is worth on held-out prompts. Every figure of a point comes from the same responses.

The only place of policy-gradient optimization where gold enters, called by the host between chunks.
"""

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from synthetic_rm.devices import everywhere, split
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
    first_proxy: Array
    first_gold: Array
    """scores of that one response"""


def pair_agreement(proxy: Array, gold: Array) -> Array:
    """Share of pairs ordered alike: scores [G, N] -> [G]; a pair that only one of them ties counts half."""
    same = jnp.sign(pair_margins(proxy)) * jnp.sign(pair_margins(gold))
    return (0.5 + 0.5 * same).mean(-1)


@cache
def _draw(network: Network, samples: int, max_tokens: int) -> Any:
    """One program for every proxy: responses [blocks, B] and their summary."""

    def block(params: Params, reference: Params, prompts: Array, key: Key) -> tuple[Responses, Summary]:
        sizes = {"samples": samples, "max_tokens": max_tokens}
        prompts = split(prompts)
        rollout = roll_out(network, params, reference, lambda r: jnp.zeros(r.length.shape), prompts, key, **sizes)
        return rollout.responses, summarise(rollout)

    @jax.jit
    def draw(params: Params, reference: Params, prompts: Array, key: Key) -> tuple[Responses, Summary]:
        keys = jax.random.split(key, prompts.shape[0])
        return everywhere(jax.lax.map(lambda x: block(params, reference, *x), (prompts, keys)))

    return draw


@jax.jit
def _scores(model: RewardModel, responses: Responses) -> Array:
    return everywhere(jax.lax.map(lambda block: model(split(block)), responses))


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
    responses, summary = _draw(network, samples, max_tokens)(params, reference, blocks, key)
    proxies, golds = (np.asarray(_scores(model, responses)).reshape(count, samples) for model in (proxy, gold))
    means = jax.tree.map(lambda x: np.asarray(x).reshape(count, samples).mean(-1), summary)
    first = jax.tree.map(lambda x: np.asarray(x).reshape(count, samples, *x.shape[2:])[:, 0], responses)
    agreement = np.asarray(pair_agreement(jnp.asarray(proxies), jnp.asarray(golds)))
    scores: Any = (proxies.mean(-1), golds.mean(-1), agreement, first, proxies[:, 0], golds[:, 0])
    return Measurement(means, *scores)
