"""F5: stage 2 of RLHF: reward models from comparisons. Gold and proxies are trained by the same code."""

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from synthetic_rm.checkpoints import UNSAVED, Checkpoints
from synthetic_rm.errors import require
from synthetic_rm.losses import pair_accuracy, ranking_loss
from synthetic_rm.rewards.neural import Readout, raw_scores
from synthetic_rm.scoring import check_responses
from synthetic_rm.training.loop import Loss, OnChunk, TrainResult, batch_plan, rows_that_fit, train
from synthetic_rm.types import Array, Comparisons, Network, Params


class RewardMetrics(NamedTuple):
    """How well one reward model orders held-out comparisons."""

    loss: float
    """nats; ln 2 = .693 is chance"""
    accuracy: float
    """share of pairs ordered as labelled, labels of 1/2 and dropped pairs apart"""


def reward_learning_rate(parameters: int) -> float:
    """Peak Adam learning rate of a reward model of so many parameters: 0.03 (N / 2000)^(-0.4), at most 0.03.

    Ours, not the paper's (which gives multiples of unpublished base rates). Small models need large steps to move
    at all within one epoch; the exponent keeps the size of a weight's relative change about constant.
    """
    return min(0.03, 0.03 * (parameters / 2000) ** -0.4)


@cache
def _batch_loss(network: Network, readout: Readout) -> Loss:
    def loss(params: Params, data: Comparisons, index: Array) -> tuple[Array, Array]:
        part = jax.tree.map(lambda x: x[index], data)
        groups = (part.weight.sum(-1) > 0).sum().astype(jnp.float32)
        scores = raw_scores(network, params, part.responses, readout)
        return ranking_loss(scores, part.target, part.weight) * groups, groups

    return loss


def train_reward(
    network: Network,
    params: Params,
    comparisons: Comparisons,
    *,
    seeds: list[int],
    epochs: float,
    batch: int,
    learning_rate: float | np.ndarray,
    readout: Readout = "last",
    width: int = 1,
    memory: int | None = None,
    on_chunk: OnChunk | None = None,
    checkpoints: Checkpoints = UNSAVED,
) -> TrainResult:
    """Train reward models from params [seeds, ...], every seed with its own order of the same comparisons.

    Args:
        batch: groups in a batch; all pairs of a group belong to one batch element.
        memory: bytes of a device that may be filled; none: all that is usable. It decides how many groups of a batch
            are learned from together.
        epochs: passes over the comparisons; the number of steps is rounded down, at least one.
    Raises:
        InputError: a batch larger than the comparisons, or token ids or lengths that cannot be.
    """
    groups = comparisons.target.shape[0]
    require(1 <= batch <= groups, f"batch={batch}: allowed is 1 to {groups}, the groups to train on")
    check_responses(comparisons.responses, network.shape.vocab)
    steps = max(1, int(groups * epochs) // batch)
    plan = np.stack([batch_plan(np.random.default_rng(seed), groups, batch, steps) for seed in seeds])
    length = comparisons.responses.prompt.shape[-1] + comparisons.responses.tokens.shape[-1]
    rows = rows_that_fit(network.shape, length, predicts=False, runs=len(seeds), width=width, memory=memory)
    return train(
        _batch_loss(network, readout),
        params,
        comparisons,
        plan,
        learning_rate,
        width=width,
        at_once=max(1, rows // comparisons.responses.length.shape[1]),
        on_chunk=on_chunk,
        checkpoints=checkpoints,
    )


@cache
def _evaluation(network: Network, readout: Readout) -> Any:
    @jax.jit
    def evaluate(params: Params, part: Comparisons) -> tuple[Array, Array, Array, Array]:
        scores = raw_scores(network, params, part.responses, readout)
        right, counted = pair_accuracy(scores, part.target, part.weight)
        groups = (part.weight.sum(-1) > 0).sum()
        return ranking_loss(scores, part.target, part.weight) * groups, groups, right, counted

    return evaluate


def evaluate_reward(
    network: Network, params: Params, comparisons: Comparisons, *, readout: Readout = "last", batch: int = 64
) -> RewardMetrics:
    """Ranking loss and accuracy of one reward model (params without a seed axis) over all comparisons."""
    whole = jax.tree.map(np.asarray, comparisons)
    groups = whole.target.shape[0]
    sums = np.zeros(4)
    for start in range(0, groups, batch):
        rows = np.arange(start, start + batch)
        part = jax.tree.map(lambda x, rows=rows: x[np.minimum(rows, groups - 1)], whole)
        part = part._replace(weight=part.weight * (rows < groups)[:, None].astype(np.float32))
        sums += np.array([float(x) for x in _evaluation(network, readout)(params, part)])
    loss, groups_counted, right, counted = sums
    return RewardMetrics(
        loss / groups_counted if groups_counted else float("nan"), right / counted if counted else float("nan")
    )
