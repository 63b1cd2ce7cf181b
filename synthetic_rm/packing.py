"""F1: rows of one size filled with several texts each, so that a network computes little padding."""

import numpy as np

MOST = 4
"""texts in a row"""


def pack(length: np.ndarray, size: int, most: int = MOST) -> np.ndarray:
    """Which texts share a row of `size` tokens: int [R, most], -1 where there is none; every text is in one row.

    The longest text left opens a row, and the longest that fits follows until none does (best fit decreasing). Texts
    of one length are alike, so rows of one pattern of lengths are made together.

    Args:
        length: [N] tokens of every text, 1 to `size`.
    """
    order = np.argsort(-length, kind="stable")
    left = np.bincount(length, minlength=size + 1)
    start = len(length) - np.cumsum(left)
    rows = [np.empty((0, most), np.int64)]
    while left.any():
        pattern = _pattern(left, size, most)
        used = np.bincount(pattern, minlength=size + 1)
        count = int((left[pattern] // used[pattern]).min())
        block = np.full((count, most), -1)
        for place, tokens in enumerate(pattern):
            block[:, place] = order[start[tokens] : start[tokens] + count]
            start[tokens] += count
        left -= count * used
        rows.append(block)
    return np.concatenate(rows)


def _pattern(left: np.ndarray, room: int, most: int) -> list[int]:
    left = left.copy()
    pattern: list[int] = []
    while len(pattern) < most and left[1 : room + 1].any():
        pattern.append(int(np.flatnonzero(left[: room + 1])[-1]))
        left[pattern[-1]] -= 1
        room -= pattern[-1]
    return pattern


def fill(rows: np.ndarray, tokens: np.ndarray, length: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens [R, size] int32 and lengths [R, most] int32 (0: none) of the rows that `pack` chose.

    Args:
        tokens: [N, T] of every text, whatever beyond `length` [N].
    """
    there = rows >= 0
    lengths = np.where(there, length[rows], 0).astype(np.int32)
    starts = np.cumsum(lengths, axis=1) - lengths
    packed = np.zeros((len(rows), size), np.int32)
    row, column = np.nonzero(there)
    place = np.arange(tokens.shape[1])[None]
    inside = place < lengths[row, column][:, None]
    target = (starts[row, column][:, None] + place)[inside]
    packed[np.broadcast_to(row[:, None], inside.shape)[inside], target] = tokens[rows[row, column]][inside]
    return packed, lengths
