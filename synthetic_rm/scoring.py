"""F3: scores of many responses by one reward model or by several of one shape, in rows that several of them share."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from synthetic_rm.checkpoints import NO_LOOP, Loop
from synthetic_rm.devices import BATCH, everywhere, share_parameters, shared_by, split
from synthetic_rm.errors import InputError
from synthetic_rm.filling import fill_arrays
from synthetic_rm.packing import fill, pack
from synthetic_rm.types import Array, PackedReward, Responses, RewardModel

BATCHES = 64
"""batches of rows in one call of a program"""
CALLED = 256
"""responses in one call of a reward model that cannot read several from one row"""
MOST_IDS = 2**31 - 1
"""token ids of a model whose vocabulary is not known: 32-bit ones"""


def rows_at_once() -> int:
    """Rows that go through a network together on a device: on a CPU so few that what is computed stays in its cache."""
    return 32 if jax.default_backend() == "cpu" else 1024


def _batch() -> int:
    return rows_at_once() * shared_by(BATCH)


@jax.jit
def _called(members: Any, responses: Responses) -> Array:
    return everywhere(jax.lax.map(lambda model: model(split(responses)), members))


@partial(jax.jit, static_argnames="batch")
def _read(members: Any, prompt: Array | None, tokens: Array, length: Array, batches: Array, *, batch: int) -> Array:
    """Scores [members, R, K] of the first `batches` batches of rows [R, S] of texts `length` [R, K] long."""

    def member(model: PackedReward) -> Array:
        read = model.reader(prompt)

        def body(i: Array, scores: Array) -> Array:
            part = (split(jax.lax.dynamic_slice_in_dim(x, i * batch, batch)) for x in (tokens, length))
            return jax.lax.dynamic_update_slice_in_dim(scores, read(*part), i * batch, 0)

        return jax.lax.fori_loop(0, batches, body, jnp.zeros(length.shape, jnp.float32))

    return everywhere(jax.lax.map(member, members))


def _score_texts(members: Any, prompt: np.ndarray | None, tokens: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Scores [members, N] of texts [N, T], N at most the rows of a program: it is one program whatever N is."""
    batch, size = _batch(), tokens.shape[1]
    rows = pack(length, size)
    room = BATCHES * batch - len(rows)
    packed, lengths = (np.pad(x, ((0, room), (0, 0))) for x in fill(rows, tokens, length, size))
    begin = None if prompt is None else jnp.asarray(prompt.astype(np.int32))
    batches = jnp.int32(-(-len(rows) // batch))
    read = np.asarray(_read(members, begin, jnp.asarray(packed), jnp.asarray(lengths), batches, batch=batch))
    scores, there = np.empty((len(read), len(length)), np.float32), rows >= 0
    scores[:, rows[there]] = read[:, : len(rows)][:, there]
    return scores


def chunks_of(count: int, size: int) -> Iterator[slice]:
    """Slices of that size, the last one perhaps smaller, that make up `count`."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


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


def _reads_packed(members: Any) -> bool:
    return isinstance(members, PackedReward) and members.network.packed is not None


def _vocab(members: Any) -> int:
    return members.network.shape.vocab if isinstance(members, PackedReward) else MOST_IDS


def score_members(members: Any, responses: Responses, loop: Loop = NO_LOOP) -> np.ndarray:
    """Scores of reward models of one shape: float32 [members, N].

    Args:
        members: a reward model whose every array has a leading axis [members].
        responses: [N] numpy or jax arrays. Those that can (see `types.PackedReward`) read several from one row; scores
            depend neither on what shares a row nor on batches.
        loop: keeps the chunks that are done.
    Raises:
        InputError: a length or, of a model with a network, a token id that cannot be (see `check_responses`).
    """
    packed, members = _reads_packed(members), share_parameters(members, lead=1)
    check_responses(responses, _vocab(members))
    prompt, tokens, length = (np.asarray(x) for x in responses)
    texts = np.concatenate([prompt, tokens], axis=1)

    def score_chunk(place: tuple[slice, slice]) -> dict[str, np.ndarray]:
        rows = place[1]
        if packed:
            return {"scores": _score_texts(members, None, texts[rows], length[rows] + prompt.shape[1])}
        at = np.minimum(np.arange(rows.start, rows.start + CALLED), len(length) - 1)
        part = Responses(*(jnp.asarray(x.astype(np.int32)) for x in (prompt[at], tokens[at], length[at])))
        return {"scores": np.asarray(_called(members, part))[:, : rows.stop - rows.start]}

    shapes = {"scores": (np.float32, (jax.tree.leaves(members)[0].shape[0], len(length)))}
    places = [(slice(None), rows) for rows in chunks_of(len(length), BATCHES * _batch() if packed else CALLED)]
    return fill_arrays(shapes, places, score_chunk, loop)["scores"]


def score_answers(members: Any, prompt: np.ndarray, tokens: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Scores, as of `score_members`, of responses tokens [N, T], length [N] to one prompt [P], which is read once."""
    repeated = np.broadcast_to(prompt, (len(length), len(prompt)))
    responses = Responses(repeated, tokens, length)  # type: ignore[arg-type]
    if not _reads_packed(members):
        return score_members(members, responses)
    check_responses(responses, _vocab(members))
    members = share_parameters(members, lead=1)
    parts = chunks_of(len(length), BATCHES * _batch())
    return np.concatenate([_score_texts(members, prompt, tokens[rows], length[rows]) for rows in parts], axis=1)


def score(model: RewardModel, responses: Responses, loop: Loop = NO_LOOP) -> np.ndarray:
    """Scores of one reward model, float32 [N], of responses [N]; `loop` keeps the chunks that are done."""
    return score_members(jax.tree.map(lambda x: x[None], model), responses, loop)[0]
