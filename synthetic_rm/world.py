"""F7: the world of an experiment: environment, reference policy, gold and backbones, as files put together."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from synthetic_rm.devices import share_parameters
from synthetic_rm.environments.reviews.environment import Reviews
from synthetic_rm.ladder import ParameterCount, count_parameters, shape_for_budget
from synthetic_rm.networks import transformer
from synthetic_rm.rewards.neural import NeuralReward, init_reward, neural_reward
from synthetic_rm.settings import BuildSettings
from synthetic_rm.store import Artifact
from synthetic_rm.types import Network, Params
from synthetic_rm.weights import load_params


@dataclass(frozen=True)
class World:
    """Everything fixed before comparisons are drawn."""

    environment: Reviews
    reference: Network
    reference_params: Params
    gold: NeuralReward
    """recentred and in standard deviations of the reference"""
    gold_scale: float
    """native logits of gold per standard deviation: labels are drawn on the native scale"""
    backbones: Mapping[int, Params]
    """language models by parameter budget, trunks for proxies"""
    keys: tuple[str, ...]
    """what identifies this world in the store"""
    facts: Mapping[str, Any]
    """held-out metrics of its models"""
    stages: tuple[Artifact, ...] = ()


def network_for(budget: int, vocab: int, dtype: str = "float32") -> Network:
    """The ladder's network for a parameter budget, computing in `dtype`."""
    return transformer(shape_for_budget(budget, vocab), {"float32": jnp.float32, "bfloat16": jnp.bfloat16}[dtype])


def network_count(budget: int, vocab: int, *, reward_head: bool = False) -> ParameterCount:
    """Exact parameter counts of the ladder's network for a budget."""
    return count_parameters(shape_for_budget(budget, vocab), reward_head=reward_head)


@cache
def abstract_trunk(network: Network) -> Any:
    """Shapes of a network's parameters."""
    return jax.eval_shape(network.init, jax.random.key(0))


@cache
def abstract_reward(network: Network) -> Any:
    """Shapes of a reward model's parameters."""
    return jax.eval_shape(lambda key: init_reward(network, key), jax.random.key(0))


def assemble(
    environment: Reviews,
    build: BuildSettings,
    reference_file: Path,
    gold_file: Path,
    backbone_files: Mapping[int, Path],
    *,
    facts: Mapping[str, Any],
    keys: tuple[str, ...],
    dtype: str,
    stages: tuple[Artifact, ...] = (),
) -> World:
    """A world from its files."""
    reference = network_for(build.reference_size, environment.vocab, dtype)
    gold_network = network_for(build.gold_size, environment.vocab, dtype)
    gold_params = share_parameters(load_params(gold_file, abstract_reward(gold_network)))
    gold = neural_reward(gold_network, gold_params, build.gold_readout)  # type: ignore[arg-type]
    deviation = float(facts["gold"]["reference_deviation"])
    backbones = {
        size: share_parameters(load_params(path, abstract_trunk(network_for(size, environment.vocab, dtype))))
        for size, path in backbone_files.items()
    }
    return World(
        environment,
        reference,
        share_parameters(load_params(reference_file, abstract_trunk(reference))),
        gold.centred(float(facts["gold"]["reference_mean"]), 1 / deviation if deviation > 0 else math.nan),
        deviation,
        backbones,
        keys,
        facts,
        stages,
    )
