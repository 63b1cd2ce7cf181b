"""F7: a world that is learned and can be enumerated all the same: transformers over a language of short sequences.

Reference, gold and proxies are made as in any experiment, by the same training code. Then everything said of them from
samples (best-of-n, KL, what PPO reports) can be compared with sums over all responses.
"""

from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from synthetic_rm.comparisons import draw_groups, label_by_scores
from synthetic_rm.environments.tiny_language import TinyLanguage
from synthetic_rm.ladder import shape_of_width
from synthetic_rm.networks import transformer
from synthetic_rm.policies import policy
from synthetic_rm.rewards.neural import NeuralReward, Readout, init_reward, neural_reward
from synthetic_rm.scoring import score_members
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


def enumerated(network: Network, params: Params, language: TinyLanguage) -> np.ndarray:
    """Probability of every response to every prompt under a network: [prompts, R] float64."""
    log_prob = np.asarray(_log_prob(network)(params, _flat(language)), np.float64).sum(axis=-1)
    return np.exp(log_prob).reshape(language.num_prompts, language.num_responses)


def build(settings: LearnedWorldSettings | None = None) -> LearnedWorld:
    """Train a reference on demonstrations and proxies on comparisons that gold labelled, and enumerate them."""
    s = settings or LearnedWorldSettings()
    language = s.language
    network = transformer(shape_of_width(s.width, language.vocab))
    keys = jax.random.split(jax.random.key(s.seed), 4)
    rows = token_rows(language.demonstrations("train"), response_only=True)
    trained = train_language_model(
        network,
        network.init(keys[0]),
        rows,
        seed=s.seed,
        steps=s.reference_steps,
        batch=s.batch,
        learning_rate=s.learning_rate,
    )
    reference_params = jax.tree.map(lambda x: x[0], trained.params)
    reference = enumerated(network, reference_params, language)

    gold_network = transformer(shape_of_width(s.gold_width, language.vocab))
    start = init_reward(gold_network, keys[1])
    weights = jax.random.normal(keys[2], start["head"]["weight"].shape)
    params = {**start, "head": {**start["head"], "weight": s.gold_deviation * weights}}
    gold = neural_reward(gold_network, params, s.readout)
    raw = _scores(jax.tree.map(lambda x: x[None], gold), language)[0]
    mean = float((reference * raw).sum(1).mean())
    deviation = float(np.sqrt((reference * (raw - mean) ** 2).sum(1).mean()))
    gold = gold.centred(mean, 1.0 / deviation)

    comparisons = _comparisons(s, network, reference_params, gold, keys[3])
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
    members = jax.vmap(lambda params: neural_reward(network, params, s.readout))(fitted.params)
    shift = (reference * _scores(members, language)).sum(-1).mean(-1)
    proxies = members.centred(jnp.asarray(shift), members.scale)
    scores = (_scores(x, language) for x in (jax.tree.map(lambda x: x[None], gold), proxies))
    return LearnedWorld(language, network, reference_params, gold, proxies, reference, next(scores)[0], next(scores))


def _scores(members: Any, language: TinyLanguage) -> np.ndarray:
    """[members, prompts, R]"""
    found = score_members(members, _flat(language)).astype(np.float64)
    return found.reshape(-1, language.num_prompts, language.num_responses)


def _comparisons(
    s: LearnedWorldSettings, network: Network, params: Params, gold: NeuralReward, key: jax.Array
) -> Comparisons:
    """Pairs of reference responses, gold's favourite preferred."""
    prompts, tokens = s.language.prompts("train"), s.language.response_tokens
    drawn = draw_groups(network, params, prompts, key, num_groups=s.comparisons, group_size=2, max_tokens=tokens)
    flat = Responses(*(x.reshape(-1, *x.shape[2:]) for x in drawn))
    scores = score_members(jax.tree.map(lambda x: x[None], gold), flat)[0].reshape(-1, 2)
    target, weight = label_by_scores(scores, np.random.default_rng(s.seed), kind="hard")
    return Comparisons(Responses(*map(jnp.asarray, drawn)), jnp.asarray(target), jnp.asarray(weight))
