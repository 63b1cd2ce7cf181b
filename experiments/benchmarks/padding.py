"""What part of the positions that networks compute hold no token, at the laptop preset on the shipped release."""

from typing import NamedTuple

import jax
import numpy as np

from synthetic_rm.comparisons import draw_groups
from synthetic_rm.packing import pack
from synthetic_rm.release import load_release
from synthetic_rm.scoring import BATCHES, rows_at_once
from synthetic_rm.settings import Settings


class Padding(NamedTuple):
    """Share of the positions of one kind of rows that hold no token."""

    rows: str
    how: str
    share: float


def padded(length: np.ndarray, size: int) -> float:
    """Of texts `length` long, each in a row of `size`."""
    return float(1 - length.mean() / size)


def cut(length: np.ndarray, batch: int, part: int) -> float:
    """Of groups of texts, length [G, K], in batches in their order, each sorted by its longest text and computed in
    parts of so many groups, all texts of a part in rows as long as its longest; groups beyond whole batches are left.
    """
    kept = length[: len(length) // batch * batch].reshape(-1, batch, length.shape[1])
    longest = np.sort(kept.max(2), axis=1).reshape(-1, part).max(1)
    return float(1 - kept.sum() / (longest.sum() * part * length.shape[1]))


def packed(length: np.ndarray, size: int) -> float:
    """Of texts `length` long that share rows of `size`, BATCHES x rows_at_once() texts at a time, as in `scoring`."""
    chunks = np.split(length, range(BATCHES * rows_at_once(), len(length), BATCHES * rows_at_once()))
    return float(1 - length.sum() / (size * sum(len(pack(chunk, size)) for chunk in chunks)))


def measured(groups: int) -> list[Padding]:
    """Of so many pairs of responses of the shipped reference to training prompts."""
    settings = Settings()
    world = load_release(str(settings.environment.release))
    environment = world.environment
    drawn = draw_groups(
        world.reference,
        world.reference_params,
        environment.prompts("train"),
        jax.random.key(0),
        num_groups=groups,
        group_size=2,
        max_tokens=environment.response_tokens,
    )
    length, before = np.asarray(drawn.length), environment.prompt_tokens
    texts, size = before + length, before + environment.response_tokens
    batch = min(settings.proxy.batch, groups)
    part = max(1, min(batch, rows_at_once() // 2))
    return [
        Padding("reward training, RL updates", "as it is: rows of one size", padded(texts, size)),
        Padding("reward training", "a batch's pairs sorted by length, parts cut", cut(texts, batch, part)),
        Padding("reward training", "every pair cut to its longer response", cut(texts, batch, 1)),
        Padding("reward training", "all pairs sorted: batches of like lengths", cut(texts, groups, part)),
        Padding("scoring of comparisons", "as it is: texts share rows", packed(texts.ravel(), size)),
        Padding(
            "scoring of a pool",
            "as it is: prompt read once, responses share rows",
            packed(length.ravel(), size - before),
        ),
        Padding("scoring", "were every text in a row of its own", padded(texts, size)),
        Padding("sampling", "as it is: steps after a response's end", padded(length, size - before)),
    ]
