"""Unbiased estimates of best-of-n scores from one pool of samples per prompt."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthetic_rm.errors import InputError, require

Floats = NDArray[np.float64]
CHUNK_ELEMENTS = 2**21


def _check_n(n: object, num_samples: int) -> int:
    """`n` as an int, a whole number from 1 to `num_samples`."""
    whole = isinstance(n, (int, float, np.integer, np.floating)) and not isinstance(n, bool) and float(n).is_integer()
    require(whole, f"n must be a whole number from 1 to N = {num_samples}, got n = {n}")
    value = int(n)  # type: ignore[call-overload]
    require(1 <= value <= num_samples, f"n must be from 1 to N = {num_samples} samples, got n = {value}")
    return value


def best_of_n_weights(num_samples: int, n: int) -> Floats:
    """w_i = C(i-1, n-1) / C(N, n): the share of the subsets of size n whose best has rank i (1 = lowest).

    By w_N = n/N and w_(i-1) = w_i (i-n)/(i-1): a running product of factors in [0, 1] cannot overflow and is
    off by less than 2N units in the last place (2e-11 at N = 60,000), where a difference of log-gammas, each
    ~N ln N, loses more. Weights below the smallest float64 are 0 (WebGPT, App. I).

    Args:
        num_samples: N.
        n: size of the subsets, from 1 to N.
    Returns:
        [N] weights in order of rising rank, summing to 1.
    Raises:
        InputError: n is not a whole number from 1 to N.
    """
    size = _check_n(n, num_samples)
    rank = np.arange(num_samples, 1, -1, dtype=np.float64)
    factors = np.concatenate([[size / num_samples], np.maximum(rank - size, 0.0) / (rank - 1.0)])
    return np.cumprod(factors)[::-1]


def ns_grid(num_samples: int, points: int) -> NDArray[np.int64]:
    """min(points, N) distinct integers from 1 to N, ends included, in as even a ratio as integers allow.

    Args:
        num_samples: N.
        points: how many values.
    Returns:
        [min(points, N)] strictly rising integers.
    Raises:
        InputError: num_samples < 1, or fewer than 2 points for more than one sample.
    """
    require(num_samples >= 1, f"num_samples must be at least 1, got {num_samples}")
    require(points >= min(2, num_samples), f"points must be at least 2, got {points}")
    grid = [1]
    total = min(points, num_samples)
    while len(grid) < total:
        ratio = (num_samples / grid[-1]) ** (1.0 / (total - len(grid)))
        grid.append(max(grid[-1] + 1, round(grid[-1] * ratio)))
    return np.asarray(grid, dtype=np.int64)


def _average_ties(scores: Floats, values: Floats) -> Floats:
    """`values` [prompts, samples], each replaced by the mean over its run of equal (sorted) `scores`."""
    new = np.ones(scores.shape, dtype=bool)
    np.not_equal(scores[:, 1:], scores[:, :-1], out=new[:, 1:])
    starts = np.flatnonzero(new)
    if starts.size == scores.size:
        return values
    lengths = np.diff(starts, append=scores.size)
    means = np.add.reduceat(values.ravel(), starts) / lengths
    return np.repeat(means, lengths).reshape(scores.shape)


def _chunks(rows: int, columns: int) -> Iterator[slice]:
    """Slices over `rows` of at most about CHUNK_ELEMENTS elements each."""
    step = max(1, CHUNK_ELEMENTS // max(columns, 1))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def best_of_n_curve(proxy: ArrayLike, gold: ArrayLike, ns: ArrayLike) -> tuple[Floats, Floats]:
    """R_n = sum_i w_i(n) R(S_i), S_1..S_N by rising proxy: the mean of the best over all subsets of size n.

    Unbiased for best-of-n without drawing a subset (WebGPT, App. I). Samples with equal proxy scores share
    the average weight of their ranks, as when ties are broken at random. One sort per prompt, then O(N) for
    each n; prompts are taken in chunks, so that memory stays bounded and memory-mapped files are read once.

    Args:
        proxy: [prompts, samples] proxy scores, which choose the winner.
        gold: [prompts, samples] gold scores of the same samples.
        ns: [k] whole numbers from 1 to samples.
    Returns:
        proxy_n, gold_n: [prompts, k] float64, the expected scores of the winner.
    Raises:
        InputError: shapes differ or are not [prompts, samples], a score is not finite, or an n is not a whole
            number from 1 to samples.
    """
    proxies, golds, sizes = np.asanyarray(proxy), np.asanyarray(gold), np.asarray(ns)
    require(
        proxies.ndim == 2 and proxies.shape == golds.shape and proxies.size > 0,
        f"proxy and gold must be [prompts, samples] of one shape, got {proxies.shape} and {golds.shape}",
    )
    require(sizes.ndim == 1 and sizes.size > 0, f"ns must be a list of at least one n, got shape {sizes.shape}")
    prompts, samples = proxies.shape
    weights = np.stack([best_of_n_weights(samples, n) for n in sizes], axis=1)
    proxy_n, gold_n = np.empty((prompts, sizes.size)), np.empty((prompts, sizes.size))
    for rows in _chunks(prompts, samples):
        chunk = {"proxy": np.asarray(proxies[rows]), "gold": np.asarray(golds[rows])}
        for name, scores in chunk.items():
            if not np.isfinite(scores).all():
                prompt = rows.start + int(np.flatnonzero(~np.isfinite(scores).all(axis=1))[0])
                raise InputError(f"{name} scores must be finite, got nan or inf at prompt {prompt}")
        order = np.argsort(chunk["proxy"], axis=1)
        ranked_proxy = np.take_along_axis(chunk["proxy"], order, axis=1).astype(np.float64)
        ranked_gold = np.take_along_axis(chunk["gold"], order, axis=1).astype(np.float64)
        proxy_n[rows] = ranked_proxy @ weights
        gold_n[rows] = _average_ties(ranked_proxy, ranked_gold) @ weights
    return proxy_n, gold_n


def best_of_n_sample(proxy: ArrayLike, n: int, rng: np.random.Generator) -> int:
    """argmax of the proxy over one random subset of size n, ties broken at random.

    Args:
        proxy: [samples] proxy scores of one prompt's pool.
        n: size of the subset, from 1 to samples.
        rng: draws the subset.
    Returns:
        Index of the winner in the pool.
    Raises:
        InputError: proxy is not one-dimensional or not finite, or n is not a whole number from 1 to samples.
    """
    scores = np.asarray(proxy)
    require(scores.ndim == 1 and scores.size > 0, f"proxy must be [samples], got shape {scores.shape}")
    require(bool(np.isfinite(scores).all()), "proxy scores must be finite, got nan or inf")
    subset = rng.choice(scores.size, size=_check_n(n, scores.size), replace=False)
    return int(subset[np.argmax(scores[subset])])
