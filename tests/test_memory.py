"""The estimate of memory against what the compiler gives the programs of a run; micro-batches that fit."""

import pytest
from programs import Compilable, drawing, optimizing, reading, reward_training, text_training

from synthetic_rm.ladder import shape_of_width
from synthetic_rm.memory import (
    FLOAT,
    Memory,
    lane_memory,
    parameter_bytes,
    sampling_memory,
    scoring_memory,
    training_memory,
    training_rows,
)

FACTOR = 1.5
"""that the estimate may be off by, either way"""
NARROW, WIDE = shape_of_width(16, 512), shape_of_width(64, 64)
RUN = {"prompts": 8, "samples": 4, "max_tokens": 12, "minibatches": 4}

CASES: dict[str, tuple[Memory, Compilable]] = {
    "reward models, few rows": (training_memory(WIDE, 12, 4, predicts=False), reward_training(WIDE, 2, 4, 8)),
    "reward models in parts, two seeds": (
        training_memory(WIDE, 16, 16, predicts=False).times(2),
        reward_training(WIDE, 32, 4, 12, width=2, parts=4),
    ),
    "language model": (training_memory(NARROW, 15, 32, predicts=True), text_training(NARROW, 32, 16)),
    "pool": (
        sampling_memory(NARROW, 4, 32, 4, 12)._replace(parameters=parameter_bytes(NARROW)),
        drawing(NARROW, 4, 32, 4, 12),
    ),
    "scores": (scoring_memory(WIDE, 3, 16, 4, 12, waiting=64), reading(WIDE, 3, 16, 4, 12, 64)),
    "RL, few responses": (
        lane_memory(WIDE, WIDE, WIDE, prompts=1, samples=2, minibatches=1, prompt_tokens=3, response_tokens=4),
        optimizing(WIDE, WIDE, {"prompts": 1, "samples": 2, "max_tokens": 4, "minibatches": 1}, 3),
    ),
    "RL, two lanes under one vmap": (
        lane_memory(NARROW, WIDE, WIDE, prompts=2, samples=2, minibatches=1, prompt_tokens=3, response_tokens=4).times(
            2
        ),
        optimizing(NARROW, WIDE, {"prompts": 2, "samples": 2, "max_tokens": 4, "minibatches": 1}, 3, lanes=2),
    ),
    "RL, many responses": (
        lane_memory(NARROW, NARROW, NARROW, prompts=8, samples=4, minibatches=4, prompt_tokens=4, response_tokens=12),
        optimizing(NARROW, NARROW, RUN, 4),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_estimate_is_near_the_compilers_count(name: str) -> None:
    estimate, program = CASES[name]
    assert 1 / FACTOR < estimate.total / program.memory() < FACTOR


def test_as_many_rows_as_fit_fit_and_one_more_does_not() -> None:
    for memory in (10**7, 10**8):
        for copies, devices in ((1, 1), (3, 1), (1, 4)):
            rows = training_rows(WIDE, 16, memory, predicts=False, copies=copies, devices=devices)

            def taken(rows: int, copies: int = copies, devices: int = devices) -> int:
                return training_memory(WIDE, 16, rows, predicts=False).shared(devices).times(copies).total

            assert rows > 0 and taken(rows) <= memory < taken(rows + 1)
    assert training_rows(WIDE, 16, 6 * parameter_bytes(WIDE), predicts=False) == 0


def test_parameters_moments_and_gradients_are_shared_and_nothing_else() -> None:
    whole = training_memory(WIDE, 16, 4, predicts=False)
    parts = whole.shared(4)
    assert parts.parameters * 4 == whole.parameters and parts.moments * 4 == whole.moments
    assert parts.activations == whole.activations
    assert whole.total == 6 * parameter_bytes(WIDE) + whole.activations
    assert parameter_bytes(WIDE) % FLOAT == 0
