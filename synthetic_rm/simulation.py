"""F7: the whole experiment: world -> comparisons -> proxies -> best-of-n, each stage through the store."""

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from synthetic_rm.build import Builder
from synthetic_rm.capacity import costs_of
from synthetic_rm.checkpoints import Checkpoints
from synthetic_rm.checks import check_prompts
from synthetic_rm.comparisons import draw_groups, held_out_groups, label_by_scores, split_groups
from synthetic_rm.devices import share_parameters
from synthetic_rm.environments.reviews.environment import Reviews
from synthetic_rm.estimators import ns_grid
from synthetic_rm.initial_policy import InitialPolicy, initial_policy
from synthetic_rm.losses import pair_margins
from synthetic_rm.optimizers.best_of_n import Pool, draw_pool, open_pool, response_identity, score_pool
from synthetic_rm.progress import Reporter
from synthetic_rm.reading import open_npy
from synthetic_rm.recalibration import recalibration_factor
from synthetic_rm.release import load_release
from synthetic_rm.rewards.neural import init_reward, neural_reward
from synthetic_rm.scoring import score
from synthetic_rm.settings import Settings
from synthetic_rm.store import Artifact, Store
from synthetic_rm.training.reward import evaluate_reward, reward_learning_rate, train_reward
from synthetic_rm.types import Comparisons, Network, Responses
from synthetic_rm.weights import load_arrays, load_params, save_arrays, save_params
from synthetic_rm.world import World, abstract_reward, network_count, network_for


@dataclass(frozen=True)
class ProxyGroup:
    """The proxies of one size: every seed, as trained."""

    size: int
    network: Network
    params: Any
    """[seeds, ...]"""
    artifact: Artifact


