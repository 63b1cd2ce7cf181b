"""Divergences of best-of-n from the reference policy: closed forms, and exact values on a finite support."""

from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthetic_rm.errors import InputError, require

Floats = NDArray[np.float64]
Many = NDArray[np.generic] | Sequence[float]


def _checked_n(n: ArrayLike) -> Floats:
    """`n` as float64, every entry finite and at least 1."""
    values = np.asarray(n)
    require(values.dtype.kind in "iuf", f"n must be a number, got {n!r}")
    values = values.astype(np.float64)
    for bad in values[~(np.isfinite(values) & (values >= 1))]:
        raise InputError(f"n must be finite and at least 1, got {bad:g}")
    return values


@overload
def best_of_n_kl(n: float) -> float: ...
@overload
def best_of_n_kl(n: Many) -> Floats: ...
def best_of_n_kl(n: float | Many) -> float | Floats:
    """KL(best-of-n || reference) = ln n - (n - 1)/n, in nats.

    Exact when no two responses share a proxy score (a continuous score); an upper bound on any finite support
    (Beirami et al. 2024). Computed as ln(1 + m) - m/(1 + m), m = n - 1.

    Args:
        n: number of draws, a scalar or an array of any shape.
    Returns:
        Nats: a float for a scalar, else an array of the same shape.
    Raises:
        InputError: n is below 1 or not finite.
    """
    more = _checked_n(n) - 1.0
    kl = np.log1p(more) - more / (1.0 + more)
    return float(kl) if kl.ndim == 0 else kl


@overload
def chi_squared_best_of_n(n: float) -> float: ...
@overload
def chi_squared_best_of_n(n: Many) -> Floats: ...
def chi_squared_best_of_n(n: float | Many) -> float | Floats:
    """chi^2(best-of-n || reference) = (n - 1)^2 / (2n - 1), for a continuous proxy score.

    Follows from the density n u^(n-1) of the winner's quantile u: n^2/(2n - 1) - 1.

    Args:
        n: number of draws, a scalar or an array of any shape.
    Returns:
        A float for a scalar, else an array of the same shape.
    Raises:
        InputError: n is below 1 or not finite.
    """
    values = _checked_n(n)
    chi_squared = (values - 1.0) ** 2 / (2.0 * values - 1.0)
    return float(chi_squared) if chi_squared.ndim == 0 else chi_squared


def _distribution(probabilities: ArrayLike) -> Floats:
    """`probabilities` as float64 [support], checked and renormalised."""
    masses = np.asarray(probabilities, np.float64)
    require(masses.ndim == 1 and masses.size > 0, f"probabilities must be [support], got shape {masses.shape}")
    require(bool((masses >= 0).all()), "probabilities must be non-negative numbers, got a negative one or nan")
    total = float(masses.sum())
    require(abs(total - 1.0) <= 1e-6, f"probabilities must sum to 1, got {total:.9g}")
    return masses / total


def _levels(probabilities: ArrayLike, scores: ArrayLike) -> tuple[Floats, NDArray[np.intp], Floats]:
    """Masses [support], level of each response [support] (0 = lowest score), mass of each level [levels].

    Responses of no mass make no level; theirs is given as 0.
    """
    masses, values = _distribution(probabilities), np.asarray(scores, np.float64)
    require(
        masses.shape == values.shape,
        f"probabilities and scores must have one length, got shapes {masses.shape} and {values.shape}",
    )
    require(bool(np.isfinite(values).all()), "scores must be finite, got nan or inf")
    kept = masses > 0
    level = np.zeros(masses.shape, dtype=np.intp)
    level[kept] = np.unique(values[kept], return_inverse=True)[1]
    return masses, level, np.asarray(np.bincount(level, weights=masses), np.float64)


def _log_gain(level_masses: Floats, ns: Floats) -> Floats:
    """ln((F^n - F_^n) / q) of each score level, [k, levels], for level masses q [levels] by rising score.

    ln(F^n - F_^n) = n ln F + ln(-expm1(n log1p(-q/F))). F is summed from whichever end is nearer, so that ln
    F keeps its digits beside 1.
    """
    below = np.cumsum(level_masses)
    above = np.concatenate([np.cumsum(level_masses[:0:-1])[::-1], [0.0]])
    log_cdf = np.where(below >= 0.5, np.log1p(-np.minimum(above, 0.75)), np.log(below))
    share = np.minimum(level_masses / np.exp(log_cdf), 1.0)
    share[0] = 1.0
    with np.errstate(divide="ignore"):
        log_rest = np.log1p(-share)
    return ns[:, None] * log_cdf + np.log(-np.expm1(ns[:, None] * log_rest)) - np.log(level_masses)


