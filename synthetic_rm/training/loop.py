"""F5: the one training loop: Adam in jitted chunks of steps, mapped over seeds, host work between chunks.

A seed whose loss or gradient is not finite stops there, keeps its last finite parameters, and touches no neighbour.
"""

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from synthetic_rm.checkpoints import UNSAVED, Checkpoints
from synthetic_rm.devices import BATCH, MODEL, device_memory, everywhere, share_parameters, shared_by, split
from synthetic_rm.errors import require
from synthetic_rm.memory import USABLE, training_rows
from synthetic_rm.progress import from_before
from synthetic_rm.runtime import concurrently, side_by_side
from synthetic_rm.scoring import rows_at_once
from synthetic_rm.types import Array, Params, Shape

Loss = Callable[[Params, Any, Array], tuple[Array, Array]]
"""(params, data, rows [B]) -> (total, weight), scalars: the loss of these rows of the data is total / weight. Both add
up over the parts of a batch, and the weight depends on no parameter."""
OnChunk = Callable[[range, int, np.ndarray], None]
"""(seeds of the group, steps done, losses [seeds, steps of this chunk]): called on the host after every chunk."""

GRADIENT_NORM = 1.0
WARMUP = 0.05
FINAL_LEARNING_RATE = 0.1


class TrainState(NamedTuple):
    """Everything that changes along one seed's run."""

    params: Params
    tx: Any
    """state of the gradient optimiser"""
    step: Array
    alive: Array
    """false once a loss or gradient was not finite"""


class TrainResult(NamedTuple):
    params: Params
    """[seeds, ...]"""
    losses: np.ndarray
    """[seeds, steps]"""
    finite: np.ndarray
    """[seeds] false for a seed that stopped"""


def learning_rate_at(step: Array, steps: Array, peak: Array) -> Array:
    """Linear warm-up over the first 5% of the steps, then a cosine to 10% of the peak (InstructGPT, appendix C)."""
    warm = jnp.maximum(1.0, WARMUP * steps)
    progress = jnp.clip((step - warm) / jnp.maximum(1.0, steps - warm), 0.0, 1.0)
    cosine = FINAL_LEARNING_RATE + (1 - FINAL_LEARNING_RATE) * 0.5 * (1 + jnp.cos(math.pi * progress))
    return peak * jnp.minimum((step + 1) / warm, 1.0) * cosine


@cache
def gradient_transformation() -> optax.GradientTransformation:
    """Gradients clipped to global norm 1, then Adam (b1 = .9, b2 = .98); the learning rate is applied in `_step`."""
    return optax.chain(optax.clip_by_global_norm(GRADIENT_NORM), optax.scale_by_adam(b2=0.98, eps=1e-8))


def _slope(loss: Loss, params: Params, data: Any, rows: Array, parts: int) -> tuple[Array, Params]:
    """Loss of the batch and its gradient, added up over `parts` equal parts of it.

    A part small enough for a processor's cache is computed several times faster, and the sums are those of the batch.
    """

    def of_part(part: Array) -> tuple[tuple[Array, Array], Params]:
        return jax.value_and_grad(loss, has_aux=True)(params, data, part)

    def add(sums: Any, part: Array) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, sums, of_part(part)), None

    if parts == 1:
        (total, weight), gradient = of_part(split(rows))
    else:
        each = split(rows.reshape(parts, -1), axis=1)
        empty = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(of_part, each[0]))
        ((total, weight), gradient), _ = jax.lax.scan(add, empty, each)
    weight = jnp.where(weight > 0, weight, 1.0)
    return total / weight, jax.tree.map(lambda x: x / weight, gradient)


def _step(
    loss: Loss, parts: int, data: Any, peak: Array, steps: Array, state: TrainState, rows: Array
) -> tuple[TrainState, Array]:
    value, gradient = _slope(loss, state.params, data, rows, parts)
    update, tx = gradient_transformation().update(gradient, state.tx, state.params)
    rate = learning_rate_at(state.step.astype(jnp.float32), steps, peak)
    params = optax.apply_updates(state.params, jax.tree.map(lambda u: -rate * u, update))
    finite = jnp.isfinite(value) & jnp.isfinite(optax.tree.norm(gradient)) & jnp.isfinite(optax.tree.norm(params))
    move = state.alive & finite & (state.step < steps)
    params, tx = jax.tree.map(partial(jnp.where, move), (params, tx), (state.params, state.tx))
    ended = state.step >= steps
    return TrainState(params, tx, state.step + 1, state.alive & (finite | ended)), value


@partial(jax.jit, static_argnames=("loss", "parts"), donate_argnames=("state",))
def run_chunk(
    state: TrainState, data: Any, plan: Array, peak: Array, steps: Array, *, loss: Loss, parts: int = 1
) -> tuple[TrainState, Array]:
    """One chunk of steps for every seed: state [seeds, ...], plan [seeds, chunk, B] -> (state, losses [seeds, chunk]).

    The seeds run under one vmap; `train` decides how many come together.
    """

    def one_seed(seed_state: TrainState, seed_plan: Array, seed_peak: Array) -> tuple[TrainState, Array]:
        return jax.lax.scan(partial(_step, loss, parts, data, seed_peak, steps), seed_state, seed_plan)

    if len(plan) > 1:
        after, losses = jax.vmap(one_seed)(state, plan, peak)
    else:  # products of matrices, not of stacks of one
        after, losses = jax.tree.map(lambda x: x[None], one_seed(*jax.tree.map(lambda x: x[0], (state, plan, peak))))
    return share_parameters(after, lead=1), everywhere(losses)


