"""What alpha and beta are lines over: log10 of the proxy's parameters and of its comparisons, above a threshold."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthetic_rm.analysis.forms import find_form

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Terms:
    """The columns of a law: 1, and of log10 N and log10 D, about their means, those that vary over the settings.

        c(N, D) = c0 + cN (log10 N - mean) + cD (log10 D - mean)  for D > threshold,  0 at or below it,

    for c = alpha and c = beta: proxies of so few comparisons are at chance, and gold stays where it was. The paper has
    such a threshold (section 3.3, about 2,000 for every size), and no law over both.

    Chosen by the error of a setting's whole curve, predicted from the other 24 of results/data_size (best-of-n, five
    sizes times 500 to 90,000 comparisons), root mean square in SDs of the reference, whose noise is 0.08: N alone 0.55,
    N and D 0.27, with a product of both 0.24; N and D above a threshold of 2,000 0.13, with a product 0.15, and lines
    that grow from 0 at the threshold 0.19. The form was chosen by these errors: they flatter it somewhat.
    """

    size_mean: float | None
    """of log10 N; None where there is one size"""
    data_mean: float | None
    """of log10 D; None where there is one number of comparisons"""
    threshold: int = 0
    """comparisons"""

    @classmethod
    def of(cls, sizes: ArrayLike, counts: ArrayLike, threshold: int = 0) -> "Terms":
        """Those of settings with these parameters and comparisons [settings]."""
        return cls(_mean_log(sizes), _mean_log(counts), threshold)

    @property
    def names(self) -> tuple[str, ...]:
        """What each column is per tenfold of, after the first: "parameters", "comparisons"."""
        means = {"parameters": self.size_mean, "comparisons": self.data_mean}
        return tuple(name for name, mean in means.items() if mean is not None)

    def rows(self, sizes: ArrayLike, counts: ArrayLike) -> Floats:
        """[settings, columns] for settings with these parameters and comparisons [settings]."""
        known = ((sizes, self.size_mean), (counts, self.data_mean))
        logs = [np.log10(np.asarray(values, np.float64)) - mean for values, mean in known if mean is not None]
        above = np.asarray(counts, np.float64) > self.threshold
        return np.stack([np.ones(above.shape), *logs], axis=-1) * (above | (self.threshold == 0))[..., None]


def _mean_log(values: ArrayLike) -> float | None:
    distinct = np.asarray(values, np.float64)
    return float(np.log10(distinct).mean()) if np.unique(distinct).size > 1 else None


def best_terms(
    sizes: ArrayLike, counts: ArrayLike, fitted: Floats, curves: Sequence[tuple[Floats, Floats]], form: str
) -> Terms:
    """Of no threshold and every number of comparisons as one, the terms that best predict a setting from the others.

    The choice is no part of a law's intervals.

    Args:
        sizes, counts: [settings] parameters and comparisons.
        fitted: [settings, 2] alpha and beta of each.
        curves: (kl [K], gold [K]) of each.
        form: of alpha and beta.
    Returns:
        Those with the least mean over settings of the mean square of law - gold over the points with kl > 0.
    """
    known = sorted({int(count) for count in np.asarray(counts)})
    tried = [Terms.of(sizes, counts, threshold) for threshold in (0, *known[:-2])]
    errors = [_left_out_error(terms.rows(sizes, counts), fitted, curves, form) for terms in tried]
    return tried[int(np.argmin(errors))]


def _left_out_error(rows: Floats, fitted: Floats, curves: Sequence[tuple[Floats, Floats]], form: str) -> float:
    """inf where some setting is needed to determine the law: its leverage is 1.

    Without setting i least squares misses it by off_i / (1 - leverage_i), off_i that of the fit to all.
    """
    inverse = np.linalg.pinv(rows)
    leverage = np.einsum("st,ts->s", rows, inverse)
    if leverage.max() > 1 - 1e-9:
        return float("inf")
    predicted = fitted - (fitted - rows @ inverse @ fitted) / (1 - leverage)[:, None]
    squares = [
        np.mean(np.square(find_form(form).curve(np.sqrt(kl), alpha, beta) - gold)[kl > 0])
        for (kl, gold), (alpha, beta) in zip(curves, predicted, strict=True)
    ]
    return float(np.mean(squares))
