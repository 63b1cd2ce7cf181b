"""The small table on which the loop of policy gradient is tested: two tokens out of five, one prompt asked often."""

import jax
import jax.numpy as jnp
import numpy as np

from synthetic_rm.environments.tabular import TableReward, Tabular
from synthetic_rm.optimizers.rl import Hyper, Method, Program
from synthetic_rm.types import Params, Responses

WORLD = Tabular(num_prompts=1, vocab=5, response_tokens=2)
VOCAB, TOKENS = WORLD.vocab, WORLD.response_tokens
NETWORK = WORLD.network
PROMPTS = np.repeat(WORLD.prompts(), 12, axis=0)


def reference(seed: int = 0, world: Tabular = WORLD) -> Params:
    return world.network.init(jax.random.key(seed))


def token_scores(seed: int, scale: float = 1.0) -> np.ndarray:
    """A score for each (first token, second token or none): [V, V + 1]."""
    return scale * np.random.default_rng(seed).normal(size=(VOCAB, VOCAB + 1))


def reward(seed: int, scale: float = 1.0) -> TableReward:
    return token_reward(token_scores(seed, scale))


def token_reward(table: np.ndarray) -> TableReward:
    """The reward model that gives these `token_scores`."""
    (tokens,), (length,) = np.asarray(WORLD.responses().tokens), np.asarray(WORLD.responses().length)
    return WORLD.reward(table[tokens[:, 0], np.where(length == 1, VOCAB, tokens[:, 1])][None])


def value_start(seed: int = 9, world: Tabular = WORLD) -> Params:
    rng = np.random.default_rng(seed)
    head = {"weight": jnp.asarray(rng.normal(size=world.vocab), jnp.float32), "bias": jnp.zeros(())}
    return {"trunk": world.network.init(jax.random.key(seed)), "head": head}


def program(method: Method, world: Tabular = WORLD, **changes: int) -> Program:
    sizes = {"prompts": 4, "samples": 16, "max_tokens": world.response_tokens, "epochs": 1, "minibatches": 2, **changes}
    return Program(method, world.network, world.network if method.has_value else None, **sizes)


def hyper(**changes: float) -> Hyper:
    return Hyper(**{"learning_rate": 0.02, "value_learning_rate": 0.02, **changes})


def all_responses() -> Responses:
    """Every response, those cut after two tokens included, to the one prompt."""
    return WORLD.demonstrations()


def distribution(params: Params) -> np.ndarray:
    """Probability of each response, float64."""
    return WORLD.distribution(params)[0]