@dataclass(frozen=True)
class Simulation:
    """One experiment's stages, made on demand and reused where the store has them."""

    settings: Settings
    store: Store
    reporter: Reporter

    @cached_property
    def builder(self) -> Builder:
        s = self.settings
        return Builder(s.environment, self.store, self.reporter, s.runtime.dtype, lambda: costs_of(s).usable)

    @cached_property
    def environment(self) -> Reviews:
        """Prompts and ratings: known before anything is trained."""
        return self.builder.environment if self.settings.environment.release is None else self.world.environment

    @cached_property
    def world(self) -> World:
        release = self.settings.environment.release
        return self.builder.world() if release is None else load_release(release, dtype=self.settings.runtime.dtype)

    @cached_property
    def policy(self) -> InitialPolicy:
        """What is optimized; the world's reference draws the comparisons all the same."""
        return initial_policy(self.settings, self.world, self.builder)

    @cached_property
    def comparisons(self) -> Artifact:
        """Draw groups of reference responses (or of human-written ones) and label them."""
        settings, world = self.settings.comparisons, self.world
        config = {**asdict(settings), "dtype": self.settings.runtime.dtype}

        def make(folder: Path, checkpoints: Checkpoints) -> dict[str, Any]:
            data = self._human_comparisons() if settings.labels == "human" else self._gold_comparisons(checkpoints)
            named = {**data.responses._asdict(), "target": data.target, "weight": data.weight}
            arrays = {name: np.asarray(value) for name, value in named.items()}
            save_arrays(folder / "comparisons.safetensors", arrays)
            length, weight = arrays["length"], arrays["weight"]
            return {"groups": len(weight), "dropped": float(1 - weight.mean()), "mean_length": float(length.mean())}

        return self.store.get("comparisons", config, world.keys, make)

    def _human_comparisons(self) -> Comparisons:
        s = self.settings.comparisons
        rng, draw = np.random.default_rng(s.seed), self.world.environment.human_comparisons
        held_out = held_out_groups(s.num, s.held_out)
        parts = [
            draw(split, rng, group_size=s.group_size, num_groups=count, kind="rater")
            for split, count in (("train", s.num - held_out), ("validation", held_out))
        ]
        return jax.tree.map(lambda *x: jnp.concatenate(x), *parts)

    def _gold_comparisons(self, checkpoints: Checkpoints) -> Comparisons:
        """Training groups over the prompts of "train", then held-out ones over those of "validation"."""
        s, world = self.settings.comparisons, self.world
        held_out = held_out_groups(s.num, s.held_out)
        plan = {"train": s.num - held_out, "validation": held_out}
        keys = jax.random.split(jax.random.key(s.seed))
        with self.reporter.bar("comparisons", s.num, "groups") as bar:
            parts = [
                draw_groups(
                    world.reference,
                    world.reference_params,
                    world.environment.prompts(split),
                    key,
                    num_groups=groups,
                    group_size=s.group_size,
                    max_tokens=world.environment.response_tokens,
                    on_chunk=bar.advance,
                    loop=checkpoints.loop(f"drawn-{split}"),
                )
                for key, (split, groups) in zip(keys, plan.items(), strict=True)
            ]
        drawn = jax.tree.map(lambda *x: np.concatenate(x), *parts)
        flat = Responses(*(x.reshape(-1, *x.shape[2:]) for x in drawn))
        native = score(world.gold, flat, checkpoints.loop("scored")).reshape(s.num, s.group_size) * world.gold_scale
        target, weight = label_by_scores(native, np.random.default_rng(s.seed), kind=s.labels, noise=s.noise)  # type: ignore[arg-type]
        return Comparisons(drawn, target, weight)  # type: ignore[arg-type]

    def comparison_parts(self) -> tuple[Comparisons, Comparisons]:
        """(training, held-out) comparisons as device arrays; of the former those that the proxies learn from."""
        stored = load_arrays(self.comparisons.path / "comparisons.safetensors")
        responses = Responses(*(jnp.asarray(stored[name]) for name in Responses._fields))
        data = Comparisons(responses, jnp.asarray(stored["target"]), jnp.asarray(stored["weight"]))
        training, held_out = split_groups(data, self.settings.comparisons.held_out)
        return jax.tree.map(lambda x: x[: self.settings.proxy.num_comparisons], training), held_out

    def proxies(self, size: int) -> ProxyGroup:
        """Train the proxies of one size, every seed from its own start and in its own order."""
        s, world, vocab = self.settings.proxy, self.world, self.settings.environment.vocab
        network = network_for(size, vocab, self.settings.runtime.dtype)
        count = network_count(size, vocab, reward_head=True)
        rate = s.learning_rate if s.learning_rate is not None else reward_learning_rate(count.total)
        config = {"size": size, "shape": list(network.shape), "learning_rate": rate}
        config |= {name: getattr(s, name) for name in ("seeds", "init", "readout", "epochs", "batch", "vmap_width")}
        config |= {"dtype": self.settings.runtime.dtype}
        config |= {} if s.num_comparisons is None else {"num_comparisons": s.num_comparisons}

        def make(folder: Path, checkpoints: Checkpoints) -> dict[str, Any]:
            training, held_out = self.comparison_parts()
            trunk = world.backbones[size] if s.init == "backbone" else None
            starts = [init_reward(network, jax.random.key(1000 + seed), trunk) for seed in range(s.seeds)]
            params = share_parameters(jax.tree.map(lambda *x: jnp.stack(x), *starts), lead=1)
            steps = max(1, int(training.target.shape[0] * s.epochs) // s.batch)
            with self.reporter.bar(f"proxies {count.total:,} x {s.seeds}", steps * s.seeds, "steps") as bar:
                result = train_reward(
                    network,
                    params,
                    training,
                    seeds=[2000 + seed for seed in range(s.seeds)],
                    epochs=s.epochs,
                    batch=s.batch,
                    learning_rate=rate,
                    readout=s.readout,  # type: ignore[arg-type]
                    width=s.vmap_width,
                    memory=costs_of(self.settings).room(size),
                    on_chunk=bar.losses,
                    checkpoints=checkpoints,
                )
            save_params(folder / "params.safetensors", result.params)
            members = [jax.tree.map(lambda x, i=i: x[i], result.params) for i in range(s.seeds)]
            readout: Any = s.readout
            metrics = [evaluate_reward(network, member, held_out, readout=readout) for member in members]
            return {
                "size": size,
                **count._asdict(),
                "learning_rate": rate,
                "steps": steps,
                "train_loss": [float(losses[-50:].mean()) for losses in result.losses],
                "validation_loss": [float(m.loss) for m in metrics],
                "validation_accuracy": [float(m.accuracy) for m in metrics],
                "finite": [bool(x) for x in result.finite],
            }

        artifact = self.store.get("proxy", config, [self.comparisons.key, *world.keys], make)
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct((s.seeds, *x.shape), x.dtype), abstract_reward(network))
        params = share_parameters(load_params(artifact.path / "params.safetensors", like), lead=1)
        return ProxyGroup(size, network, params, artifact)

    def eval_prompts(self) -> np.ndarray:
        """Held-out prompts [prompts, P] on which optimizers are measured."""
        s, prompts = self.settings.best_of_n, self.environment.prompts("test")
        check_prompts(self.settings, self.environment)
        return prompts[np.random.default_rng(s.seed).permutation(len(prompts))[: s.prompts]]

    @cached_property
    def pool(self) -> Artifact:
        """Draw the best-of-n pool of the policy before it is optimized."""
        s, policy = self.settings.best_of_n, self.policy
        config: dict[str, Any] = {"prompts": s.prompts, "samples": s.samples, "seed": s.seed}
        config |= {"dtype": self.settings.runtime.dtype, "at_once": [s.prompts_at_once, s.samples_at_once]}

        def make(folder: Path, checkpoints: Checkpoints) -> dict[str, Any]:
            prompts = self.eval_prompts()
            with self.reporter.bar("pool", len(prompts) * s.samples, "samples") as bar:
                pool = draw_pool(
                    policy.network,
                    policy.params,
                    prompts,
                    jax.random.key(4000 + s.seed),
                    folder,
                    samples=s.samples,
                    max_tokens=self.world.environment.response_tokens,
                    prompts_at_once=s.prompts_at_once,
                    samples_at_once=s.samples_at_once,
                    on_chunk=lambda count, tokens: bar.advance(count, tokens=tokens),
                    loop=checkpoints.loop("drawn"),
                )
            identity = response_identity(pool)
            np.save(folder / "identity.npy", identity.astype(np.int32), allow_pickle=False)
            distinct = np.mean([len(np.unique(row)) / len(row) for row in identity])
            return {"prompts": len(prompts), "mean_length": float(pool.length.mean()), "distinct": float(distinct)}

        return self.store.get("pool", config, policy.keys, make)

    def open_pool(self) -> Pool:
        return open_pool(self.pool.path)

    def pool_scores(self, members: Any, title: str, parents: list[str]) -> Artifact:
        """Scores of reward models (leading axis [members]) over the pool, as `scores.npy` [members, prompts, N]."""

        def make(folder: Path, checkpoints: Checkpoints) -> dict[str, Any]:
            pool, identity = self.open_pool(), open_npy(self.pool.path / "identity.npy")
            with self.reporter.bar(title, pool.length.size, "samples") as bar:
                loop, path = checkpoints.loop("scored"), folder / "scores.npy"
                scores = score_pool(members, pool, identity, path, on_chunk=bar.advance, loop=loop)
            return {"finite": [bool(np.isfinite(member).all()) for member in scores]}

        return self.store.get("scores", {}, [self.pool.key, *parents], make)

    @cached_property
    def gold_scoring(self) -> Artifact:
        """Score the pool by gold."""
        members = jax.tree.map(lambda x: x[None], self.world.gold)
        return self.pool_scores(members, "gold scores the pool", ["gold", *self.world.keys])

    def gold_scores(self) -> np.ndarray:
        """[prompts, N] gold scores of the pool, in standard deviations of the reference."""
        return open_npy(self.gold_scoring.path / "scores.npy")[0]

    def proxy_scoring(self, group: ProxyGroup) -> Artifact:
        """Score the pool by every proxy of a size."""
        read: Any = self.settings.proxy.readout
        members = jax.vmap(lambda params: neural_reward(group.network, params, read))(group.params)
        return self.pool_scores(members, f"proxies {group.size:,} score the pool", [group.artifact.key])

    def proxy_scores(self, group: ProxyGroup) -> np.ndarray:
        """[seeds, prompts, N] raw proxy scores of the pool."""
        return open_npy(self.proxy_scoring(group).path / "scores.npy")

    @cached_property
    def held_out_scoring(self) -> Artifact:
        """Score the held-out comparisons by gold."""

        def make(folder: Path, checkpoints: Checkpoints) -> dict[str, Any]:
            scores = score(self.world.gold, self._held_out, checkpoints.loop("scored"))
            np.save(folder / "scores.npy", scores, allow_pickle=False)
            return {}

        return self.store.get("scores", {}, [self.comparisons.key, "gold", *self.world.keys], make)

    @cached_property
    def held_out_gold(self) -> np.ndarray:
        """[groups, pairs] gold's native margins on the held-out comparisons."""
        return self._margins(open_npy(self.held_out_scoring.path / "scores.npy") * self.world.gold_scale)

    @cached_property
    def _held_out(self) -> Responses:
        responses = self.comparison_parts()[1].responses
        return Responses(*(x.reshape(-1, *x.shape[2:]) for x in responses))

    def _margins(self, scores: np.ndarray) -> np.ndarray:
        return np.asarray(pair_margins(jnp.asarray(scores).reshape(-1, self.settings.comparisons.group_size)))

    def recalibration(self, group: ProxyGroup, seed: int) -> float:
        """The factor on a proxy's logits that minimises cross-entropy to gold's soft labels (section 2.2).

        s* = argmin_s mean CE(s(g_a - g_b), s(s (r_a - r_b))) over the held-out comparisons, gold on its native scale.
        """
        params = jax.tree.map(lambda x: x[seed], group.params)
        model = neural_reward(group.network, params, self.settings.proxy.readout)  # type: ignore[arg-type]
        return recalibration_factor(self._margins(score(model, self._held_out)), self.held_out_gold)

    def pressures(self) -> np.ndarray:
        """[k] the values of n measured."""
        s = self.settings.best_of_n
        return ns_grid(s.max_n or s.samples, s.points)
