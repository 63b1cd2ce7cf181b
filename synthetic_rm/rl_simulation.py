"""F7: RL against the proxies, through the store: one artifact for each size holds every run against its proxies.

Gold is with the host alone, where policies are measured between the chunks of an optimization.
"""

from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from synthetic_rm.capacity import costs_of
from synthetic_rm.checkpoints import Checkpoints
from synthetic_rm.devices import on_first
from synthetic_rm.optimizers.grpo import DR_GRPO, GRPO
from synthetic_rm.optimizers.measure_rl import Measurement, measure_policy
from synthetic_rm.optimizers.ppo import PPO
from synthetic_rm.optimizers.reinforce import RLOO
from synthetic_rm.optimizers.rl import Hyper, Metrics, Program
from synthetic_rm.optimizers.rl_run import Course, Lane, LaneResult, Point, optimize
from synthetic_rm.progress import Bar
from synthetic_rm.rewards.neural import init_reward, neural_reward
from synthetic_rm.runtime import concurrently
from synthetic_rm.settings import RLSettings
from synthetic_rm.simulation import ProxyGroup, Simulation
from synthetic_rm.store import Artifact
from synthetic_rm.training.supervised import TokenRows, token_rows
from synthetic_rm.types import Network, Params
from synthetic_rm.weights import load_arrays, save_arrays, save_params

METHODS = {method.name: method for method in (PPO, RLOO, GRPO, DR_GRPO)}
OF_VALUES = ("value_learning_rate", "value_start", "value_clip", "gae_lambda", "gamma")
"""settings that change nothing where the method has no value function"""
Arrays = dict[str, np.ndarray]


class RunSeeds(NamedTuple):
    """What tells the runs against the proxies of one size apart."""

    proxy: int
    policy: int


@dataclass(frozen=True)
class RLGroup:
    """Every run against the proxies of one size; K points at most, S iterations at most, P held-out prompts."""

    proxies: ProxyGroup
    artifact: Artifact
    points: Arrays
    """`step` [runs, K], -1 where a run has no more points; `first_tokens` [runs, K, P, T], `first_length`; float32
    [runs, K, P]: kl and the other figures of a `Summary`, proxy (its standard deviations over the reference's
    responses), gold, agreement, first_proxy, first_gold"""
    history: Arrays
    """every field of `Metrics`: [runs, S], nan beyond a run's end"""


def run_seeds(rl: RLSettings) -> list[RunSeeds]:
    """The runs against the proxies of each size, in their order."""
    return [RunSeeds(p, q) for p in range(rl.proxy_seeds) for q in range(rl.policy_seeds)]


def hyper_of(rl: RLSettings) -> Hyper:
    """The numbers of a run."""
    return Hyper(
        learning_rate=rl.learning_rate,
        value_learning_rate=rl.value_learning_rate,
        kl_coef=rl.kl_coef,
        kl_target=rl.kl_target or 0.0,
        clip=rl.clip,
        value_clip=np.inf if rl.value_clip is None else rl.value_clip,
        gae_lambda=rl.gae_lambda,
        gamma=rl.gamma,
        ptx_coef=rl.ptx_coef,
        warmup=rl.warmup,
        max_jump=rl.max_jump,
    )


def optimized(simulation: Simulation) -> list[RLGroup]:
    """Run every optimization (or find it in the store), the sizes side by side; one entry for each size."""
    settings = simulation.settings
    groups = [simulation.proxies(size) for size in settings.proxy.sizes]
    for group in groups:
        simulation.proxy_scoring(group)
    runs = len(run_seeds(settings.rl))
    with simulation.reporter.bar(f"{settings.rl.method} against the proxies", len(groups) * runs, "") as bar:
        sizes_at_once = costs_of(settings).rl_at_once[0]
        return list(concurrently(lambda group: _optimized_group(simulation, group, bar), groups, sizes_at_once))


