"""A policy, a value function and a proxy as tables: everything that can be said in two tokens is enumerated."""

from itertools import product
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from synthetic_rm.optimizers.rl import Hyper, Method, Program
from synthetic_rm.types import EOS, PAD, Array, Network, Params, Responses, Shape

VOCAB, PROMPT_TOKENS, TOKENS = 5, 2, 2
SHAPE = Shape(VOCAB, VOCAB, 0, 1, 0)


def _hidden(params: Params, tokens: Array) -> Array:
    """Row 0 of the table in the prompt, row 1 + token after it."""
    position = jnp.broadcast_to(jnp.arange(tokens.shape[1])[None], tokens.shape)
    return params["table"][jnp.where(position < PROMPT_TOKENS, 0, 1 + tokens)]


def _decode(params: Params, prompt: None, response: Array, tokens: Array, step: Array) -> tuple[Array, Array]:
    return params["table"][1 + tokens], response


NETWORK = Network(
    SHAPE,
    lambda key: {"table": jax.random.normal(key, (1 + VOCAB, VOCAB))},
    _hidden,
    lambda params, hidden: hidden,
    lambda params, prompts: (jnp.broadcast_to(params["table"][0], (prompts.shape[0], VOCAB)), None),
    _decode,
    lambda groups, samples, tokens: jnp.zeros((groups, samples)),
)


class TableReward(NamedTuple):
    """A score for each (first token, second token or none)."""

    table: Array
    """[V, V + 1]"""

    def __call__(self, responses: Responses) -> Array:
        tokens = responses.tokens
        second = tokens[:, 1] if tokens.shape[1] > 1 else jnp.full(tokens.shape[0], VOCAB)
        return self.table[tokens[:, 0], jnp.where(responses.length == 1, VOCAB, second)]


def reference(seed: int = 0) -> Params:
    return NETWORK.init(jax.random.key(seed))


def reward(seed: int, scale: float = 1.0) -> TableReward:
    return TableReward(jnp.asarray(scale * np.random.default_rng(seed).normal(size=(VOCAB, VOCAB + 1)), jnp.float32))


def value_start(seed: int = 9) -> Params:
    rng = np.random.default_rng(seed)
    head = {"weight": jnp.asarray(rng.normal(size=VOCAB), jnp.float32), "bias": jnp.zeros(())}
    return {"trunk": NETWORK.init(jax.random.key(seed)), "head": head}


def program(method: Method, **changes: int) -> Program:
    sizes = {"prompts": 4, "samples": 16, "max_tokens": TOKENS, "epochs": 1, "minibatches": 2, **changes}
    return Program(method, NETWORK, NETWORK if method.has_value else None, **sizes)


def hyper(**changes: float) -> Hyper:
    return Hyper(**{"learning_rate": 0.02, "value_learning_rate": 0.02, **changes})


PROMPTS = np.array([[1, i % VOCAB] for i in range(12)], np.int32)


def all_responses(max_tokens: int = TOKENS) -> Responses:
    """Every response, those cut after `max_tokens` included, to one prompt."""
    said = [
        row
        for length in range(1, max_tokens + 1)
        for row in product(range(VOCAB), repeat=length)
        if EOS not in row[:-1] and (length == max_tokens or row[-1] == EOS)
    ]
    tokens = jnp.array([[*row, *[PAD] * (max_tokens - len(row))] for row in said], jnp.int32)
    prompt = jnp.broadcast_to(jnp.asarray(PROMPTS[0]), (len(said), PROMPT_TOKENS))
    return Responses(prompt, tokens, jnp.array([len(row) for row in said], jnp.int32))


def distribution(params: Params, responses: Responses) -> np.ndarray:
    """Probability of each response, float64, by walking the table."""
    table = np.asarray(params["table"], np.float64)
    log_prob = table - np.log(np.exp(table).sum(-1, keepdims=True))
    tokens, length = np.asarray(responses.tokens), np.asarray(responses.length)
    total = log_prob[0, tokens[:, 0]]
    if tokens.shape[1] > 1:
        total = total + np.where(length > 1, log_prob[1 + tokens[:, 0], tokens[:, 1]], 0.0)
    return np.exp(total)
