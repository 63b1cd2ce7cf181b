"""A little of every loop that devices share, in a process of its own: python shared_work.py OUTPUT MESH [PORT PROCESS]

MESH is "none" or as in "4,2". With a port it is one of two processes that do it together.
"""

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from synthetic_rm.checkpoints import Checkpoints
from synthetic_rm.devices import sharing
from synthetic_rm.errors import InputError, require
from synthetic_rm.hosts import agreed, by_all, by_first, gathered, parting, place, several
from synthetic_rm.networks import transformer
from synthetic_rm.optimizers.measure_rl import measure_policy
from synthetic_rm.optimizers.ppo import PPO
from synthetic_rm.optimizers.rl import Hyper, Metrics, Program
from synthetic_rm.optimizers.rl_run import Course, Lane, optimize
from synthetic_rm.rewards.neural import init_reward, neural_reward, raw_scores
from synthetic_rm.runtime import prepare
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


def kept(folder: Path) -> Checkpoints:
    """After every chunk."""
    return Checkpoints(folder, {"stage": "proxy", "key": "a" * 64}, 0.0)


def resumed(folder: Path) -> TrainResult:
    """Stopped in the second chunk, and gone on with from what was saved after the first."""

    def stop(members: range, step: int, losses: np.ndarray) -> None:
        if step == STEPS:
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        trained(2, checkpoints=kept(folder), on_chunk=stop)
    assert len(list(folder.glob("seeds-0/0*"))) == 1
    return trained(2, checkpoints=kept(folder))


def optimized(folder: Path) -> dict[str, Any]:
    """Stopped when four updates were made, and gone on with from what was saved after two."""
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

    def stop(lane: int, metrics: Metrics) -> None:
        if list(folder.glob("lanes-0/0*")):
            raise KeyboardInterrupt

    what: Any = (program, reference, prompts, [lane], course)
    with suppress(KeyboardInterrupt):
        optimize(*what, on_point=measured, on_chunk=stop, checkpoints=kept(folder))
    (result,) = optimize(*what, on_point=measured, checkpoints=kept(folder))
    named = ("kl", "proxy", "loss", "value_loss", "gradient_norm")
    golds = np.stack([found["gold"] for _, found in result.points])
    return {name: getattr(result.history, name) for name in named} | {"measured": golds}


def every_loop(folder: Path) -> dict[str, Any]:
    """What training, scoring and a few iterations of PPO come to; checkpoints lie in the folder.

    Two seeds at once ("both") are one more program to compile: several processes leave them out.
    """
    result = trained(at_once=2)
    members = jax.vmap(lambda params: neural_reward(NETWORK, params))(result.params)
    scores = score_members(members, responses())
    both = {} if several() else {"both": trained(at_once=None, seeds=2).losses}
    losses = {"losses": result.losses, "resumed": resumed(folder).losses}
    return {**losses, **both, "scores": scores, **optimized(folder)}


def told() -> list[str]:
    """What two processes agree on, and how what one refuses ends in the other; at last each is by itself."""

    def by(process: int) -> str:
        require(place() != process, f"refused by {process}")
        return f"made by {place()}"

    found = [str(gathered(place())), agreed(f"said by {place()}"), by_first(lambda: by(1)), by_all(lambda: by(2))]
    for act in (lambda: by_first(lambda: by(0)), lambda: by_all(lambda: by(1))):
        try:
            found.append(act())
        except InputError as error:
            found.append(str(error))
    try:
        by_first(lambda: Path("/dev/full").write_text("full"))
    except OSError as error:
        found.append(str(error))
    try:
        with parting():
            require(place() == 0, "left by 1")
            gathered("0 waits")
    except InputError as error:
        found.append(str(error))
    return [*found, str(gathered("by itself"))]


def main(output: str, mesh: str, port: str = "", process: str = "0") -> None:
    shape = None if mesh == "none" else [int(x) for x in mesh.split(",")]
    if port:
        prepare(coordinator=f"127.0.0.1:{port}", processes=2, process=int(process))
    with sharing(shape):
        found = every_loop(Path(output).parent / "kept")
    found["told"] = np.array(told() if port else [], str)
    found["devices"] = np.array([jax.device_count(), jax.local_device_count()])
    found["rows"] = np.array([len(x.device_set) * x.is_fully_replicated for x in SEEN if hasattr(x, "device_set")])
    np.savez(Path(output), **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
