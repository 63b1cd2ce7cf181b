"""F3: a policy is a network read as a distribution over responses."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from synthetic_rm import sampling
from synthetic_rm.token_kl import per_token_kl, token_kl
from synthetic_rm.types import Array, Key, Network, Params, Policy, Responses


def response_mask(responses: Responses) -> Array:
    """[..., T] true at the response's tokens, its end token included."""
    position = jax.lax.broadcasted_iota(jnp.int32, responses.tokens.shape, responses.tokens.ndim - 1)
    return position < responses.length[..., None]


def response_logits(network: Network, params: Params, responses: Responses) -> Array:
    """Float32 logits [B, T, V] of every response token given what comes before it."""
    rows = jnp.concatenate([responses.prompt, responses.tokens], axis=-1)
    hidden = network.hidden(params, rows[:, :-1])
    return network.logits(params, hidden[:, responses.prompt.shape[-1] - 1 :])


class TokenStatistics(NamedTuple):
    """Of every response token, float32 [B, T], 0 beyond the response."""

    log_prob: Array
    reference_log_prob: Array
    kl: Array
    """exact KL(policy || reference) of the next token"""
    entropy: Array


def token_statistics(network: Network, params: Params, reference: Params, responses: Responses) -> TokenStatistics:
    """What the policy and its reference make of responses [B], each network run once."""
    ours, theirs = (response_logits(network, p, responses) for p in (params, reference))
    log_p, log_q = (jax.nn.log_softmax(logits, axis=-1) for logits in (ours, theirs))
    chosen = (jnp.take_along_axis(x, responses.tokens[..., None], axis=-1)[..., 0] for x in (log_p, log_q))
    entropy = -jnp.sum(jnp.exp(log_p) * jnp.maximum(log_p, -1e30), axis=-1)
    mask = response_mask(responses)
    return TokenStatistics(*(jnp.where(mask, x, 0.0) for x in (*chosen, per_token_kl(ours, theirs), entropy)))


def policy(network: Network) -> Policy:
    """The policy of a network: temperature 1, no truncation of the distribution."""

    def sample(params: Params, key: Key, prompts: Array, samples: int, max_tokens: int) -> tuple[Responses, Array]:
        responses, log_probs = sampling.sample(network, params, key, prompts, samples, max_tokens)
        return responses, log_probs.sum(-1)

    def log_prob(params: Params, responses: Responses) -> Array:
        log_probs = jax.nn.log_softmax(response_logits(network, params, responses), axis=-1)
        chosen = jnp.take_along_axis(log_probs, responses.tokens[..., None], axis=-1)[..., 0]
        return jnp.where(response_mask(responses), chosen, 0.0)

    def kl(params: Params, reference: Params, responses: Responses) -> Array:
        ours, theirs = (response_logits(network, p, responses) for p in (params, reference))
        return token_kl(ours, theirs, response_mask(responses))

    return Policy(network.init, sample, log_prob, kl)
