"""F7: a world's models trained from human ratings, stage by stage through the store."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from synthetic_rm.calibration import calibrate, gold_facts
from synthetic_rm.checkpoints import Checkpoints
from synthetic_rm.devices import share_parameters
from synthetic_rm.environments.reviews.environment import Reviews, train_reviews_tokenizer
from synthetic_rm.environments.reviews.ratings import DATA_SHA256
from synthetic_rm.environments.reviews.tokenizer import load_tokenizer, save_tokenizer
from synthetic_rm.errors import InputError
from synthetic_rm.memory import training_memory
from synthetic_rm.progress import Reporter
from synthetic_rm.provenance import file_digest
from synthetic_rm.rewards.neural import init_reward, neural_reward
from synthetic_rm.runtime import concurrently, side_by_side
from synthetic_rm.settings import BuildSettings, EnvironmentSettings
from synthetic_rm.store import Artifact, Store
from synthetic_rm.training.loop import usable_memory
from synthetic_rm.training.reward import train_reward
from synthetic_rm.training.supervised import evaluate_language_model, token_rows, train_language_model
from synthetic_rm.types import PAD, Network, Responses
from synthetic_rm.weights import load_params, save_params
from synthetic_rm.world import World, abstract_trunk, assemble, network_count, network_for

LEARNING_RATE = 3e-3
"""peak rate of a language model of width 64 or less; wider ones take 3e-3 sqrt(64 / width)"""
SFT_RATE = 0.1
"""the fine-tuning rate as a share of the pretraining rate"""


def learning_rate(network: Network) -> float:
    """Peak rate of language-model training: 3e-3, and 3e-3 sqrt(64 / D) above width 64."""
    return LEARNING_RATE * min(1.0, (64 / network.shape.width) ** 0.5)


def data_sha256(settings: EnvironmentSettings) -> str:
    """SHA-256 of the user's ratings file, or of the shipped table: what the ratings are, wherever they lie.

    Raises:
        InputError: the file cannot be read.
    """
    if settings.data is None:
        return DATA_SHA256
    try:
        return file_digest(Path(settings.data))
    except OSError as error:
        raise InputError(f"environment.data={settings.data}: cannot be read ({error.strerror})") from error


@dataclass(frozen=True)
class Builder:
    """Trains a world's models stage by stage, each stored under what determines it."""

    settings: EnvironmentSettings
    store: Store
    reporter: Reporter
    dtype: str = "float32"
    memory: Callable[[], int] = usable_memory
    """bytes of a device that training may fill, asked for when something is trained"""

    @property
    def build(self) -> BuildSettings:
        return self.settings.build

    def _environment_config(self) -> dict[str, Any]:
        s = self.settings
        return {
            "vocab": s.vocab,
            "prompt_tokens": s.prompt_tokens,
            "response_tokens": s.response_tokens,
            "data": data_sha256(s),
        }

    @cached_property
    def tokenizer(self) -> Artifact:
        """Learn the tokenizer on the training split."""

        def make(folder: Path, _: Checkpoints) -> dict[str, Any]:
            data = Path(self.settings.data) if self.settings.data else None
            save_tokenizer(train_reviews_tokenizer(data, self.settings.vocab), folder / "tokenizer.json")
            return {}

        return self.store.get("tokenizer", self._environment_config(), [], make)

    @cached_property
    def environment(self) -> Reviews:
        """The snippets in tokens, before any model."""
        s = self.settings
        return Reviews(
            load_tokenizer(self.tokenizer.path / "tokenizer.json"),
            s.prompt_tokens,
            s.response_tokens,
            Path(s.data) if s.data else None,
        )

    def language_model(self, environment: Reviews, parent: str, size: int, steps: int) -> Artifact:
        """Train a language model of a size on whole snippets: a backbone, or the start of reference and gold."""
        config = {"size": size, "steps": steps, "batch": self.build.batch, "seed": self.build.seed, "dtype": self.dtype}

        def make(folder: Path, checkpoints: Checkpoints) -> dict[str, Any]:
            network = network_for(size, environment.vocab, self.dtype)
            rows = token_rows(environment.demonstrations("train"), response_only=False)
            with self.reporter.bar(f"language model {size:,}", steps, "steps") as bar:
                result = train_language_model(
                    network,
                    share_parameters(network.init(jax.random.key(self.build.seed))),
                    rows,
                    seed=self.build.seed,
                    steps=steps,
                    batch=self.build.batch,
                    learning_rate=learning_rate(network),
                    memory=self.memory(),
                    on_chunk=bar.losses,
                    checkpoints=checkpoints,
                )
            params = jax.tree.map(lambda x: x[0], result.params)
            save_params(folder / "params.safetensors", params)
            held_out = token_rows(environment.demonstrations("validation"), response_only=False)
            return {
                "size": size,
                **network_count(size, environment.vocab)._asdict(),
                "train_loss": float(result.losses[0, -50:].mean()),
                "validation_loss": evaluate_language_model(network, params, held_out),
                "finite": bool(result.finite[0]),
            }

        return self.store.get("backbone", config, [parent], make)

    def _language_models(self, models: Sequence[tuple[int, int]]) -> list[Artifact]:
        """Language models of these sizes and steps, side by side where memory holds as many as there are processors."""
        environment, text = self.environment, self.tokenizer.key
        rows, length = self.build.batch, environment.prompt_tokens + environment.response_tokens - 1
        shapes = [network_for(size, environment.vocab).shape for size, _ in models]
        need = max(training_memory(shape, length, rows, predicts=True).total for shape in shapes)
        call = concurrently if need * side_by_side() <= self.memory() else map
        environment.part("train")  # encoded once, before several ask for it
        made = call(lambda model: self.language_model(environment, text, *model), dict.fromkeys(models))
        found = dict(zip(dict.fromkeys(models), made, strict=True))
        return [found[model] for model in models]

    def reference(self, environment: Reviews, backbone: Artifact) -> Artifact:
        """Fine-tune the reference policy on responses alone (supervised fine-tuning on demonstrations)."""
        build = self.build
        config = {"size": build.reference_size, "epochs": build.sft_epochs, "batch": build.batch, "seed": build.seed}

        def make(folder: Path, checkpoints: Checkpoints) -> dict[str, Any]:
            network = network_for(build.reference_size, environment.vocab, self.dtype)
            rows = token_rows(environment.demonstrations("train"), response_only=True)
            steps = max(1, int(build.sft_epochs * rows.tokens.shape[0]) // build.batch)
            with self.reporter.bar("reference policy (SFT)", steps, "steps") as bar:
                result = train_language_model(
                    network,
                    share_parameters(load_params(backbone.path / "params.safetensors", abstract_trunk(network))),
                    rows,
                    seed=build.seed + 1,
                    steps=steps,
                    batch=build.batch,
                    learning_rate=SFT_RATE * learning_rate(network),
                    memory=self.memory(),
                    on_chunk=bar.losses,
                    checkpoints=checkpoints,
                )
            params = jax.tree.map(lambda x: x[0], result.params)
            save_params(folder / "params.safetensors", params)
            held_out = token_rows(environment.demonstrations("validation"), response_only=True)
            return {
                **network_count(build.reference_size, environment.vocab)._asdict(),
                "train_loss": float(result.losses[0, -50:].mean()),
                "validation_loss": evaluate_language_model(network, params, held_out),
                "finite": bool(result.finite[0]),
            }

        return self.store.get("reference", config, [backbone.key], make)

    def gold(self, environment: Reviews, backbone: Artifact, reference: Artifact) -> Artifact:
        """Train gold on human comparisons with the K-way ranking loss, and centre it on the reference policy."""
        build = self.build
        config = {
            key: value
            for key, value in asdict(build).items()
            if key.startswith("gold_") or key == "calibration_samples"
        } | {"seed": build.seed}

        def make(folder: Path, checkpoints: Checkpoints) -> dict[str, Any]:
            network = network_for(build.gold_size, environment.vocab, self.dtype)
            trunk = share_parameters(load_params(backbone.path / "params.safetensors", abstract_trunk(network)))
            start = init_reward(network, jax.random.key(build.seed), trunk)
            groups = environment.human_comparisons(
                "train",
                np.random.default_rng(build.seed),
                group_size=build.gold_group_size,
                num_groups=build.gold_groups,
                kind="share",
            )
            groups = groups._replace(responses=hide_tokens(groups.responses, build.gold_token_dropout, build.seed))
            with self.reporter.bar("gold reward model", build.gold_groups // build.gold_batch, "steps") as bar:
                result = train_reward(
                    network,
                    jax.tree.map(lambda x: x[None], start),
                    groups,
                    seeds=[build.seed],
                    epochs=1,
                    batch=build.gold_batch,
                    learning_rate=build.gold_learning_rate,
                    readout=build.gold_readout,  # type: ignore[arg-type]
                    memory=self.memory(),
                    on_chunk=bar.losses,
                    checkpoints=checkpoints,
                )
            params = jax.tree.map(lambda x: x[0], result.params)
            save_params(folder / "params.safetensors", params)
            model = neural_reward(network, params, build.gold_readout)  # type: ignore[arg-type]
            policy = network_for(build.reference_size, environment.vocab, self.dtype)
            tuned = load_params(reference.path / "params.safetensors", abstract_trunk(policy))
            sizes = {"samples": build.calibration_samples, "seed": build.seed}
            mean, deviation = calibrate(model, environment, policy, share_parameters(tuned), checkpoints, **sizes)
            return {
                **network_count(build.gold_size, environment.vocab, reward_head=True)._asdict(),
                "train_loss": float(result.losses[0, -50:].mean()),
                "reference_mean": mean,
                "reference_deviation": deviation,
                "finite": bool(result.finite[0]) and bool(np.isfinite(mean)) and 0 < deviation < float("inf"),
                **gold_facts(model, environment, "test"),
            }

        return self.store.get("gold", config, [backbone.key, reference.key], make)

    def world(self) -> World:
        """Train (or find in the store) every model of the world."""
        build, sizes = self.build, self.build.backbone_sizes
        tokenizer, environment = self.tokenizer, self.environment
        models = [(build.reference_size, build.reference_steps), (build.gold_size, build.gold_steps)]
        models += [(size, build.backbone_steps) for size in sizes]
        start, gold_start, *trunks = self._language_models(models)
        reference = self.reference(environment, start)
        gold = self.gold(environment, gold_start, reference)
        files = {size: artifact.path / "params.safetensors" for size, artifact in zip(sizes, trunks, strict=True)}
        return assemble(
            environment,
            build,
            reference.path / "params.safetensors",
            gold.path / "params.safetensors",
            files,
            facts={
                "reference": reference.facts,
                "gold": gold.facts,
                "backbones": {str(size): trunk.facts for size, trunk in zip(sizes, trunks, strict=True)},
            },
            keys=(tokenizer.key, reference.key, gold.key, *(trunk.key for trunk in trunks)),
            dtype=self.dtype,
            stages=(tokenizer, start, reference, gold_start, gold, *trunks),
        )


def hide_tokens(responses: Responses, rate: float, seed: int) -> Responses:
    """Responses with a random share of their tokens, the begin token apart, replaced by `PAD`."""
    rng = np.random.default_rng([seed, 1])
    prompt, tokens = (np.array(x) for x in (responses.prompt, responses.tokens))
    hidden = rng.random(prompt.shape) < rate
    hidden[..., 0] = False
    prompt[hidden] = PAD
    tokens[rng.random(tokens.shape) < rate] = PAD
    return Responses(jnp.asarray(prompt), jnp.asarray(tokens), jnp.asarray(responses.length))