def _optimized_group(simulation: Simulation, group: ProxyGroup, bar: Bar) -> RLGroup:
    settings = simulation.settings
    unused = {"table_prompts"} if METHODS[str(settings.rl.method)].has_value else {"table_prompts", *OF_VALUES}
    config = {
        **{key: value for key, value in asdict(settings.rl).items() if key not in unused},
        "held_out": [settings.best_of_n.prompts, settings.best_of_n.seed],
        "dtype": settings.runtime.dtype,
    }
    watched = _Watched(settings.rl, bar, group.artifact.facts["total"])

    def make(folder: Path, checkpoints: Checkpoints) -> dict[str, Any]:
        scores = simulation.proxy_scores(group)[: settings.rl.proxy_seeds].astype(np.float64)
        means, deviations = scores.mean((1, 2)), scores.std((1, 2))
        lanes = [
            _lane(simulation, group, seeds, float(means[seeds.proxy]), float(deviations[seeds.proxy]))
            for seeds in run_seeds(settings.rl)
        ]
        found = _optimize(simulation, group, lanes, watched, checkpoints)
        save_arrays(folder / "points.safetensors", _point_arrays([result.points for result in found]))
        save_arrays(folder / "history.safetensors", _history_arrays(found))
        policies = [on_first(result.params) for result in found]
        save_params(folder / "policies.safetensors", jax.tree.map(lambda *x: np.stack(x), *policies))
        return {
            "ended": [result.status for result in found],
            "finite": [result.status != "nonfinite" for result in found],
            "steps": [len(result.history.kl) for result in found],
            "proxy_mean": means.tolist(),
            "proxy_deviation": deviations.tolist(),
            "total": group.artifact.facts["total"],
            "non_embedding": group.artifact.facts["non_embedding"],
        }

    artifact = simulation.store.get("rl", config, [simulation.proxy_scoring(group).key, *simulation.policy.keys], make)
    watched.finish()
    points, history = (load_arrays(artifact.path / f"{name}.safetensors") for name in ("points", "history"))
    return RLGroup(group, artifact, points, history)


def _lane(simulation: Simulation, group: ProxyGroup, seeds: RunSeeds, mean: float, deviation: float) -> Lane:
    """One run: its reward is the proxy, 0 on average and 1 in standard deviation over the reference's responses."""
    settings = simulation.settings
    readout: Any = settings.proxy.readout
    params = jax.tree.map(lambda x: x[seeds.proxy], group.params)
    key = jax.random.key(5000 + settings.rl.seed)
    for seed in seeds:
        key = jax.random.fold_in(key, seed)
    value_key, key = jax.random.split(key)
    scale = 1.0 / deviation if deviation > 0 else np.nan
    proxy = neural_reward(group.network, params, readout).centred(mean, scale)
    return Lane(proxy, _value_start(simulation, params, mean, scale, value_key), key, hyper_of(settings.rl))


def _value_start(simulation: Simulation, proxy: Params, mean: float, scale: float, key: jax.Array) -> Params | None:
    """Parameters of the value function: the proxy in the reward's units, the reference with a new head, or fresh."""
    rl, policy = simulation.settings.rl, simulation.policy
    if not METHODS[str(rl.method)].has_value:
        return None
    if rl.value_start == "proxy":
        head = {"weight": scale * proxy["head"]["weight"], "bias": scale * (proxy["head"]["bias"] - mean)}
        return {"trunk": proxy["trunk"], "head": head}
    return init_reward(policy.network, key, policy.params if rl.value_start == "reference" else None)


def _program(simulation: Simulation, proxy_network: Network) -> Program:
    rl, network = simulation.settings.rl, simulation.policy.network
    method = METHODS[str(rl.method)]
    value = (proxy_network if rl.value_start == "proxy" else network) if method.has_value else None
    text = rl.ptx_rows if rl.ptx_coef > 0 else 0
    sizes = (rl.prompts, rl.samples, simulation.world.environment.response_tokens, rl.epochs, rl.minibatches)
    return Program(method, network, value, *sizes, text)


