"""F3: scores of many responses by one reward model or by several of one shape, in batches grouped by length."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from synthetic_rm.errors import InputError
from synthetic_rm.runtime import concurrently
from synthetic_rm.types import Array, Responses, RewardModel

BATCH = 256
MOST = 2**31 - 1
"""token ids of a model whose vocabulary is not known: 32-bit ones"""


def length_buckets(max_tokens: int, step: int = 8) -> tuple[int, int]:
    """Response lengths a batch is cut to: one step short of the longest, and the longest."""
    return (max(1, max_tokens - step), max_tokens)


@jax.jit
def _score_members(members: Any, responses: Responses) -> Array:
    return jax.lax.map(lambda model: model(responses), members)


def _batches(lengths: np.ndarray, max_tokens: int, batch: int) -> Iterator[tuple[np.ndarray, int]]:
    """(rows [batch], tokens to keep): rows sorted by length, the last of a bucket repeated to fill its batch."""
    low = 0
    for cut in length_buckets(max_tokens):
        rows = np.nonzero((lengths > low) & (lengths <= cut))[0]
        for start in range(0, len(rows), batch):
            part = rows[start : start + batch]
            yield np.pad(part, (0, batch - len(part)), mode="edge"), cut
        low = cut


def check_responses(responses: Responses, vocab: int) -> None:
    """Refuse responses [...] that no network of that vocabulary can read; beyond a response's end may stand anything.

    Raises:
        InputError: the first row, leading axes flat, whose length or a token id of whose prompt or response cannot be.
    """
    prompt, tokens, length = (np.asarray(x) for x in responses)
    prompt, tokens, length = prompt.reshape(-1, prompt.shape[-1]), tokens.reshape(-1, tokens.shape[-1]), length.ravel()
    room = tokens.shape[1]
    bad = np.flatnonzero((length < 1) | (length > room))
    if len(bad):
        raise InputError(f"responses: row {bad[0]} has length {length[bad[0]]}, allowed is 1 to {room}")
    inside = np.arange(room) < length[:, None]
    for name, ids, used in (("prompt", prompt, np.ones(prompt.shape, bool)), ("tokens", tokens, inside)):
        outside = used & ((ids < 0) | (ids >= vocab))
        if outside.any():
            row, place = (int(x[0]) for x in np.nonzero(outside))
            raise InputError(
                f"responses: row {row} has id {ids[row, place]} in {name}[{place}], allowed is 0 to {vocab - 1}"
            )


def score_members(members: Any, responses: Responses, *, batch: int = BATCH) -> np.ndarray:
    """Scores of reward models of one shape: float32 [members, N].

    Args:
        members: a reward model whose every array has a leading axis [members].
        responses: [N] numpy or jax arrays. Short and long responses go in batches of their own, so that padding
            costs little; scores do not depend on how responses are batched.
    Raises:
        InputError: a length or, of a model with a network, a token id that cannot be (see `check_responses`).
    """
    network = getattr(members, "network", None)
    check_responses(responses, network.shape.vocab if network is not None else MOST)
    prompt, tokens, length = (np.asarray(x) for x in responses)

    def score_batch(job: tuple[np.ndarray, int]) -> tuple[np.ndarray, np.ndarray]:
        rows, cut = job
        part = Responses(*(jnp.asarray(x) for x in (prompt[rows], tokens[rows, :cut].astype(np.int32), length[rows])))
        return rows, np.asarray(_score_members(members, part))

    scores = np.empty((jax.tree.leaves(members)[0].shape[0], len(length)), np.float32)
    for rows, values in concurrently(score_batch, _batches(length, tokens.shape[1], batch)):
        scores[:, rows] = values
    return scores


def score(model: RewardModel, responses: Responses, *, batch: int = BATCH) -> np.ndarray:
    """Scores of one reward model, float32 [N], of responses [N]."""
    return score_members(jax.tree.map(lambda x: x[None], model), responses, batch=batch)[0]
