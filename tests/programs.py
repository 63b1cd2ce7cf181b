"""The programs of a run as they are compiled, of shapes alone: what they multiply and what memory they take."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxprs_in_params

from synthetic_rm import scoring
from synthetic_rm.comparisons import sampler
from synthetic_rm.networks import transformer
from synthetic_rm.optimizers import rl_step
from synthetic_rm.optimizers.ppo import PPO
from synthetic_rm.optimizers.rl import Hyper, Program
from synthetic_rm.rewards.neural import init_reward, neural_reward
from synthetic_rm.training import loop, reward, supervised
from synthetic_rm.types import Comparisons, Responses, Shape

COMPILE_FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
Abstract = jax.ShapeDtypeStruct


class Compilable(NamedTuple):
    """A jitted function and the shapes it is called with."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    static: dict[str, Any]

    def products(self) -> int:
        """Operations of its matrix products."""
        return sum(products(jax.make_jaxpr(partial(self.function, **self.static))(*self.arguments).jaxpr))

    def memory(self) -> int:
        """Bytes that the compiler gives it: arguments, results, and what is between."""
        lowered = self.function.lower(*self.arguments, **self.static)  # type: ignore[attr-defined]
        found = lowered.compile(compiler_options=COMPILE_FAST).memory_analysis()
        passed = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
        return int(passed + found.temp_size_in_bytes)


def products(jaxpr: Any, times: int = 1) -> Iterator[int]:
    """2 m n k of every matrix product of a program, those of its loops as often as they run."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            yield times * 2 * equation.outvars[0].aval.size * int(np.prod([left[i] for i in contracted]))
        for inner in jaxprs_in_params(equation.params):
            yield from products(inner, times * equation.params.get("length", 1))


def whole(*shape: int) -> Any:
    return Abstract(shape, jnp.int32)


def real(*shape: int) -> Any:
    return Abstract(shape, jnp.float32)


def stacked(tree: Any, count: int) -> Any:
    return jax.tree.map(lambda x: Abstract((count, *x.shape), x.dtype), tree)


def reward_of(shape: Shape) -> Any:
    return jax.eval_shape(lambda key: init_reward(transformer(shape), key), jax.random.key(0))


def _training(loss: loop.Loss, params: Any, data: Any, batch: int, steps: int, width: int, parts: int) -> Compilable:
    params = stacked(params, width)
    tx = jax.eval_shape(jax.vmap(loop.gradient_transformation().init), params)
    state = loop.TrainState(params, tx, whole(width), Abstract((width,), jnp.bool_))
    arguments = (state, data, whole(width, steps, batch), real(width), real())
    return Compilable(loop.run_chunk, arguments, {"loss": loss, "parts": parts})


def reward_training(
    shape: Shape, pairs: int, prompt: int, response: int, *, steps: int = 1, width: int = 1, parts: int = 1
) -> Compilable:
    data = Comparisons(
        Responses(whole(pairs, 2, prompt), whole(pairs, 2, response), whole(pairs, 2)), real(pairs, 1), real(pairs, 1)
    )
    loss = reward._batch_loss(transformer(shape), "last")
    return _training(loss, reward_of(shape), data, pairs, steps, width, parts)


def text_training(shape: Shape, rows: int, length: int, *, steps: int = 1) -> Compilable:
    network = transformer(shape)
    data = supervised.TokenRows(whole(rows, length), real(rows, length))
    params = jax.eval_shape(network.init, jax.random.key(0))
    return _training(supervised._batch_loss(network), params, data, rows, steps, 1, 1)


def drawing(shape: Shape, prompts: int, samples: int, prompt: int, response: int) -> Compilable:
    network = transformer(shape)
    params, key = jax.eval_shape(network.init, jax.random.key(0)), jax.eval_shape(lambda: jax.random.key(0))
    return Compilable(sampler(network, samples, response), (params, key, whole(prompts, prompt)), {})


def reading(shape: Shape, members: int, rows: int, prompt: int, response: int, waiting: int) -> Compilable:
    models = jax.eval_shape(lambda params: neural_reward(transformer(shape), params), reward_of(shape))
    texts = (whole(waiting, response), whole(waiting, response))
    return Compilable(scoring._read, (stacked(models, members), whole(prompt), *texts, whole()), {"batch": rows})


def optimizing(policy: Shape, proxy: Shape, program: dict[str, int], prompt: int, *, lanes: int = 1) -> Compilable:
    """A chunk of one iteration of PPO whose value function is of the proxy's shape."""
    network, judge = transformer(policy), transformer(proxy)
    params, rewards = jax.eval_shape(network.init, jax.random.key(0)), reward_of(proxy)
    state = jax.eval_shape(lambda p, v: rl_step.init_state(p, v, jax.random.key(0), 0.0), params, rewards)
    models = jax.eval_shape(lambda params: neural_reward(judge, params), rewards)
    numbers = Hyper(*(real(lanes) for _ in Hyper._fields))
    limits = (Abstract((lanes,), jnp.bool_), real(lanes), whole())
    shared = (params, whole(4 * program["prompts"], prompt), None)
    arguments = (stacked(state, lanes), numbers, stacked(models, lanes), *limits, *shared)
    made = Program(PPO, network, judge, epochs=1, **program)  # type: ignore[arg-type]
    return Compilable(rl_step.run_chunk, arguments, {"program": made, "size": 1})