def _optimize(
    simulation: Simulation, group: ProxyGroup, lanes: list[Lane], watched: "_Watched", checkpoints: Checkpoints
) -> list[LaneResult]:
    """Run the lanes; every point's figures are those of `_figures`."""
    rl, world, policy = simulation.settings.rl, simulation.world, simulation.policy
    prompts, held_out = world.environment.prompts("train"), simulation.eval_prompts()
    key = jax.random.fold_in(jax.random.key(6000 + rl.seed), group.size)

    def on_point(lane: int, step: int, params: Params) -> Arrays:
        measured = measure_policy(
            policy.network,
            params,
            policy.params,
            held_out,
            jax.random.fold_in(jax.random.fold_in(key, lane), step),
            samples=rl.measure_samples,
            max_tokens=world.environment.response_tokens,
            proxy=lanes[lane].proxy,
            gold=world.gold,
        )
        watched.measured(lane, measured)
        return _figures(measured)

    text: TokenRows | None = None
    if rl.ptx_coef > 0:
        text = token_rows(world.environment.demonstrations("train"), response_only=True)
    return optimize(
        _program(simulation, group.network),
        policy.params,
        prompts,
        lanes,
        Course(rl.spacing, rl.kl_budget, rl.max_steps, rl.measure_every),
        width=min(rl.vmap_width, len(lanes)),
        at_once=costs_of(simulation.settings).rl_at_once[1],
        ptx=text,
        on_point=on_point,
        on_chunk=watched.chunk,
        checkpoints=checkpoints,
    )


def _figures(measured: Measurement) -> Arrays:
    """A point's figures by name, each [prompts, ...]."""
    named = {**measured._asdict(), **measured.summary._asdict()}
    named |= {"first_tokens": measured.first.tokens, "first_length": measured.first.length}
    return {name: np.asarray(x) for name, x in named.items() if name not in ("summary", "first")}


def _point_arrays(runs: list[list[Point]]) -> Arrays:
    most = max(len(run) for run in runs)
    arrays = {"step": np.array([[step for step, _ in run] + [-1] * (most - len(run)) for run in runs], np.int32)}
    for name, like in runs[0][0][1].items():
        padded = [[figures[name] for _, figures in run] + [np.zeros_like(like)] * (most - len(run)) for run in runs]
        arrays[name] = np.stack([np.stack(row) for row in padded])
    return arrays


def _history_arrays(found: list[LaneResult]) -> Arrays:
    most = max(len(result.history.kl) for result in found)

    def padded(values: np.ndarray) -> np.ndarray:
        return np.pad(values.astype(np.float32), (0, most - len(values)), constant_values=np.nan)

    return {name: np.stack([padded(getattr(result.history, name)) for result in found]) for name in Metrics._fields}


class _Watched:
    """What the bar shows of the runs of one size: how far they are, and the last figures of the one that moved."""

    def __init__(self, rl: RLSettings, bar: Bar, params: int):
        self.rl, self.bar, self.params = rl, bar, params
        self.steps: dict[int, int] = defaultdict(int)
        self.done: dict[int, float] = defaultdict(float)
        self.note: dict[int, str] = {}

    def chunk(self, lane: int, metrics: Metrics) -> None:
        """Count a chunk's iterations and tokens: a run is as far as its steps or its distance, the larger."""
        self.steps[lane] += len(metrics.kl)
        distance = np.sqrt(max(float(metrics.kl[-1]), 0.0) / self.rl.kl_budget)
        far = min(max(self.steps[lane] / self.rl.max_steps, distance if np.isfinite(distance) else 0.0), 1.0)
        gained, self.done[lane] = max(far - self.done[lane], 0.0), max(far, self.done[lane])
        tokens = float(metrics.length.sum()) * self.rl.prompts * self.rl.samples
        self.bar.advance(gained, self.note.get(lane, ""), tokens=tokens)
        means = {name: float(np.mean(values)) for name, values in metrics._asdict().items()}
        self.bar.track(f"{self.params} run {lane}", self.steps[lane], **means)

    def measured(self, lane: int, found: Measurement) -> None:
        """Remember what a point's figures are."""
        kl, proxy, gold = (float(np.mean(x)) for x in (found.summary.kl, found.proxy, found.gold))
        self.note[lane] = f"{self.params:,} params, KL {kl:.1f}, proxy {proxy:.2f}, gold {gold:.2f}"

    def finish(self) -> None:
        """The runs are done, however far they got, and where they were found in the store."""
        self.bar.advance(len(run_seeds(self.rl)) - sum(self.done.values()))
