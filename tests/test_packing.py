"""Every text lies whole in one row, and rows are filled nearly as well as they can be."""

import numpy as np
import pytest

from synthetic_rm.packing import MOST, fill, pack


def lengths(seed: int, size: int, count: int) -> np.ndarray:
    """Like responses: every length occurs, and many are cut at the longest."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(count) < 0.5, size, rng.integers(1, size + 1, count))


@pytest.mark.parametrize(("size", "count", "most"), [(1, 5, 4), (7, 1, 4), (9, 60, 1), (9, 60, 2), (27, 800, 4)])
def test_every_text_is_in_one_row_and_no_row_is_overfull(size: int, count: int, most: int) -> None:
    length = lengths(0, size, count)
    rows = pack(length, size, most)
    assert rows.shape[1] == most
    assert sorted(rows[rows >= 0].tolist()) == list(range(count))
    assert (np.where(rows >= 0, length[rows], 0).sum(1) <= size).all()
    assert (rows[:, 0] >= 0).all()  # no row is empty
    assert len(rows) >= -(-length.sum() // size)


def test_no_texts_need_no_rows() -> None:
    assert pack(np.zeros(0, int), 5).shape == (0, MOST)


def test_pairs_that_fill_a_row_share_it() -> None:
    rows = pack(np.array([4, 1, 5, 3, 2, 1, 4]), 5)
    assert len(rows) == 4
    assert sorted(map(sorted, rows.tolist())) == sorted(
        map(sorted, [[2, -1, -1, -1], [0, 1, -1, -1], [6, 5, -1, -1], [3, 4, -1, -1]])
    )


def test_little_is_left_empty() -> None:
    length = lengths(1, 27, 4000)
    assert length.sum() / (27 * len(pack(length, 27))) > 0.97
    assert length.mean() / 27 < 0.8  # as full as rows of one text each would be


def test_texts_stand_one_after_another_in_their_row() -> None:
    size, rng = 9, np.random.default_rng(2)
    length = lengths(3, size, 50)
    tokens = rng.integers(1, 1000, (50, size)).astype(np.uint16)  # what stands beyond an end is not 0
    rows = pack(length, size)
    packed, there = fill(rows, tokens, length, size)
    assert packed.dtype == there.dtype == np.int32
    for row, counts, chosen in zip(packed, there, rows, strict=True):
        expected = [tokens[i][: length[i]] for i in chosen if i >= 0]
        assert counts.tolist() == [length[i] if i >= 0 else 0 for i in chosen]
        whole = np.concatenate(expected)
        np.testing.assert_array_equal(row, np.pad(whole, (0, size - len(whole))))
