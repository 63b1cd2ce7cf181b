"""Training that is interrupted anywhere and resumed ends with the very bytes of training that is not."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synthetic_rm.checkpoints import UNSAVED, Checkpoints
from synthetic_rm.errors import InputError, Stopped
from synthetic_rm.runtime import safe_to_stop_within, stop_asked, stoppable
from synthetic_rm.training.loop import TrainResult, batch_plan, train
from synthetic_rm.types import Array, Params

SEEDS, STEPS, CHUNK, ROWS = 3, 22, 4, 24


def pull(params: Params, data: Array, rows: Array) -> tuple[Array, Array]:
    """Towards the rows; exp overflows where the last seed starts."""
    return jnp.sum(jnp.exp(params["w"] - data[rows]) - params["w"]), jnp.float32(len(rows))


def run(checkpoints: Checkpoints = UNSAVED, on_chunk: Callable[..., None] | None = None, **changes: Any) -> TrainResult:
    data = jnp.float32(np.random.default_rng(0).normal(size=ROWS))
    plan = np.stack([batch_plan(np.random.default_rng(seed), ROWS, 5, STEPS) for seed in range(SEEDS)])
    start = changes.pop("start", {"w": jnp.float32([0.5, -0.5, 100.0])})
    asked: dict[str, Any] = {"width": 1, "chunk": CHUNK, **changes}
    return train(pull, start, data, plan, 0.1, on_chunk=on_chunk, checkpoints=checkpoints, **asked)


def opened(folder: Path, every: float | None = 0.0) -> Checkpoints:
    return Checkpoints(folder, {"stage": "proxy", "key": "a1" * 32}, every)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.001)


def bytes_of(result: TrainResult) -> list[bytes]:
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(tuple(result))]


@pytest.fixture(scope="module")
def plain() -> TrainResult:
    result = run()
    assert result.finite.tolist() == [True, True, False] and np.isfinite(result.losses[:2]).all()
    return result


class Interrupted:
    """Notes what every group did and raises at a chunk of one of them."""

    def __init__(self, at: int):
        self.at, self.seen = at, [list[int]() for _ in range(SEEDS)]

    def __call__(self, members: range, step: int, losses: np.ndarray) -> None:
        self.seen[members.start].append(step)
        assert losses.shape == (1, step - (self.seen[members.start][-2] if self.seen[members.start][1:] else 0))
        if sum(map(len, self.seen)) == self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize("at", [5, 14])
def test_interrupted_training_goes_on_from_its_last_checkpoint(plain: TrainResult, tmp_path: Path, at: int) -> None:
    """What the interrupted groups had saved, every one its own, is told as one chunk and not computed again."""
    first, second = Interrupted(at), Interrupted(-1)
    with pytest.raises(KeyboardInterrupt):
        run(opened(tmp_path / "p"), first)
    assert bytes_of(run(opened(tmp_path / "p"), second)) == bytes_of(plain)
    for before, after in zip(first.seen, second.seen, strict=True):
        assert after[-1] == STEPS and after[0] >= max(before[:-1], default=CHUNK)
        assert len(after) == len(set(after))
    if at == 5:
        third = Interrupted(-1)
        assert bytes_of(run(opened(tmp_path / "p"), third)) == bytes_of(plain)
        assert third.seen == [[STEPS]] * SEEDS  # nothing was left to do


def test_a_signal_to_end_checkpoints_within_one_chunk(plain: TrainResult, tmp_path: Path) -> None:
    seen: list[int] = []

    def ask_to_end(members: range, step: int, losses: np.ndarray) -> None:
        seen.append(step)
        if len(seen) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
            wait_for(stop_asked)  # the main thread takes the signal when it comes to it

    with pytest.raises(Stopped) as stopped, stoppable(), safe_to_stop_within():
        run(opened(tmp_path / "p", every=None), ask_to_end, width=SEEDS)
    assert stopped.value.code == 128 + signal.SIGTERM and seen == [4, 8, 12]
    resumed: list[int] = []
    result = run(opened(tmp_path / "p"), lambda members, step, losses: resumed.append(step), width=SEEDS)
    assert resumed == [12, 16, 20, 22]
    np.testing.assert_array_equal(result.losses, run(width=SEEDS).losses)


def test_checkpoints_of_other_parameters_are_refused(tmp_path: Path) -> None:
    run(opened(tmp_path / "p"))  # to its end: every group has one
    with pytest.raises(InputError, match=r"params.w \[\[1\], 'float32'\], expected \[\[1, 2\], 'float32'\]; remove"):
        run(opened(tmp_path / "p"), start={"w": jnp.zeros((SEEDS, 2))})
