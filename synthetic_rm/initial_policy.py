"""F7: the policy that optimization starts from: the world's reference, or one of another size, trained as that was."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from synthetic_rm.build import Builder
from synthetic_rm.capacity import costs_of
from synthetic_rm.devices import share_parameters
from synthetic_rm.provenance import digest
from synthetic_rm.release import release_build
from synthetic_rm.settings import Settings
from synthetic_rm.store import Artifact
from synthetic_rm.types import Network, Params
from synthetic_rm.weights import load_params
from synthetic_rm.world import World, abstract_trunk, network_count, network_for

WEIGHTS = "params.safetensors"


@dataclass(frozen=True)
class InitialPolicy:
    """A policy before it is optimized; KL is measured from it, and scores are recentred on its responses."""

    network: Network
    total: int
    """parameters"""
    keys: tuple[str, ...]
    """what identifies it, and the world it is measured in, in the store"""
    stages: tuple[Artifact, ...]
    """that made it, beside those of the world: none where it is the world's reference"""
    weights: Params | Path
    """or the file of them"""

    @cached_property
    def params(self) -> Params:
        """Its parameters, read when they are asked for."""
        return (
            share_parameters(load_params(self.weights, abstract_trunk(self.network)))
            if isinstance(self.weights, Path)
            else self.weights
        )


def initial_policy(settings: Settings, world: World, builder: Builder) -> InitialPolicy:
    """The policy of `policy.size` parameters: null is the reference that drew the comparisons.

    One of another size is pretrained and fine-tuned on the same text in as many steps and by the same rule of learning
    rates as the world's reference, a stage of the store each.
    """
    size = settings.policy.size
    if size is None:
        total = int(world.facts["reference"]["total"])
        return InitialPolicy(world.reference, total, world.keys, (), world.reference_params)
    environment, release = settings.environment, settings.environment.release
    build = environment.build if release is None else release_build(release)
    text = builder.tokenizer.key if release is None else digest(list(world.keys))
    trained = replace(environment, build=replace(build, reference_size=size))
    trainer = replace(builder, settings=trained, memory=lambda: builder.memory() - costs_of(settings).resident)
    start = trainer.language_model(world.environment, text, size, build.reference_steps)
    tuned = trainer.reference(world.environment, start)
    network = network_for(size, world.environment.vocab, settings.runtime.dtype)
    total = network_count(size, world.environment.vocab).total
    return InitialPolicy(network, total, (*world.keys, tuned.key), (start, tuned), tuned.path / WEIGHTS)
