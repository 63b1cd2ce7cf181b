"""A little of every loop that devices share, in a process of its own: python shared_work.py OUTPUT MESH [PORT PROCESS]

MESH is "none" or as in "4,2". With a port it is one of two processes that train together.
"""

import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from synthetic_rm.devices import sharing
from synthetic_rm.networks import transformer
from synthetic_rm.optimizers.ppo import PPO
from synthetic_rm.optimizers.rl import Hyper, Program
from synthetic_rm.optimizers.rl_run import Course, Lane, optimize
from synthetic_rm.rewards.neural import init_reward, neural_reward, raw_scores
from synthetic_rm.scoring import score_members
from synthetic_rm.training.loop import TrainResult, train
from synthetic_rm.types import Array, Params, Responses, Shape

NETWORK = transformer(Shape(vocab=16, width=8, layers=1, heads=2, hidden=16))
PROMPT, RESPONSE, ROWS, BATCH, STEPS = 2, 5, 48, 16, 6
SEEN: list[Any] = []
"""shardings of the rows that the loss was given"""


def responses() -> Responses:
    rng = np.random.default_rng(0)
    prompt, tokens = (rng.integers(3, 16, (ROWS, size)) for size in (PROMPT, RESPONSE))
    return Responses(*(jnp.asarray(x, jnp.int32) for x in (prompt, tokens, rng.integers(1, RESPONSE + 1, ROWS))))


def squared_error(params: Params, data: tuple[Responses, Array], rows: Array) -> tuple[Array, Array]:
    jax.debug.inspect_array_sharding(rows, callback=SEEN.append)
    texts, target = data
    scores = raw_scores(NETWORK, params, Responses(*(x[rows] for x in texts)))
    return jnp.sum((scores - target[rows]) ** 2), jnp.float32(rows.shape[0])


def rewards() -> Params:
    """[1] reward model."""
    return jax.tree.map(lambda x: x[None], init_reward(NETWORK, jax.random.key(0)))


def trained(at_once: int | None) -> TrainResult:
    plan = np.random.default_rng(1).integers(0, ROWS, (1, STEPS, BATCH)).astype(np.int32)
    target = jnp.asarray(np.random.default_rng(2).normal(size=ROWS), jnp.float32)
    return train(squared_error, rewards(), (responses(), target), plan, 0.03, chunk=3, at_once=at_once)


def optimized() -> dict[str, Any]:
    reference, proxy = NETWORK.init(jax.random.key(3)), rewards()
    value = jax.tree.map(lambda x: x[0], proxy)
    lane = Lane(neural_reward(NETWORK, value), value, jax.random.key(4), Hyper(learning_rate=3e-3))
    prompts = np.random.default_rng(5).integers(3, 16, (12, PROMPT)).astype(np.int32)
    program = Program(PPO, NETWORK, NETWORK, prompts=8, samples=2, max_tokens=RESPONSE, epochs=1, minibatches=2)
    course = Course(spacing=100.0, kl_budget=1e9, max_steps=4, show_every=2)
    (result,) = optimize(program, reference, prompts, [lane], course, on_point=lambda *_: None)
    history = result.history
    return {name: getattr(history, name) for name in ("kl", "proxy", "loss", "value_loss", "gradient_norm")}


def every_loop() -> dict[str, Any]:
    """What training, scoring and a few iterations of PPO come to."""
    result = trained(at_once=2)
    members = jax.vmap(lambda params: neural_reward(NETWORK, params))(result.params)
    scores = score_members(members, responses())
    return {"losses": result.losses, "scores": scores, **optimized()}


def main(output: str, mesh: str, port: str = "", process: str = "0") -> None:
    shape = None if mesh == "none" else [int(x) for x in mesh.split(",")]
    if port:
        jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=int(process))
    with sharing(shape):
        found = {"losses": trained(at_once=2).losses} if port else every_loop()
    found["devices"] = np.array([jax.device_count(), jax.local_device_count()])
    found["rows"] = np.array([len(x.device_set) * x.is_fully_replicated for x in SEEN if hasattr(x, "device_set")])
    np.savez(Path(output), **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
