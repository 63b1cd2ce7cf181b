"""F5: stage 1 of RLHF: language-model training of backbones and supervised fine-tuning of the reference policy."""

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from synthetic_rm.checkpoints import UNSAVED, Checkpoints
from synthetic_rm.losses import next_token_loss
from synthetic_rm.training.loop import Loss, OnChunk, TrainResult, batch_plan, rows_that_fit, train
from synthetic_rm.types import Array, Network, Params, Responses


class TokenRows(NamedTuple):
    """Rows of text to imitate."""

    tokens: Array
    """[N, S] ids, the begin token first"""
    weight: Array
    """[N, S] 1 where the token is to be predicted from those before it"""


def token_rows(demonstrations: Responses, *, response_only: bool) -> TokenRows:
    """Demonstrations [N] as training rows: the whole text (pretraining) or the response alone (fine-tuning)."""
    prompt, tokens, length = (np.asarray(x) for x in demonstrations)
    inside = (np.arange(tokens.shape[1]) < length[:, None]).astype(np.float32)
    before = np.zeros(prompt.shape, np.float32) if response_only else np.ones(prompt.shape, np.float32)
    before[:, 0] = 0.0
    rows, weight = np.concatenate([prompt, tokens], 1), np.concatenate([before, inside], 1)
    return TokenRows(jnp.asarray(rows), jnp.asarray(weight))


def language_model_loss(network: Network, params: Params, rows: TokenRows) -> Array:
    """Nats per predicted token of a batch of rows."""
    logits = network.logits(params, network.hidden(params, rows.tokens[:, :-1]))
    return next_token_loss(logits, rows.tokens[:, 1:], rows.weight[:, 1:])


@cache
def _batch_loss(network: Network) -> Loss:
    def loss(params: Params, data: TokenRows, index: Array) -> tuple[Array, Array]:
        part = TokenRows(data.tokens[index], data.weight[index])
        predicted = part.weight[:, 1:].sum()
        return language_model_loss(network, params, part) * predicted, predicted

    return loss


def train_language_model(
    network: Network,
    params: Params,
    rows: TokenRows,
    *,
    seed: int,
    steps: int,
    batch: int,
    learning_rate: float,
    memory: int | None = None,
    on_chunk: OnChunk | None = None,
    checkpoints: Checkpoints = UNSAVED,
) -> TrainResult:
    """Train one language model from `params` (without a seed axis; the result has one of length 1).

    Args:
        memory: bytes of a device that may be filled, see `training.loop.rows_that_fit`.
    """
    rng = np.random.default_rng(seed)
    plan = batch_plan(rng, rows.tokens.shape[0], batch, steps)[None]
    stacked = jax.tree.map(lambda x: x[None], params)
    at_once = rows_that_fit(network.shape, rows.tokens.shape[1] - 1, predicts=True, memory=memory)
    return train(
        _batch_loss(network),
        stacked,
        rows,
        plan,
        learning_rate,
        at_once=at_once,
        on_chunk=on_chunk,
        checkpoints=checkpoints,
    )


@cache
def _evaluation(network: Network) -> Any:
    return jax.jit(lambda params, rows: language_model_loss(network, params, rows))


def evaluate_language_model(network: Network, params: Params, rows: TokenRows, *, batch: int = 128) -> float:
    """Nats per predicted token over all rows, every token counted once."""
    whole = jax.tree.map(np.asarray, rows)
    count = whole.tokens.shape[0]
    total = weight = 0.0
    for start in range(0, count, batch):
        index = np.arange(start, start + batch)
        part = jax.tree.map(lambda x, index=index: x[np.minimum(index, count - 1)], whole)
        part = part._replace(weight=part.weight * (index < count)[:, None].astype(np.float32))
        predicted = float(part.weight[:, 1:].sum())
        total += float(_evaluation(network)(params, part)) * predicted
        weight += predicted
    return total / weight
