"""One PPO iteration of this package: jitted, un-jitted, several lanes. Import it once the number of threads is set."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.measure import (
    Call,
    Piece,
    Size,
    Timer,
    drawn,
    in_turns,
    pieces_of,
)
from synthetic_rm.flops import policy_gradient_flops
from synthetic_rm.networks import transformer
from synthetic_rm.optimizers.ppo import PPO
from synthetic_rm.optimizers.rl import Hyper, Program
from synthetic_rm.optimizers.rl_step import init_state, iteration, run_chunk
from synthetic_rm.optimizers.rollout import token_values
from synthetic_rm.policies import token_statistics
from synthetic_rm.rewards.neural import init_reward, neural_reward
from synthetic_rm.runtime import concurrently, processors
from synthetic_rm.types import Responses, Shape

ALONE, BOTH = "one lane", "a lane on each processor, side by side"
UNJITTED = "one lane, un-jitted"
TRL, TRL_ONE_THREAD = "TRL", "TRL on one thread"
Rival = Callable[[Sequence[int], Sequence[Call]], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""(threads of each of its turns, calls of ours that follow them) -> seconds [rounds, turns] of its iterations, seconds
of these in explicit garbage collections, seconds [rounds, calls] of ours"""


class Way(NamedTuple):
    """A way to make an iteration, timed."""

    name: str
    lanes: int
    """optimizations that make an iteration"""
    seconds: np.ndarray
    """[rounds]"""


class Ratio(NamedTuple):
    """How much longer one thing takes than another that took turns with it; [rounds] each."""

    name: str
    against: str
    """"TRL" or "itself\""""
    longer: np.ndarray
    shorter: np.ndarray
    aim: float = float("nan")


def iteration_flops(shape: Shape, size: Size) -> int:
    """Operations in the matrix products of one iteration whose networks are all of one shape."""
    return policy_gradient_flops(
        shape,
        shape,
        shape,
        prompts=size.prompts,
        samples=size.samples,
        prompt_tokens=size.prompt_tokens,
        response_tokens=size.response_tokens,
        epochs=size.epochs,
    )


class Lanes:
    """Optimizations of one program: each call is the next iteration of all of them."""

    def __init__(self, shape: Shape, size: Size, lanes: int = 1):
        network = transformer(shape)
        sizes = (size.prompts, size.samples, size.response_tokens, size.epochs, size.minibatches)
        self.program = Program(PPO, network, network, *sizes)
        self.reference = network.init(jax.random.key(0))
        value = init_reward(network, jax.random.key(1), self.reference)
        self.proxy = neural_reward(network, init_reward(network, jax.random.key(2)))
        states = [init_state(self.reference, value, jax.random.key(3 + lane), 0.0) for lane in range(lanes)]
        self.state = jax.tree.map(lambda *x: jnp.stack(x), *states)
        hyper = jax.tree.map(lambda x: jnp.full(lanes, x, jnp.float32), Hyper(learning_rate=1e-5))
        proxies = jax.tree.map(lambda x: jnp.stack([x] * lanes), self.proxy)
        rng = np.random.default_rng(0)
        self.prompts = jnp.asarray(rng.integers(3, size.vocab, (4 * size.prompts, size.prompt_tokens)), jnp.int32)
        self.lanes = (hyper, proxies, jnp.ones(lanes, bool))

    def __call__(self) -> Any:
        """The next iteration of every lane, jitted; KL [1, lanes] of its rollouts."""
        limits = (jnp.full(self.lanes[2].shape, jnp.inf), jnp.int32(1))
        shared = (self.reference, self.prompts, None)
        self.state, metrics, _ = run_chunk(self.state, *self.lanes, *limits, *shared, program=self.program, size=1)
        return jax.block_until_ready(metrics.kl)

    def unjitted(self) -> Any:
        """The same iteration of the first lane, every operation by itself; its state stays. KL of its rollout."""
        hyper, proxy, active, state = jax.tree.map(lambda x: x[0], (*self.lanes, self.state))
        with jax.disable_jit():
            return iteration(self.program, self.reference, self.prompts, None, proxy, hyper, active, state)[1].kl


