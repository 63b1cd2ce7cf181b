"""How far raters of a pair of snippets agree: exact probabilities for each pair, and their pooled ratio.

Every function takes the histograms of the two snippets of each pair, `a` and `b` [pairs, 9] raters per
rating, raters of a snippet being exchangeable, and returns (agree, counted) [pairs]: the probability that two
judgements of the pair are both decisive and agree, and that both are decisive. Agreement over pairs is
sum(agree) / sum(counted).
"""

from typing import NamedTuple

import numpy as np

Counts = tuple[np.ndarray, np.ndarray]


class Agreement(NamedTuple):
    """A share of decisive judgements: its value, standard error over snippets, and pairs of snippets used."""

    value: float
    se: float
    num_pairs: int


def pooled_agreement(counts: Counts, pairs: np.ndarray) -> Agreement:
    """sum(agree) / sum(counted), with a standard error that knows that pairs share snippets.

    With residuals e = agree - value * counted, the variance is the sum of e_p e_q over all pairs p, q that
    share a snippet (p = q included), over sum(counted)^2: the dyadic-robust variance of Fafchamps and Gubert
    (2007). Where that falls below the variance of independent pairs, as it can by chance, the latter is
    taken.

    Args:
        counts: (agree, counted), [pairs] each.
        pairs: [pairs, 2] positions of the snippets of each pair.
    """
    agree, counted = counts
    total = float(counted.sum())
    if total == 0:
        return Agreement(float("nan"), float("nan"), len(pairs))
    value = float(agree.sum()) / total
    residual = agree - value * counted
    of_snippet = np.bincount(pairs.ravel(), weights=np.repeat(residual, 2))
    independent = float(residual @ residual)
    variance = max(float(of_snippet @ of_snippet) - independent, independent)
    return Agreement(value, variance**0.5 / total, len(pairs))


def rater_against_rater(a: np.ndarray, b: np.ndarray) -> Counts:
    """A comparison by a single rater of each against another such comparison, with no rater in both."""
    order = _order()
    raters_a, raters_b = _distinct_raters(a), _distinct_raters(b)
    above, below, unequal = (order > 0) * 1.0, (order < 0) * 1.0, (order != 0) * 1.0
    agree = sum((raters_a * (side @ raters_b @ side.T)).sum(axis=(1, 2)) for side in (above, below))
    return np.asarray(agree), (raters_a * (unequal @ raters_b @ unequal)).sum(axis=(1, 2))


def rater_against_rest(a: np.ndarray, b: np.ndarray) -> Counts:
    """A comparison by a single rater of each against the majority of all pairs of the other raters."""
    order = _order()
    margin = margins(a, b)[:, None, None] - (b @ order.T)[:, :, None] - (a @ order)[:, None, :] + order
    return _against(a, b, np.sign(margin))


def rater_against_all(a: np.ndarray, b: np.ndarray) -> Counts:
    """A comparison by a single rater of each against the majority of all pairs of raters, these included."""
    return _against(a, b, np.sign(margins(a, b))[:, None, None])


def half_against_half(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> tuple[Counts, Counts]:
    """Raters of each snippet split at random in halves, and the halves' judgements compared.

    Returns:
        (agree, counted) where a half judges by the majority of its pairs of raters, and by its mean rating.
    """
    (a_1, a_2), (b_1, b_2) = split_raters(a, rng), split_raters(b, rng)
    by_majority = np.sign(margins(a_1, b_1)) * np.sign(margins(a_2, b_2))
    by_mean = np.sign(_mean_margins(a_1, b_1)) * np.sign(_mean_margins(a_2, b_2))
    return ((by_majority > 0) * 1.0, (by_majority != 0) * 1.0), ((by_mean > 0) * 1.0, (by_mean != 0) * 1.0)


def margins(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[pairs], pairs of raters that prefer a less those that prefer b."""
    return np.einsum("px,xu,pu->p", a, _order(), b)


def split_raters(hist: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Split the raters of each snippet at random, without replacement; the second half has the odd one.

    Args:
        hist: [snippets, ratings] raters per rating, integers.
    """
    first = np.zeros_like(hist)
    open_places, left = hist.sum(axis=1) // 2, hist.sum(axis=1)
    for rating in range(hist.shape[1]):
        left = left - hist[:, rating]
        first[:, rating] = rng.hypergeometric(hist[:, rating], left, open_places)
        open_places = open_places - first[:, rating]
    return first, hist - first


def _order() -> np.ndarray:
    """[9, 9], 1 where the row's rating is above the column's, -1 below, 0 equal."""
    return np.sign(np.subtract.outer(np.arange(9.0), np.arange(9.0)))


def _distinct_raters(hist: np.ndarray) -> np.ndarray:
    """[pairs, 9, 9], probability of the ratings of two distinct raters; 0 where there is one rater."""
    raters = hist.sum(axis=1)[:, None, None]
    joint = hist[:, :, None] * hist[:, None, :] - hist[:, :, None] * np.eye(hist.shape[1])
    return joint / np.maximum(raters * (raters - 1), 1)


def _against(a: np.ndarray, b: np.ndarray, majority: np.ndarray) -> Counts:
    """Comparisons by every pair of a rater of each against `majority` [pairs, 9 or 1, 9 or 1] in -1, 0, 1."""
    chosen = (a / np.maximum(a.sum(axis=1, keepdims=True), 1))[:, :, None]
    chosen = chosen * (b / np.maximum(b.sum(axis=1, keepdims=True), 1))[:, None, :]
    judged = _order() * majority
    return (chosen * (judged > 0)).sum(axis=(1, 2)), (chosen * (judged != 0)).sum(axis=(1, 2))


def _mean_margins(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[pairs], positive where the mean rating of a is above that of b; integers, so that ties are exact."""
    value = np.arange(a.shape[1])
    return (a @ value) * b.sum(axis=1) - (b @ value) * a.sum(axis=1)