def best_of_n_distribution(probabilities: ArrayLike, scores: ArrayLike, n: int) -> Floats:
    """pi_n(y) = p(y) (F(y)^n - F_(y)^n) / q(y), the exact law of the best of n independent draws.

    F and F_ are the cumulative masses of the scores <= and < the score of y, and q = F - F_ is the mass of
    its level: tied responses share a level's mass in proportion to p, as when ties are broken at random
    (Beirami et al. 2024).

    Args:
        probabilities: [support] of the reference, summing to 1.
        scores: [support] proxy scores.
        n: number of draws.
    Returns:
        [support] probabilities, summing to 1.
    Raises:
        InputError: shapes differ, probabilities are no distribution, scores are not finite, or n < 1.
    """
    masses, level, level_masses = _levels(probabilities, scores)
    gain = np.exp(_log_gain(level_masses, np.atleast_1d(_checked_n(n)))[0])
    return np.asarray(masses * gain[level])


def best_of_n_kl_finite(probabilities: ArrayLike, scores: ArrayLike, ns: ArrayLike) -> Floats:
    """KL(pi_n || p) = sum over score levels of P_n ln(P_n / q), P_n = F^n - F_^n: exact, in nats.

    Never above `best_of_n_kl` and never above -ln(mass of the best level) (Beirami et al. 2024). Summed as
    q (r ln r - (r - 1)), r = P_n/q, whose terms cannot be negative: small divergences keep their digits.

    Args:
        probabilities: [support] of the reference, summing to 1.
        scores: [support] proxy scores; equal scores form one level.
        ns: [k] numbers of draws.
    Returns:
        [k] nats.
    Raises:
        InputError: shapes differ, probabilities are no distribution, scores are not finite, or an n < 1.
    """
    _, _, level_masses = _levels(probabilities, scores)
    counts = _checked_n(ns)
    require(counts.ndim == 1, f"ns must be one-dimensional, got shape {counts.shape}")
    kl = np.empty(counts.size)
    step = max(1, 2**20 // level_masses.size)
    for start in range(0, counts.size, step):
        log_gain = _log_gain(level_masses, counts[start : start + step])
        kl[start : start + step] = (np.exp(log_gain) * log_gain - np.expm1(log_gain)) @ level_masses
    return kl


def best_of_n_kl_gap_bound(n: ArrayLike, probabilities: ArrayLike) -> float | Floats:
    """0 <= (ln n - (n - 1)/n) - KL(pi_n || p) <= 2 n (n - 1) sum_y p(y)^2 (Beirami et al. 2024).

    The sum is exp(-H_2), H_2 the Renyi entropy of order 2. The bound supposes distinct scores: where
    responses tie, pass the masses of the score levels. Useful while n is far below 1/sqrt(sum p^2); beyond it
    says nothing.

    Args:
        n: number of draws, a scalar or an array of any shape.
        probabilities: [support] of the reference, summing to 1.
    Returns:
        The bound in nats: a float for a scalar n, else an array of its shape.
    Raises:
        InputError: n < 1, or probabilities are no distribution.
    """
    masses, values = _distribution(probabilities), _checked_n(n)
    bound = 2.0 * values * (values - 1.0) * float(np.sum(masses**2))
    return float(bound) if bound.ndim == 0 else bound


def pool_kl(scores: ArrayLike, identity: ArrayLike, ns: ArrayLike, *, tolerance: float = 0.05) -> Floats:
    """`best_of_n_kl_finite` over each prompt's pool: its distinct responses, weighted by their counts.

    This is the divergence of best-of-n drawn with replacement from the pool itself: below the closed form
    both because responses repeat and because a pool of N draws cannot tell n near N from the reference's own
    tail (N distinct responses give at most ln N). The latter part alone is what `identity` = 0, 1, ..., N - 1
    gives.

    Args:
        scores: [prompts, samples] proxy scores.
        identity: [prompts, samples] integers, equal within a prompt where two samples are the same response.
        ns: [k] numbers of draws.
        tolerance: largest difference between two scores of one response, in standard deviations of the
            prompt's scores.
    Returns:
        [prompts, k] nats.
    Raises:
        InputError: shapes differ, scores are not finite, identity is not of integers, one response has two
            scores, n < 1.
    """
    values, ids = np.asarray(scores), np.asarray(identity)
    require(
        values.ndim == 2 and values.shape == ids.shape and values.size > 0,
        f"scores and identity must be [prompts, samples] of one shape, got {values.shape} and {ids.shape}",
    )
    require(ids.dtype.kind in "iu", f"identity must hold integers, got {ids.dtype}")
    require(bool(np.isfinite(values).all()), "scores must be finite, got nan or inf")
    kl = np.empty((len(values), np.size(ns)))
    for prompt, (row, row_ids) in enumerate(zip(values.astype(np.float64), ids, strict=True)):
        _, first, member, counts = np.unique(row_ids, return_index=True, return_inverse=True, return_counts=True)
        spread = float(np.abs(row - row[first][member]).max())
        require(
            spread <= tolerance * float(row.std()),
            f"identity does not match scores: one response of prompt {prompt} scores {spread:.3g} apart",
        )
        kl[prompt] = best_of_n_kl_finite(counts / counts.sum(), row[first], ns)
    return kl
