"""A little of every loop that devices share, in a process of its own: python shared_work.py OUTPUT MESH [PORT PROCESS]

MESH is "none" or as in "4,2". With a port it is one of two processes that train together.
"""

import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from synthetic_rm.checkpoints import Checkpoints
from synthetic_rm.devices import sharing
from synthetic_rm.networks import transformer
from synthetic_rm.optimizers.measure_rl import measure_policy
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


def rewards(count: int = 1) -> Params:
    """[count] reward models."""
    return jax.vmap(lambda key: init_reward(NETWORK, key))(jax.random.split(jax.random.key(0), count))


def trained(at_once: int | None, seeds: int = 1, **how: Any) -> TrainResult:
    plan = np.random.default_rng(1).integers(0, ROWS, (seeds, STEPS, BATCH)).astype(np.int32)
    target = jnp.asarray(np.random.default_rng(2).normal(size=ROWS), jnp.float32)
    data = (responses(), target)
    return train(squared_error, rewards(seeds), data, plan, 0.03, chunk=3, at_once=at_once, width=seeds, **how)


def resumed() -> TrainResult:
    """Stopped in the second chunk, and gone on with from what was saved after the first."""

    def stop(members: range, step: int, losses: np.ndarray) -> None:
        if step == STEPS:
            raise KeyboardInterrupt

    with tempfile.TemporaryDirectory() as folder:
        kept = (Path(folder) / "kept", {"stage": "proxy", "key": "a" * 64}, 0.0)
        with suppress(KeyboardInterrupt):
            trained(2, checkpoints=Checkpoints(*kept), on_chunk=stop)
        assert (Path(folder) / "kept").exists()
        return trained(2, checkpoints=Checkpoints(*kept))


def optimized() -> dict[str, Any]:
    reference, proxy = NETWORK.init(jax.random.key(3)), rewards()
    value = jax.tree.map(lambda x: x[0], proxy)
    model = neural_reward(NETWORK, value)
    lane = Lane(model, value, jax.random.key(4), Hyper(learning_rate=3e-3))
    prompts = np.random.default_rng(5).integers(3, 16, (12, PROMPT)).astype(np.int32)
    program = Program(PPO, NETWORK, NETWORK, prompts=8, samples=2, max_tokens=RESPONSE, epochs=1, minibatches=2)
    course = Course(spacing=100.0, kl_budget=1e9, max_steps=4, show_every=2)
    sizes = {"samples": 2, "max_tokens": RESPONSE}

    def measured(lane: int, step: int, params: Params) -> Any:
        key, models = jax.random.key(6), {"proxy": model, "gold": model}
        return {"gold": measure_policy(NETWORK, params, reference, prompts[:8], key, **sizes, **models).gold}

    (result,) = optimize(program, reference, prompts, [lane], course, on_point=measured)
    named = ("kl", "proxy", "loss", "value_loss", "gradient_norm")
    golds = np.stack([found["gold"] for _, found in result.points])
    return {name: getattr(result.history, name) for name in named} | {"measured": golds}


def every_loop() -> dict[str, Any]:
    """What training, scoring and a few iterations of PPO come to."""
    result = trained(at_once=2)
    members = jax.vmap(lambda params: neural_reward(NETWORK, params))(result.params)
    scores = score_members(members, responses())
    both = trained(at_once=None, seeds=2).losses
    return {"losses": result.losses, "resumed": resumed().losses, "both": both, "scores": scores, **optimized()}


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
