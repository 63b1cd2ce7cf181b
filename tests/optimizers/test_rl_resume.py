"""Policy gradient that is interrupted anywhere and resumed ends with the very bytes of one that is not."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from optimizers.tabular import PROMPTS, hyper, program, reference, reward, value_start

from synthetic_rm.checkpoints import UNSAVED, Checkpoints
from synthetic_rm.errors import Stopped
from synthetic_rm.optimizers.ppo import PPO
from synthetic_rm.optimizers.rl import Metrics
from synthetic_rm.optimizers.rl_run import Course, Lane, LaneResult, optimize
from synthetic_rm.runtime import safe_to_stop_within, stop_asked, stoppable
from synthetic_rm.types import Params

COURSE = Course(spacing=0.3, kl_budget=1.0, max_steps=40, show_every=4)
RATES = (0.02, 0.05, float("nan"))
"""the second lane reaches the budget early, the third is not finite after its first update"""
Note = tuple[int, int]
"""(lane, updates made)"""


class Host:
    """Measures every policy that is shown, and calls `interrupt` with the number of chunks so far."""

    def __init__(self, interrupt: Callable[[int], None] = lambda chunks: None):
        self.interrupt, self.shown, self.steps, self.chunks = interrupt, list[Note](), [0, 0, 0], 0

    def on_point(self, lane: int, step: int, params: Params) -> dict[str, np.ndarray]:
        self.shown.append((lane, step))
        return {"sum": np.asarray(params["table"]).sum(-1), "step": np.float32(step) * np.ones(2, np.float32)}

    def on_chunk(self, lane: int, metrics: Metrics) -> None:
        self.steps[lane] += len(metrics.kl)
        self.chunks += 1
        self.interrupt(self.chunks)


def run(host: Host, checkpoints: Checkpoints = UNSAVED) -> list[LaneResult]:
    """An adaptive KL coefficient, undone steps, and a value function: everything that a lane's state can hold."""
    numbers = {"kl_coef": 0.05, "kl_target": 0.3, "max_jump": 0.4}
    lanes = [
        Lane(reward(i, 3.0), value_start(20 + i), jax.random.key(i), hyper(learning_rate=rate, **numbers))
        for i, rate in enumerate(RATES)
    ]
    asked: dict[str, Any] = {"on_point": host.on_point, "on_chunk": host.on_chunk, "checkpoints": checkpoints}
    return optimize(program(PPO), reference(), PROMPTS, lanes, COURSE, width=2, **asked)


def opened(folder: Path, every: float | None = 0.0) -> Checkpoints:
    return Checkpoints(folder, {"stage": "rl", "key": "a1" * 32}, every)


def bytes_of(results: list[LaneResult]) -> list[tuple[str, list[bytes], list[tuple[int, dict[str, bytes]]]]]:
    return [
        (
            result.status,
            [np.asarray(x).tobytes() for x in jax.tree.leaves((result.params, result.history))],
            [(step, {name: x.tobytes() for name, x in sorted(found.items())}) for step, found in result.points],
        )
        for result in results
    ]


@pytest.fixture(scope="module")
def plain() -> tuple[Host, list[LaneResult]]:
    host = Host()
    results = run(host)
    assert [result.status for result in results] == ["max_steps", "kl_budget", "nonfinite"]
    assert results[0].history.kl_coef[-1] != results[0].history.kl_coef[0]
    assert [len(result.points) for result in results] == [sum(lane == i for lane, _ in host.shown) for i in range(3)]
    return host, results


def interrupted(at: int) -> Callable[[int], None]:
    def interrupt(chunks: int) -> None:
        if chunks == at:
            raise KeyboardInterrupt

    return interrupt


@pytest.mark.parametrize("at", [4, 13])
def test_an_interrupted_run_goes_on_from_its_last_checkpoint(
    plain: tuple[Host, list[LaneResult]], tmp_path: Path, at: int
) -> None:
    """And measures nothing twice that was measured before it."""
    whole, results = plain
    first, second = Host(interrupted(at)), Host()
    with pytest.raises(KeyboardInterrupt):
        run(first, opened(tmp_path / "p"))
    assert bytes_of(run(second, opened(tmp_path / "p"))) == bytes_of(results)
    assert second.steps == whole.steps == [len(result.history.kl) for result in results]  # told as if nothing were
    assert set(first.shown) | set(second.shown) == set(whole.shown)
    again = set(first.shown) & set(second.shown)
    assert len(again) <= 1 and len(second.shown) < len(whole.shown)  # the point of the chunk that was cut


def test_a_signal_to_end_is_answered_after_the_chunk(plain: tuple[Host, list[LaneResult]], tmp_path: Path) -> None:
    def ask_to_end(chunks: int) -> None:
        if chunks == 3:
            os.kill(os.getpid(), signal.SIGINT)
            deadline = time.monotonic() + 60
            while not stop_asked() and time.monotonic() < deadline:
                time.sleep(0.001)  # the main thread takes the signal when it comes to it

    first = Host(ask_to_end)
    with pytest.raises(Stopped) as stopped, stoppable(), safe_to_stop_within():
        run(first, opened(tmp_path / "p", every=None))
    assert stopped.value.code == 130
    second = Host()
    assert bytes_of(run(second, opened(tmp_path / "p"))) == bytes_of(plain[1])
    assert set(first.shown).isdisjoint(second.shown)