def batch_plan(rng: np.random.Generator, num_rows: int, batch: int, steps: int) -> np.ndarray:
    """Rows of every step [steps, batch]: whole shuffled passes over the data, one after another.

    Raises:
        InputError: no steps, or no rows to a step.
    """
    require(steps >= 1, f"steps={steps}: allowed is 1 or more")
    require(batch >= 1, f"batch={batch}: allowed is 1 or more")
    passes = math.ceil(steps * batch / num_rows)
    order = np.concatenate([rng.permutation(num_rows) for _ in range(passes)])
    return order[: steps * batch].reshape(steps, batch).astype(np.int32)


def equal_parts(batch: int, at_once: int) -> int:
    """The fewest equal parts of a batch of which none has more rows than may go at once; single rows if none may."""
    return next(n for n in range(1, batch + 1) if batch % n == 0 and batch // n <= max(1, at_once))


def usable_memory() -> int:
    """Bytes of a device that programs may fill."""
    return int(USABLE * device_memory())


def rows_that_fit(
    shape: Shape, length: int, *, predicts: bool, runs: int = 1, width: int = 1, memory: int | None = None
) -> int:
    """Rows of S tokens that go through a network in training together on a device: no more than its memory holds.

    Args:
        predicts: with the logits of every token.
        runs: networks to train, `width` of them under one vmap.
        memory: bytes that they may fill; none: the usable share of a device.
    """
    room = usable_memory() if memory is None else memory
    copies, devices = width * min(math.ceil(runs / width), side_by_side()), shared_by(MODEL)
    fit = training_rows(shape, length, room, predicts=predicts, copies=copies, devices=devices)
    return min(rows_at_once(), fit)


def train(
    loss: Loss,
    params: Params,
    data: Any,
    plan: np.ndarray,
    learning_rate: float | np.ndarray,
    *,
    width: int = 1,
    chunk: int = 50,
    at_once: int | None = None,
    on_chunk: OnChunk | None = None,
    checkpoints: Checkpoints = UNSAVED,
) -> TrainResult:
    """Minimise `loss` from `params` along `plan`.

    Args:
        loss: a module-level function or a cached one: it is a static argument, equal functions compile once.
        params: [seeds, ...] starting points; copied, not donated.
        plan: [seeds, steps, B] rows of the data for every step of every seed.
        learning_rate: peak learning rate, one for all or [seeds]; traced, so a sweep over it compiles once.
        width: seeds under one vmap; groups of so many run side by side on the processors there are.
        chunk: steps between returns to the host.
        at_once: most rows of a batch that go through the loss together, on a device; none: all. The parts of a batch
            are equal.
        on_chunk: called after every chunk of every group, from the group's own thread; what was done before an
            interruption is one chunk.
        checkpoints: where every group's state is kept after a chunk, and found again.
    Raises:
        InputError: a plan without seeds or steps, or checkpoints of another configuration.
    """
    seeds, steps, batch = plan.shape
    require(seeds >= 1 and steps >= 1, f"plan of seeds={seeds}, steps={steps}: allowed is 1 or more of both")
    chunks = max(1, math.ceil(steps / chunk))
    size = math.ceil(steps / chunks)
    padded = np.concatenate([plan, np.repeat(plan[:, -1:], chunks * size - steps, axis=1)], axis=1)
    peak = np.broadcast_to(np.asarray(learning_rate, np.float32), (seeds,))
    total = jnp.asarray(steps, jnp.float32)
    parts = equal_parts(batch, (at_once or batch) * shared_by(BATCH))
    data, total = everywhere((data, total))

    def train_group(first: int) -> tuple[Params, np.ndarray, np.ndarray]:
        group = slice(first, min(first + width, seeds))
        start_params = share_parameters(jax.tree.map(lambda x: jnp.array(x[group]), params), lead=1)
        members = group.stop - group.start
        tx = share_parameters(jax.vmap(gradient_transformation().init)(start_params), lead=1)
        state = TrainState(start_params, tx, jnp.zeros(members, jnp.int32), jnp.ones(members, bool))
        losses, done = np.empty((members, 0), np.float32), 0
        loop = checkpoints.loop(f"seeds-{first}")
        if saved := loop.restore(state):
            state, losses, done = jax.tree.map(jnp.asarray, saved.state), saved.arrays["losses"], saved.step
            if on_chunk is not None:
                with from_before():
                    on_chunk(range(first, group.stop), min(done, steps), losses)
        state, rate = share_parameters(state, lead=1), everywhere(jnp.asarray(peak[group]))
        for start in range(done, chunks * size, size):
            part = everywhere(jnp.asarray(padded[group, start : start + size]))
            state, values = run_chunk(state, data, part, rate, total, loss=loss, parts=parts)
            new, done = np.asarray(values)[:, : max(0, steps - start)], start + size
            losses = np.concatenate([losses, new], axis=1)
            if on_chunk is not None:
                on_chunk(range(first, group.stop), min(done, steps), new)
            loop.save(done, state, {"losses": losses}, constant=done == chunks * size)
        return state.params, losses, np.asarray(state.alive)

    groups = list(concurrently(train_group, range(0, seeds, width)))
    trained = jax.tree.map(lambda *x: jnp.concatenate(x), *(group[0] for group in groups))
    return TrainResult(trained, *(np.concatenate([group[i] for group in groups]) for i in (1, 2)))
