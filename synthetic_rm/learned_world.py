"""F7: a world that is learned and can be enumerated all the same: transformers over a language of short sequences.

Reference, gold and proxies are made as in any experiment, by the same training code. Then everything said of them from
samples (best-of-n, KL, what PPO reports) can be compared with sums over all responses.
"""

import math
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import softmax

from synthetic_rm.comparisons import draw_groups, label_by_scores
from synthetic_rm.environments.tiny_language import TinyLanguage
from synthetic_rm.finite_support import expected
from synthetic_rm.ladder import shape_of_width
from synthetic_rm.networks import transformer
from synthetic_rm.policies import policy
from synthetic_rm.rewards.neural import NeuralReward, Readout, init_reward, neural_reward
from synthetic_rm.scoring import score
from synthetic_rm.training.reward import train_reward
from synthetic_rm.training.supervised import token_rows, train_language_model
from synthetic_rm.types import Comparisons, Network, Params, Responses


@dataclass(frozen=True)
class LearnedWorldSettings:
    """Sizes at which all of it is made in seconds."""

    language: TinyLanguage = field(default_factory=TinyLanguage)
    width: int = 8
    """of reference and proxies"""
    gold_width: int = 16
    gold_deviation: float = 0.5
    """of gold's random weights: it is not trained, for what it prefers is right by definition"""
    comparisons: int = 1024
    proxies: int = 2
    reference_steps: int = 300
    reward_epochs: float = 6.0
    batch: int = 64
    learning_rate: float = 0.02
    readout: Readout = "mean"
    seed: int = 0


class LearnedWorld(NamedTuple):
    """Models, and what they say of every response to every prompt."""

    language: TinyLanguage
    network: Network
    """of the reference"""
    reference_params: Params
    gold: NeuralReward
    """mean 0 and deviation 1 over responses of the reference, by enumeration"""
    proxies: NeuralReward
    """[proxies, ...], each with mean 0 likewise"""
    reference: np.ndarray
    """[prompts, R] probabilities"""
    gold_scores: np.ndarray
    """[prompts, R]"""
    proxy_scores: np.ndarray
    """[proxies, prompts, R]"""

    def law(self, params: Params) -> np.ndarray:
        """Probability of every response under a policy of the reference's network: [prompts, R] float64."""
        return enumerated(self.network, params, self.language)

    def token_kl(self, params: Params) -> np.ndarray:
        """Token KL to the reference summed over each response, [prompts, R]: its mean is the KL of whole responses."""
        flat = _flat(self.language)
        values = _token_kl(self.network)(params, self.reference_params, flat)
        return np.asarray(values, np.float64).reshape(self.reference.shape)


def _flat(language: TinyLanguage) -> Responses:
    return Responses(*(jnp.asarray(x.reshape(-1, *x.shape[2:])) for x in language.responses()))


@cache
def _log_prob(network: Network) -> Any:
    return jax.jit(lambda params, responses: policy(network).log_prob(params, responses))


@cache
def _token_kl(network: Network) -> Any:
    return jax.jit(policy(network).kl)


def log_probabilities(network: Network, params: Params, language: TinyLanguage) -> np.ndarray:
    """Of every response to every prompt under a network: [prompts, R] float64."""
    per_token = _log_prob(network)(params, _flat(language))
    return np.asarray(per_token, np.float64).sum(axis=-1).reshape(language.num_prompts, language.num_responses)


def enumerated(network: Network, params: Params, language: TinyLanguage) -> np.ndarray:
    """Their probabilities, [prompts, R], which sum to 1 beyond the digits of the network."""
    return np.asarray(softmax(log_probabilities(network, params, language), axis=-1))


def build(settings: LearnedWorldSettings | None = None) -> LearnedWorld:
    """Train a reference on demonstrations and proxies on comparisons that gold labelled, and enumerate them."""
    s = settings or LearnedWorldSettings()
    network = transformer(shape_of_width(s.width, s.language.vocab))
    keys = jax.random.split(jax.random.key(s.seed), 3)
    params = _reference(s, network, keys[0])
    law = enumerated(network, params, s.language)
    gold = _gold(s, law, keys[1])
    proxies = _proxies(s, network, _comparisons(s, network, params, gold, keys[2]), law)
    scores = np.stack([_scores(jax.tree.map(lambda x, i=i: x[i], proxies), s.language) for i in range(s.proxies)])
    return LearnedWorld(s.language, network, params, gold, proxies, law, _scores(gold, s.language), scores)


def _reference(s: LearnedWorldSettings, network: Network, key: jax.Array) -> Params:
    """Imitates the speakers."""
    rows = token_rows(s.language.demonstrations("train"), response_only=True)
    plan: dict[str, Any] = {"seed": s.seed, "steps": s.reference_steps, "batch": s.batch}
    trained = train_language_model(network, network.init(key), rows, learning_rate=s.learning_rate, **plan)
    return jax.tree.map(lambda x: x[0], trained.params)


def _gold(s: LearnedWorldSettings, law: np.ndarray, key: jax.Array) -> NeuralReward:
    """A random transformer, recentred and scaled by enumeration."""
    network = transformer(shape_of_width(s.gold_width, s.language.vocab))
    keys = jax.random.split(key)
    params = init_reward(network, keys[0])
    params["head"]["weight"] = s.gold_deviation * jax.random.normal(keys[1], params["head"]["weight"].shape)
    gold = neural_reward(network, params, s.readout)
    raw = _scores(gold, s.language)
    mean = float(expected(law, raw).mean())
    return gold.centred(mean, 1.0 / math.sqrt(float(expected(law, (raw - mean) ** 2).mean())))


def _proxies(s: LearnedWorldSettings, network: Network, comparisons: Comparisons, law: np.ndarray) -> NeuralReward:
    """[proxies, ...], each from a start and in an order of its own, recentred by enumeration."""
    starts = [init_reward(network, jax.random.key(1000 + s.seed + i)) for i in range(s.proxies)]
    fitted = train_reward(
        network,
        jax.tree.map(lambda *x: jnp.stack(x), *starts),
        comparisons,
        seeds=[2000 + s.seed + i for i in range(s.proxies)],
        epochs=s.reward_epochs,
        batch=s.batch,
        learning_rate=s.learning_rate,
        readout=s.readout,
        width=s.proxies,
    )
    members = []
    for i in range(s.proxies):
        raw = neural_reward(network, jax.tree.map(lambda x, i=i: x[i], fitted.params), s.readout)
        members.append(raw.centred(float(expected(law, _scores(raw, s.language)).mean()), 1.0))
    return jax.tree.map(lambda *x: jnp.stack(x), *members)


def _scores(model: NeuralReward, language: TinyLanguage) -> np.ndarray:
    """Of every response to every prompt: [prompts, R] float64."""
    return score(model, _flat(language)).astype(np.float64).reshape(language.num_prompts, language.num_responses)


def _comparisons(
    s: LearnedWorldSettings, network: Network, params: Params, gold: NeuralReward, key: jax.Array
) -> Comparisons:
    """Pairs of reference responses, gold's favourite preferred."""
    prompts, tokens = s.language.prompts("train"), s.language.response_tokens
    drawn = draw_groups(network, params, prompts, key, num_groups=s.comparisons, group_size=2, max_tokens=tokens)
    flat = Responses(*(x.reshape(-1, *x.shape[2:]) for x in drawn))
    scores = score(gold, flat).reshape(-1, 2)
    target, weight = label_by_scores(scores, np.random.default_rng(s.seed), kind="hard")
    return Comparisons(Responses(*map(jnp.asarray, drawn)), jnp.asarray(target), jnp.asarray(weight))