def side_by_side(lanes: Sequence[Lanes]) -> Call:
    """One iteration of each, as many at once as there are processors."""
    return lambda: list(concurrently(lambda lane: lane(), lanes))[-1]


def rival_ways(
    shape: Shape, size: Size, rounds: int, load: Callable[[], Rival | None]
) -> tuple[list[Way], list[Ratio]]:
    """TRL beside one lane and beside as many as there are processors; without TRL, ours alone.

    Args:
        load: called once ours are compiled.
    """
    copies = processors()
    ours: list[Call] = [Lanes(shape, size), side_by_side([Lanes(shape, size) for _ in range(copies)])]
    for call in ours:
        call()
    rival = load()
    if rival is None:
        alone, both = in_turns(ours, rounds).T
        return [Way(ALONE, 1, alone), Way(BOTH, copies, both)], []
    whole, collected, own = rival([copies, 1], ours)
    (alone, both), (theirs, single), (mine, apart) = own.T, whole.T, collected.T
    ways = [
        Way(ALONE, 1, alone),
        Way(BOTH, copies, both),
        Way(TRL, 1, theirs),
        Way(f"{TRL} without its collections", 1, theirs - mine),
        Way(TRL_ONE_THREAD, 1, single),
        Way(f"{TRL_ONE_THREAD} without its collections", 1, single - apart),
    ]
    ratios = [
        Ratio("TRL / a lane of those side by side", TRL, theirs, both / copies, 3.0),
        Ratio("TRL without its collections / a lane of those side by side", TRL, theirs - mine, both / copies),
        Ratio("TRL on one thread / one lane alone", TRL, single, alone),
        Ratio("TRL on one thread without its collections / one lane alone", TRL, single - apart, alone),
        Ratio("TRL / one lane alone", TRL, theirs, alone),
    ]
    return ways, ratios


def own_ways(shape: Shape, size: Size, rounds: int) -> tuple[list[Way], list[Ratio]]:
    """Several lanes at once, and the un-jitted iteration, beside one lane."""
    one, many = Lanes(shape, size), Lanes(shape, size, size.lanes)
    each = side_by_side([Lanes(shape, size) for _ in range(size.lanes)])
    alone, mapped, apart = in_turns([one, many, each], rounds).T
    under_vmap, in_threads = (f"{size.lanes} lanes {how}" for how in ("under one vmap", "side by side"))
    ways = [Way(under_vmap, size.lanes, mapped), Way(in_threads, size.lanes, apart)]
    ratios = [
        Ratio(f"{under_vmap} / {ALONE}", "itself", mapped, alone),
        Ratio(f"{in_threads} / {ALONE}", "itself", apart, alone),
    ]
    if size.unjitted:
        plain, again = in_turns([one.unjitted, one], size.unjitted).T
        ways.append(Way(UNJITTED, 1, plain))
        ratios.append(Ratio("un-jitted / jitted", "itself", plain, again))
    return ways, ratios


def iteration_pieces(shape: Shape, size: Size, best: Timer) -> list[Piece]:
    """Where the time of an iteration goes; the updates are what is left."""
    lane = Lanes(shape, size)
    network, params, prompts = lane.program.network, lane.reference, lane.prompts[: size.prompts]
    found, _ = drawn(network, size, params, jax.random.key(1), prompts)
    responses = Responses(*(x.reshape(-1, *x.shape[2:]) for x in found))
    value = init_reward(network, jax.random.key(1))
    parts = {
        "responses drawn": best(drawn, network, size, params, jax.random.key(1), prompts),
        "log-probabilities, exact KL": best(jax.jit(partial(token_statistics, network)), params, params, responses),
        "proxy scores": best(jax.jit(lambda model, responses: model(responses)), lane.proxy, responses),
        "values": best(jax.jit(partial(token_values, network)), value, responses),
    }
    return pieces_of("PPO iteration", best(lane), parts, rest=f"{size.epochs * size.minibatches} updates and the rest")
