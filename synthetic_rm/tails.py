"""F1: how heavy the upper tail of a score is: its extreme value index xi, from scores or from means of maxima.

xi > 0: P(score > t) falls like t^(-1/xi), heavy, the tail index is 1/xi. xi = 0: light, as of a normal law. xi < 0:
bounded above. Only a light tail keeps gold safe (Kwa et al. 2024). At finite samples a normal score shows small xi.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import log_ndtr

from synthetic_rm.errors import require

Floats = NDArray[np.float64]
STEEPEST = 5.0
"""largest |xi| that `maxima_index` looks for"""


def normal_maxima(ns: ArrayLike) -> Floats:
    """E max of n standard normal draws = int_0^inf (1 - F^n) dz - int_-inf^0 F^n dz: ns [k] -> [k], n 1 or more."""
    z = np.linspace(-12.0, 12.0, 4801)
    cdf = np.exp(np.asarray(ns, np.float64)[:, None] * log_ndtr(z))
    return np.asarray(np.trapezoid(np.heaviside(z, 0.5) - cdf, z, axis=1))


class TailEstimate(NamedTuple):
    """Estimates from the k largest scores, each [...]."""

    hill: Floats
    """xi by Hill (1975): never negative, so it calls no tail light; consistent where xi > 0"""
    hill_se: Floats
    """xi / sqrt(k)"""
    moment: Floats
    """xi of either sign, by the moments of the log-excesses (Dekkers, Einmahl, de Haan 1989)"""


def tail_index(scores: ArrayLike, k: int) -> TailEstimate:
    """Hill: xi = M_1; moment: xi = M_1 + 1 - 1 / (2 (1 - M_1^2 / M_2)).

    M_j is the mean over the k largest scores of (ln score - ln score_(k+1))^j, score_(k+1) the largest below them.
    Both depend on where 0 is: scores are to be centred, as reward models are on their reference.

    Args:
        scores: [..., N] scores of reference responses, such as [seeds, prompts, N] of a best-of-n pool.
        k: number of the largest scores used, 2 to N - 1.
    Returns:
        Estimates [...].
    Raises:
        InputError: k does not fit N, scores are not finite, or the k + 1 largest are not all above 0.
    """
    values = np.asarray(scores, np.float64)
    require(values.ndim >= 1, "scores must be [..., N], got a scalar")
    samples = values.shape[-1]
    require(2 <= k < samples, f"k={k}: allowed is 2 to {samples - 1} for {samples} scores")
    require(bool(np.isfinite(values).all()), "scores must be finite, got nan or inf")
    top = np.sort(np.partition(values, samples - k - 1, axis=-1)[..., samples - k - 1 :], axis=-1)
    require(
        bool((top > 0).all()), f"k={k}: the {k + 1} largest scores must be above 0, centre them or choose a smaller k"
    )
    excess = np.log(top[..., 1:]) - np.log(top[..., :1])
    first, second = excess.mean(axis=-1), (excess**2).mean(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        moment = first + 1.0 - 0.5 / (1.0 - first**2 / second)
    return TailEstimate(first, first / np.sqrt(k), moment)


def pool_tail(scores: ArrayLike) -> dict[str, float]:
    """`tail_index` of a pool, each prompt's scores less their median, from the 2% largest (at least 10).

    Args:
        scores: [prompts, N] of one reward model.
    Returns:
        tail_k; hill and tail_moment, means over prompts; hill_se over prompts. nan where no prompt has so many scores
        above its median that differ.
    """
    values = np.asarray(scores, np.float64)
    samples = values.shape[1]
    k = min(max(10, samples // 50), samples - 1)
    centred = values - np.median(values, axis=1, keepdims=True)
    largest = np.sort(centred, axis=1)[:, -k - 1 :]
    good = (largest[:, 0] > 0) & (largest[:, -1] > largest[:, 0])
    if k < 2 or not good.any():
        return {"tail_k": k, "hill": np.nan, "hill_se": np.nan, "tail_moment": np.nan}
    found = tail_index(largest[good], k)
    spread = found.hill.std(ddof=1) / np.sqrt(good.sum()) if good.sum() > 1 else np.nan
    return {"tail_k": k, "hill": found.hill.mean(), "hill_se": spread, "tail_moment": found.moment.mean()}


def maxima_index(ns: ArrayLike, means: ArrayLike) -> float:
    """xi of (E_3 - E_2)/(E_2 - E_1) = (n_3^xi - n_2^xi)/(n_2^xi - n_1^xi), E_i the mean of the best of n_i draws.

    Means of maxima grow like (n^xi - 1)/xi in the domain of attraction of an extreme value law; this is the idea of
    Pickands (1975) on them, and needs of a best-of-n run no more than its proxy curve.

    Args:
        ns: [3] rising.
        means: [3] expected proxy scores, rising.
    Returns:
        xi; nan where the means do not rise, or rise as no |xi| up to 5 would make them.
    Raises:
        InputError: not three rising n of at least 1.
    """
    sizes, values = np.asarray(ns, np.float64), np.asarray(means, np.float64)
    good = sizes.shape == values.shape == (3,) and bool((np.diff(sizes) > 0).all()) and sizes[0] >= 1
    require(good, f"ns and means must be three rising n and their means, got {sizes} and {values}")
    first, second = np.diff(values)
    if not (first > 0 and second > 0):
        return float("nan")
    near, far = np.log(sizes[1] / sizes[0]), np.log(sizes[2] / sizes[1])

    def excess(xi: float) -> float:
        """ln of the ratio's right-hand side, less that of its left"""
        # n_3^xi - n_2^xi = n_2^xi (e^(xi far) - 1) and n_2^xi - n_1^xi = n_2^xi (1 - e^(-xi near))
        right = far / near if xi == 0 else np.expm1(xi * far) / -np.expm1(-xi * near)
        return float(np.log(right) - np.log(second / first))

    if excess(-STEEPEST) > 0 or excess(STEEPEST) < 0:
        return float("nan")
    return float(brentq(excess, -STEEPEST, STEEPEST))
