"""F6: the host's side of policy gradient: lanes run in chunks and are shown at even distances from the reference."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from synthetic_rm.checkpoints import UNSAVED, Checkpoints
from synthetic_rm.devices import everywhere, share_parameters
from synthetic_rm.errors import require
from synthetic_rm.optimizers.rl import Hyper, Metrics, Program, RLState
from synthetic_rm.optimizers.rl_step import init_state, run_chunk
from synthetic_rm.progress import from_before
from synthetic_rm.runtime import concurrently
from synthetic_rm.training.supervised import TokenRows
from synthetic_rm.types import Key, Params, RewardModel

COLLAPSED = 0.03
"""nats per token: a policy of less entropy says one thing only and learns nothing more"""


class Lane(NamedTuple):
    """One optimization: a proxy, where its value function starts, its key and its numbers."""

    proxy: RewardModel
    value: Params | None
    key: Key
    hyper: Hyper


class Course(NamedTuple):
    """How far lanes run and where they are shown."""

    spacing: float
    """of the points at which a lane is shown, in sqrt(KL)"""
    kl_budget: float
    """nats: a lane ends at the first rollout beyond"""
    max_steps: int
    """iterations: a lane ends after so many"""
    show_every: int
    """iterations: a lane that reached no new point for so many is shown all the same"""


Figures = Mapping[str, np.ndarray]
Point = tuple[int, Figures]
"""updates made, and what was measured then"""


class LaneResult(NamedTuple):
    status: str
    """"kl_budget", "max_steps", "collapsed" or "nonfinite\""""
    params: Params
    """of the policy last shown; of a lane that was not finite, the last finite one"""
    history: Metrics
    """of every iteration: numpy [steps]"""
    points: list[Point]
    """what `on_point` gave, in its order"""


OnPoint = Callable[[int, int, Params], Figures | None]
"""(lane, updates made, policy) -> what was measured then: kept and given back, nothing depends on it."""
OnChunk = Callable[[int, Metrics], None]
"""(lane, metrics of the chunk's iterations)"""


class _Progress:
    """Where one lane is, for the host."""

    def __init__(self, course: Course):
        self.course, self.status = course, ""
        self.next_point, self.last_shown = course.spacing, 0
        self.chunks: list[Metrics] = []
        self.points: list[Point] = []
        self.steps = 0

    @property
    def target(self) -> float:
        return min(self.next_point**2, self.course.kl_budget)

    @property
    def room(self) -> int:
        """Iterations until the lane has to be looked at."""
        return min(self.last_shown + self.course.show_every, self.course.max_steps) - self.steps

    def take(self, metrics: Metrics, alive: bool) -> bool:
        """Account for a chunk; whether the policy of its last rollout is to be shown."""
        self.chunks.append(metrics)
        self.steps += len(metrics.kl)
        kl, undone = float(metrics.kl[-1]), bool(metrics.undone[-1])
        if not alive:
            self.status = "nonfinite"
            return False
        if metrics.entropy[-1] < COLLAPSED and not undone:
            self.status = "collapsed"
        elif kl >= self.course.kl_budget and not undone:
            self.status = "kl_budget"
        elif self.steps >= self.course.max_steps:
            self.status = "max_steps"
        shown = bool(self.status) or (kl >= self.target and not undone) or self.room <= 0
        if shown:
            self.last_shown = self.steps
            passed = math.floor(math.sqrt(max(kl, 0.0)) / self.course.spacing)
            self.next_point = max(self.next_point, self.course.spacing * (passed + 1))
        return shown

    def measured(self, step: int, found: Figures | None) -> None:
        """Keep what was measured of the policy after so many updates."""
        if found is not None:
            self.points.append((step, found))

    @property
    def history(self) -> Metrics:
        """Of every iteration so far."""
        return jax.tree.map(lambda *x: np.concatenate(x), *self.chunks)

    def arrays(self, lane: int) -> dict[str, np.ndarray]:
        """What `resume` needs, under names that begin with the lane."""
        named: dict[str, Any] = {"chunks": np.array([len(chunk.kl) for chunk in self.chunks])}
        named |= {f"history.{name}": values for name, values in self.history._asdict().items()}
        named |= {f"points.{step}.{name}": x for step, found in self.points for name, x in found.items()}
        return {f"{lane}.{name}": np.asarray(x) for name, x in named.items()}

    def resume(self, lane: int, arrays: Figures, alive: bool) -> None:
        """Take every chunk of an earlier process again, and what it measured."""
        mine = {name.removeprefix(f"{lane}."): x for name, x in arrays.items() if name.startswith(f"{lane}.")}
        ends = np.cumsum(mine["chunks"]).tolist()
        for start, end in zip([0, *ends], ends, strict=False):
            fields: list[Any] = [mine[f"history.{name}"][start:end] for name in Metrics._fields]
            self.take(Metrics(*fields), alive or end < ends[-1])
        points: dict[int, dict[str, np.ndarray]] = defaultdict(dict)
        for name, x in mine.items():
            if name.startswith("points."):
                _, step, figure = name.split(".", 2)
                points[int(step)][figure] = x
        self.points = sorted(points.items())


