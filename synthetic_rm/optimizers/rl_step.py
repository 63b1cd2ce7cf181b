"""F6: one iteration of policy gradient against a proxy, and jitted chunks of them for several lanes at once.

An iteration draws responses, scores them with the proxy, and makes epochs x minibatches updates. A step that moved the
policy further from the reference than `max_jump` is undone and taken again at half the rate; a lane that is not finite
keeps its last finite parameters and touches no neighbour.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from synthetic_rm.devices import everywhere, share_parameters, split
from synthetic_rm.losses import token_loss
from synthetic_rm.optimizers.rl import Batch, Hyper, Learner, Metrics, Program, RLState
from synthetic_rm.optimizers.rollout import Rollout, roll_out, summarise, token_values
from synthetic_rm.policies import response_logits, response_mask
from synthetic_rm.policy_losses import clipped_value_loss, token_mean
from synthetic_rm.token_kl import k3
from synthetic_rm.training.loop import gradient_transformation
from synthetic_rm.training.supervised import TokenRows, language_model_loss
from synthetic_rm.types import Array, Key, Network, Params, Responses, RewardModel

KL_GAIN, KL_ERROR = 0.1, 0.2
"""of the adaptive KL coefficient (Ziegler et al. 2019, section 2.2)"""


def init_learner(policy: Params, value: Params | None) -> Learner:
    """Fresh copies of the parameters, with fresh optimiser states."""
    tx = gradient_transformation()
    policy, value = jax.tree.map(jnp.array, (policy, value))
    return Learner(policy, value, tx.init(policy), None if value is None else tx.init(value))


def init_state(policy: Params, value: Params | None, key: Key, kl_coef: float | Array) -> RLState:
    """One lane before its first iteration; the key is kept, each iteration folds its own from it."""
    zero, one = jnp.float32(0.0), jnp.float32(1.0)
    learner, before = init_learner(policy, value), init_learner(policy, value)
    coefficient = jnp.asarray(kl_coef, jnp.float32)
    return RLState(learner, before, zero, one, coefficient, key, jnp.int32(0), jnp.asarray(True))


def _log_probs(network: Network, params: Params, responses: Responses) -> Array:
    log_prob = -token_loss(response_logits(network, params, responses), responses.tokens)
    return jnp.where(response_mask(responses), log_prob, 0.0)


def _apply(params: Params, gradient: Params, tx: Any, rate: Array) -> tuple[Params, Any]:
    update, tx = gradient_transformation().update(gradient, tx, params)
    return optax.apply_updates(params, jax.tree.map(lambda u: -rate * u, update)), tx


def _update(
    program: Program, hyper: Hyper, warm: Array, ptx: TokenRows | None, learner: Learner, inputs: tuple[Batch, Array]
) -> tuple[Learner, tuple[Array, ...]]:
    """One gradient step of the policy and of the value function on one minibatch."""
    part, rows = inputs
    mask = response_mask(part.responses)

    def policy_loss(params: Params) -> tuple[Array, tuple[Array, Array]]:
        log_prob = _log_probs(program.network, params, part.responses)
        loss, clipped = program.method.loss(log_prob, mask, part, hyper)
        if ptx is not None:
            text = TokenRows(*(split(x[rows]) for x in ptx))
            loss += hyper.ptx_coef * language_model_loss(program.network, params, text)
        return loss, (clipped, log_prob - part.log_prob)

    (loss, (clipped, log_ratio)), gradient = jax.value_and_grad(policy_loss, has_aux=True)(learner.policy)
    policy, tx = _apply(learner.policy, gradient, learner.tx, warm * hyper.learning_rate)
    value, value_tx, value_loss = learner.value, learner.value_tx, jnp.float32(0.0)
    if program.value_network is not None:
        network = program.value_network

        def squared_error(params: Params) -> Array:
            values = token_values(network, params, part.responses)
            return token_mean(clipped_value_loss(values, part.values, part.returns, hyper.value_clip), mask)

        value_loss, value_gradient = jax.value_and_grad(squared_error)(value)
        value, value_tx = _apply(value, value_gradient, value_tx, warm * hyper.value_learning_rate)
    moved = (jnp.abs(log_ratio).max(), clipped, token_mean(k3(-log_ratio), mask))
    return Learner(policy, value, tx, value_tx), (*moved, loss, value_loss, optax.tree.norm(gradient))


def _minibatches(program: Program, key: Key, batch: Batch) -> Batch:
    """The batch reshuffled for every epoch and cut: leading axes [epochs * minibatches, rows]."""
    count = program.prompts * program.samples
    keys = jax.random.split(key, program.epochs)
    order = jnp.stack([jax.random.permutation(k, count) for k in keys])
    order = order.reshape(program.epochs * program.minibatches, count // program.minibatches)
    return Batch(*jax.tree.map(lambda x: split(x[order], axis=1), tuple(batch)))


def iteration(
    program: Program,
    reference: Params,
    prompts: Array,
    ptx: TokenRows | None,
    proxy: RewardModel,
    hyper: Hyper,
    active: Array,
    state: RLState,
) -> tuple[RLState, Metrics]:
    """One iteration of one lane: a pure function of its state. Where `active` is false the state does not change."""
    keys = jax.random.split(jax.random.fold_in(state.key, state.step), 4)
    hyper = hyper._replace(kl_coef=state.kl_coef)
    learner = state.learner
    chosen = split(prompts[jax.random.choice(keys[0], prompts.shape[0], (program.prompts,), replace=False)])
    sizes = {"samples": program.samples, "max_tokens": program.max_tokens}
    rollout = roll_out(program.network, learner.policy, reference, proxy, chosen, keys[1], **sizes)
    if program.value_network is not None:
        rollout = rollout._replace(values=token_values(program.value_network, learner.value, rollout.responses))
    summary = jax.tree.map(jnp.mean, summarise(rollout))

    advantages, returns = program.method.advantages(rollout, hyper)
    statistics = rollout.statistics
    batch = Batch(
        rollout.responses, statistics.log_prob, statistics.reference_log_prob, advantages, returns, rollout.values
    )
    warm = state.rate * jnp.minimum((state.step + 1) / jnp.maximum(hyper.warmup, 1.0), 1.0)
    parts = _minibatches(program, keys[2], batch)
    updates = program.epochs * program.minibatches
    rows = jax.random.randint(keys[3], (updates, program.ptx_rows), 0, 1 if ptx is None else ptx.tokens.shape[0])
    updated, seen = jax.lax.scan(partial(_update, program, hyper, warm, ptx), learner, (parts, rows))
    ratios, clipped, update_kl, loss, value_loss, norm = seen

    distance = jnp.sqrt(jnp.maximum(summary.kl, 0.0))
    undone = distance - state.distance > hyper.max_jump
    error = jnp.clip(summary.kl / jnp.where(hyper.kl_target > 0, hyper.kl_target, 1.0) - 1.0, -KL_ERROR, KL_ERROR)
    steered = state.kl_coef * jnp.where(hyper.kl_target > 0, 1.0 + KL_GAIN * error, 1.0)
    metrics = Metrics(
        **{name: getattr(summary, name) for name in ("kl", "k1", "k2", "k3", "length", "entropy")},
        repetition=summary.repetition,
        finished=summary.finished,
        proxy=rollout.scores.mean(),
        kl_coef=state.kl_coef,
        rate=state.rate,
        undone=undone.astype(jnp.float32),
        first_ratio=ratios[0],
        clip_fraction=clipped.mean(),
        update_kl=update_kl.mean(),
        loss=loss.mean(),
        value_loss=value_loss.mean(),
        explained_variance=_explained_variance(program, rollout, returns),
        gradient_norm=norm.mean(),
    )
    finite = jnp.isfinite(jnp.stack([metrics.kl, metrics.proxy, metrics.loss, metrics.value_loss])).all()
    finite &= jnp.isfinite(optax.tree.norm((updated.policy, updated.value))) & jnp.isfinite(norm).all()
    going = active & state.alive
    kept = jax.lax.cond(
        going & finite,
        lambda: jax.lax.cond(
            undone,
            lambda: state._replace(learner=state.before, distance=jnp.float32(jnp.inf), rate=0.5 * state.rate),
            lambda: state._replace(learner=updated, before=learner, distance=distance),
        )._replace(kl_coef=steered),
        lambda: state,
    )
    step, alive = state.step + going, state.alive & (finite | ~active)
    return kept._replace(step=step.astype(jnp.int32), alive=alive), metrics


def _explained_variance(program: Program, rollout: Rollout, returns: Array) -> Array:
    """1 - Var(returns - values) / Var(returns) over response tokens; nan without a value function."""
    if program.value_network is None:
        return jnp.float32(jnp.nan)
    values, mask = rollout.values, rollout.mask

    def variance(x: Array) -> Array:
        return token_mean((x - token_mean(x, mask)) ** 2, mask)

    return 1.0 - variance(returns - values) / jnp.maximum(variance(returns), 1e-12)


def _mapped(function: Callable[..., Any], lanes: int) -> Callable[..., Any]:
    """`vmap`, but a single lane is computed without the axis: half as long again with it, on a CPU."""
    if lanes > 1:
        return jax.vmap(function)

    def one(*args: Any) -> Any:
        return jax.tree.map(lambda x: x[None], function(*jax.tree.map(lambda x: x[0], args)))

    return one


@partial(jax.jit, static_argnames=("program", "size"), donate_argnames=("state",))
def run_chunk(
    state: RLState,
    hyper: Hyper,
    proxies: Any,
    active: Array,
    target: Array,
    limit: Array,
    reference: Params,
    prompts: Array,
    ptx: TokenRows | None,
    *,
    program: Program,
    size: int,
) -> tuple[RLState, Metrics, Array]:
    """Up to `size` iterations of every lane, ended after the one in which a lane reached its target or stopped.

    Args:
        state, hyper, proxies: leading axis [lanes].
        active: [lanes]; lanes that are not stay as they are.
        target: [lanes] nats: a rollout of at least this KL ends the chunk.
        limit: iterations to make at most, up to `size`; traced.
        reference, prompts [M, P], ptx: shared by the lanes.
    Returns:
        state, metrics [size, lanes], number of iterations made; metrics beyond it mean nothing.
    """
    every_lane = _mapped(partial(iteration, program, reference, prompts, ptx), active.shape[0])

    def iterate(state: RLState) -> tuple[RLState, Metrics, Array]:
        after, metrics = every_lane(proxies, hyper, active, state)
        reached = (metrics.kl >= target) & (metrics.undone == 0)
        return after, metrics, (active & (reached | ~after.alive)).any()

    def skip(state: RLState) -> tuple[RLState, Metrics, Array]:
        return state, Metrics(*(jnp.zeros(active.shape) for _ in Metrics._fields)), jnp.asarray(True)

    def body(carry: tuple[RLState, Array, Array], index: Array) -> tuple[tuple[RLState, Array, Array], Metrics]:
        state, ended, done = carry
        go = ~ended & (index < limit)
        state, metrics, ended = jax.lax.cond(go, iterate, skip, state)
        return (state, ended, done + go), metrics

    start = (state, jnp.asarray(False), jnp.int32(0))
    (state, _, done), metrics = jax.lax.scan(body, start, jnp.arange(size))
    return share_parameters(state, lead=1), *everywhere((metrics, done))
