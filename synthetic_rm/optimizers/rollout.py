"""F6: responses of the current policy, scored by the proxy and compared with the reference."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from synthetic_rm import sampling
from synthetic_rm.policies import TokenStatistics, response_mask, token_statistics
from synthetic_rm.token_kl import k1, k2, k3, masked_sum
from synthetic_rm.types import EOS, Array, Key, Network, Params, Responses, RewardModel


class Rollout(NamedTuple):
    """B = G N responses, N to each of G prompts, those to one prompt side by side."""

    responses: Responses
    """[B]"""
    scores: Array
    """[G, N] proxy scores"""
    statistics: TokenStatistics
    """[B, T] each; of the policy that drew the responses"""
    mask: Array
    """[B, T] true at response tokens"""
    values: Array
    """[B, T] of the value function, 0 where the method has none"""


def token_values(network: Network, params: Params, responses: Responses) -> Array:
    """V of the prompt and the tokens before each response token: float32 [B, T].

    Args:
        params: {"trunk": of the network, "head": {"weight": [D], "bias": []}}, as of a reward model.
    """
    rows = jnp.concatenate([responses.prompt, responses.tokens], axis=-1)[:, :-1]
    hidden = network.hidden(params["trunk"], rows)[:, responses.prompt.shape[-1] - 1 :]
    return jnp.matmul(hidden, params["head"]["weight"], precision="highest") + params["head"]["bias"]


def roll_out(
    network: Network,
    params: Params,
    reference: Params,
    proxy: RewardModel,
    prompts: Array,
    key: Key,
    *,
    samples: int,
    max_tokens: int,
) -> Rollout:
    """Draw, score and compare. Log-probabilities are the scorer's, so that the first update's ratio is 1.

    Args:
        prompts: [G, P].
        key: consumed.
    """
    drawn, _ = sampling.sample(network, params, key, prompts, samples, max_tokens)
    responses = Responses(*(x.reshape(-1, *x.shape[2:]) for x in drawn))
    statistics = token_statistics(network, params, reference, responses)
    mask = response_mask(responses)
    scores = proxy(responses).reshape(prompts.shape[0], samples)
    return Rollout(responses, scores, statistics, mask, jnp.zeros(mask.shape))


class Summary(NamedTuple):
    """Each response of a rollout in numbers; float32 [B] unless said."""

    kl: Array
    """exact token KL to the reference, summed: its mean is KL(policy || reference), in nats"""
    k1: Array
    k2: Array
    k3: Array
    """estimators of the same from the drawn tokens' log-ratios"""
    length: Array
    entropy: Array
    """nats per token"""
    repetition: Array
    """share of the response's bigrams that it has said before"""
    finished: Array
    """1 where the response has an end token"""


def repeated_bigrams(tokens: Array, mask: Array) -> Array:
    """Share of the bigrams of each response that occurred earlier in it: [B, T] -> [B], 0 for a single token."""
    same = (tokens[:, :, None] == tokens[:, None, :]) & mask[:, :, None] & mask[:, None, :]
    pair = same[:, :-1, :-1] & same[:, 1:, 1:]
    earlier = jnp.tril(jnp.ones(pair.shape[1:], bool), k=-1)[None]
    repeated = (pair & earlier).any(-1).sum(-1)
    return repeated / jnp.maximum(mask[:, 1:].sum(-1), 1)


def summarise(rollout: Rollout) -> Summary:
    """Per-response numbers of a rollout."""
    responses, statistics, mask = rollout.responses, rollout.statistics, rollout.mask
    log_ratio = statistics.log_prob - statistics.reference_log_prob
    length = responses.length.astype(jnp.float32)
    last = jnp.take_along_axis(responses.tokens, responses.length[:, None] - 1, axis=1)[:, 0]
    return Summary(
        masked_sum(statistics.kl, mask),
        masked_sum(k1(log_ratio), mask),
        masked_sum(k2(log_ratio), mask),
        masked_sum(k3(log_ratio), mask),
        length,
        masked_sum(statistics.entropy, mask) / length,
        repeated_bigrams(responses.tokens, mask),
        (last == EOS).astype(jnp.float32),
    )


def end_rewards(rollout: Rollout) -> Array:
    """The proxy score at the last token of each response: [B, T]."""
    position = jax.lax.broadcasted_iota(jnp.int32, rollout.mask.shape, 1)
    at_end = position == rollout.responses.length[:, None] - 1
    return jnp.where(at_end, rollout.scores.reshape(-1, 1), 0.0)