def check_proxy(program: Program, proxy: Any) -> None:
    """The proxy reads the policy's tokens.

    Raises:
        InputError: it is of another vocabulary.
    """
    network = getattr(proxy, "network", None)
    theirs, ours = getattr(getattr(network, "shape", None), "vocab", None), program.network.shape.vocab
    require(theirs in (None, ours), f"proxy of vocabulary {theirs}: the policy's is {ours}, they must be the same")


def optimize(
    program: Program,
    reference: Params,
    prompts: np.ndarray,
    lanes: Sequence[Lane],
    course: Course,
    *,
    width: int = 1,
    at_once: int | None = None,
    ptx: TokenRows | None = None,
    on_point: OnPoint,
    on_chunk: OnChunk | None = None,
    checkpoints: Checkpoints = UNSAVED,
) -> list[LaneResult]:
    """Optimize the reference against every lane's proxy.

    Args:
        prompts: [M, P] prompts that rollouts answer.
        lanes: proxies of one shape; no lane's result depends on the others.
        width: lanes under one vmap; groups of so many run side by side.
        at_once: groups that do; none: as many as there are processors.
        ptx: rows of text for the language-model term, where the program has one.
        on_point: called at the reference, then whenever a rollout first passed a multiple of `course.spacing`, and at
            the end, with the policy that the rollout was drawn from; from the group's own thread.
        on_chunk: called after every chunk, those before an interruption included.
        checkpoints: where every group's state is kept after a chunk, and found again.
    Raises:
        InputError: a proxy is of another vocabulary, there are fewer prompts than an iteration takes, or the
            checkpoints are of another configuration.
    """
    for lane in lanes:
        check_proxy(program, lane.proxy)
    require(
        len(prompts) >= program.prompts,
        f"rl.prompts={program.prompts}: allowed is up to the {len(prompts)} prompts there are",
    )
    reference = share_parameters(reference)
    shared = (reference, *everywhere((jnp.asarray(prompts), ptx)))

    def run_group(first: int) -> list[LaneResult]:
        group = range(first, min(first + width, len(lanes)))
        members = [lanes[min(first + i, group.stop - 1)] for i in range(width)]
        states = [
            share_parameters(init_state(reference, share_parameters(lane.value), lane.key, lane.hyper.kl_coef))
            for lane in members
        ]
        state: RLState = share_parameters(jax.tree.map(lambda *x: jnp.stack(x), *states), lead=1)
        hyper = jax.tree.map(lambda *x: jnp.asarray(x, jnp.float32), *(lane.hyper for lane in members))
        proxies = share_parameters(jax.tree.map(lambda *x: jnp.stack(x), *(lane.proxy for lane in members)), lead=1)
        progress = [_Progress(course) for _ in group]
        shown = [reference for _ in group]
        loop = checkpoints.loop(f"lanes-{first}")
        if saved := loop.restore((state, shown)):
            state, shown = jax.tree.map(jnp.asarray, saved.state)
            state, shown = share_parameters(state, lead=1), share_parameters(shown)
            for i, p in enumerate(progress):
                p.resume(i, saved.arrays, bool(state.alive[i]))
                if on_chunk is not None:
                    with from_before():
                        for chunk in p.chunks:
                            on_chunk(group[i], chunk)
        else:
            for i, p in enumerate(progress):
                p.measured(0, on_point(group[i], 0, reference))
        while not all(p.status for p in progress):
            running = [i for i, p in enumerate(progress) if not p.status]
            active = np.isin(np.arange(width), running)
            target = [progress[i].target if i in running else np.inf for i in range(width)]
            limit = min(progress[i].room for i in running)
            state, metrics, done = run_chunk(
                state,
                hyper,
                proxies,
                jnp.asarray(active),
                jnp.asarray(target, jnp.float32),
                jnp.asarray(limit, jnp.int32),
                *shared,
                program=program,
                size=min(course.show_every, course.max_steps),
            )
            host = jax.tree.map(lambda x, made=int(done): np.asarray(x)[:made], metrics)
            for i in running:
                mine = Metrics(*(x[:, i] for x in host))
                if on_chunk is not None:
                    on_chunk(group[i], mine)
                if progress[i].take(mine, bool(state.alive[i])):
                    shown[i] = jax.tree.map(lambda x, i=i: x[i], state.before.policy)
                    progress[i].measured(progress[i].steps - 1, on_point(group[i], progress[i].steps - 1, shown[i]))
            kept = {name: x for i, p in enumerate(progress) for name, x in p.arrays(i).items()}
            loop.save(max(p.steps for p in progress), (state, shown), kept, constant=all(p.status for p in progress))
        return [LaneResult(p.status, shown[i], p.history, p.points) for i, p in enumerate(progress)]

    groups = concurrently(run_group, range(0, len(lanes), width), at_once)
    return [result for group in groups for result in group]
