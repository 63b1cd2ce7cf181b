"""Least-squares fits of gold curves over d = sqrt(KL), their peaks, and their errors on held-out points."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar

from synthetic_rm.analysis.forms import FORMS, Form, find_form
from synthetic_rm.errors import require

Floats = NDArray[np.float64]
EXPONENTS = (0.02, 4.0)
NAN = float("nan")


@dataclass(frozen=True)
class Fit:
    """A fitted form. The peak is at inf where the form rises without end, at 0 where it never rises."""

    form: str
    alpha: float
    beta: float
    """0 in a form that has no beta."""
    alpha_se: float
    """Standard error of least squares for independent residuals (nan without spare points); the points of one
    curve are far from independent: for intervals use `bootstrap_fits`."""
    beta_se: float
    peak_distance: float
    peak_gold: float
    r2: float
    """1 - residual / total sum of squares about the mean; below 0 where the mean itself would fit better."""
    rmse: float
    """Root mean square of the residuals."""
    num_points: int
    gamma: float = NAN
    """The exponent, in a form that has one."""

    def predict(self, kl: ArrayLike) -> Floats:
        """Gold that the form gives at `kl` nats (any shape)."""
        return find_form(self.form).curve(np.sqrt(kl), self.alpha, self.beta, self.gamma)


def _points(kl: ArrayLike, gold: ArrayLike, weights: ArrayLike | None) -> tuple[Floats, Floats, Floats]:
    """Distances, gold and weights [points] as float64, checked."""
    nats, scores = np.asarray(kl, np.float64), np.asarray(gold, np.float64)
    share = np.ones_like(nats) if weights is None else np.asarray(weights, np.float64)
    require(
        nats.ndim == 1 and nats.shape == scores.shape == share.shape,
        f"kl, gold and weights must be arrays of one length, got {nats.shape}, {scores.shape}, {share.shape}",
    )
    require(bool(np.isfinite(scores).all()), "gold must be finite, got nan or inf")
    require(bool((np.isfinite(nats) & (nats >= 0)).all()), "kl must be finite and non-negative")
    require(bool((np.isfinite(share) & (share >= 0)).all()), "weights must be finite and non-negative")
    return np.sqrt(nats), scores, share


def _solve(design: Floats, gold: Floats, weights: Floats) -> tuple[Floats, Floats, float]:
    """argmin_c sum_i w_i (gold_i - (design c)_i)^2, the standard errors of c, and the sum at the minimum."""
    root = np.sqrt(weights)
    coefficients, _, rank, _ = np.linalg.lstsq(design * root[:, None], gold * root, rcond=None)
    require(
        int(rank) == design.shape[1],
        f"the fit needs points at {design.shape[1]} or more distinct distances above 0, got too few",
    )
    residual = float(np.sum(weights * np.square(gold - design @ coefficients)))
    spare = int(np.count_nonzero(weights)) - design.shape[1]
    variance = residual / spare if spare > 0 else NAN
    inverse = np.linalg.pinv(design * root[:, None])
    errors = np.sqrt(variance * np.square(inverse).sum(axis=1))
    return np.asarray(coefficients, np.float64), np.asarray(errors, np.float64), residual


def _exponent(shape: Form, distance: Floats, gold: Floats, weights: Floats) -> float:
    """The exponent within EXPONENTS whose least-squares fit is closest: a grid, then a bounded search."""

    def misfit(log_gamma: float) -> float:
        return _solve(shape.design(distance, float(np.exp(log_gamma))), gold, weights)[2]

    grid = np.log(np.geomspace(*EXPONENTS, 30))
    best = int(np.argmin([misfit(point) for point in grid]))
    around = (grid[max(best - 1, 0)], grid[min(best + 1, grid.size - 1)])
    return float(np.exp(minimize_scalar(misfit, bounds=around, method="bounded").x))


def _quality(gold: Floats, weights: Floats, residual: float) -> tuple[float, float]:
    """(r2, rmse) of a weighted residual sum of squares."""
    centre = np.average(gold, weights=weights)
    total = float(np.sum(weights * np.square(gold - centre)))
    return (1.0 - residual / total if total > 0 else NAN), float(np.sqrt(residual / weights.sum()))


def fit_curve(kl: ArrayLike, gold: ArrayLike, form: str, weights: ArrayLike | None = None) -> Fit:
    """argmin of sum_i w_i (gold_i - R(sqrt(kl_i)))^2 over (alpha, beta); "bon": R(d) = d (alpha - beta d).

    Linear least squares: no starting values. A form with an exponent is fitted so for each exponent of a
    one-dimensional search. Points at kl = 0, where every form is 0, count as points but move nothing. (Gao et
    al. 2023, section 3.1; their own procedure is not described.)

    Args:
        kl: [points] nats.
        gold: [points] gold scores, centred so that the reference scores 0.
        form: a name in `FORMS`: "bon", "rl", ...
        weights: [points] relative weights, e.g. inverse variances; equal if None.
    Returns:
        The fit.
    Raises:
        InputError: unknown form, lengths differ, a value is not finite, kl or a weight is negative, or the
            points do not determine the coefficients.
    """
    shape = find_form(form)
    distance, scores, share = _points(kl, gold, weights)
    gamma = _exponent(shape, distance, scores, share) if shape.free_exponent else NAN
    coefficients, errors, residual = _solve(shape.design(distance, gamma), scores, share)
    alpha, beta = (*map(float, coefficients), 0.0)[:2]
    alpha_se, beta_se = (*map(float, errors), 0.0)[:2]
    peak, top = shape.peak(alpha, beta, gamma)
    r2, rmse = _quality(scores, share, residual)
    return Fit(form, alpha, beta, alpha_se, beta_se, float(peak), float(top), r2, rmse, int(scores.size), gamma)


@dataclass(frozen=True)
class SharedFit:
    """Curves of several groups fitted together, with one coefficient common to all."""

    form: str
    shared: str
    """"alpha" or "beta": the common coefficient."""
    value: float
    value_se: float
    fits: dict[Any, Fit]
    """The fit of each group, its r2 and rmse over the group's own points."""
    r2: float
    rmse: float
    num_points: int


def fit_shared(curves: Mapping[Any, tuple[ArrayLike, ArrayLike]], form: str, shared: str = "alpha") -> SharedFit:
    """argmin of sum_g sum_i (gold_gi - R(sqrt(kl_gi); alpha, beta_g))^2: one alpha (or beta) for all groups.

    The paper fits its RL curves so, with one alpha for all proxy sizes (section 3.2).

    Args:
        curves: (kl [points], gold [points]) of each group, e.g. by proxy size; lengths may differ.
        form: name of a form with alpha and beta and no free exponent.
        shared: "alpha" or "beta".
    Returns:
        The joint fit.
    Raises:
        InputError: no group, a form or coefficient that cannot be shared, or as `fit_curve`.
    """
    shape = find_form(form)
    require(shared in ("alpha", "beta"), f"shared must be alpha or beta, got {shared!r}")
    require(len(curves) > 0, "fit_shared needs at least one group, got none")
    linear = shape.coefficients == 2 and not shape.free_exponent
    require(linear, f"form {form!r} has no {shared} to share: it needs alpha and beta, and no free exponent")
    common = 0 if shared == "alpha" else 1
    points = {group: _points(kl, gold, None) for group, (kl, gold) in curves.items()}
    sizes = [scores.size for _, scores, _ in points.values()]
    designs = [shape.design(distance) for distance, _, _ in points.values()]
    gold = np.concatenate([scores for _, scores, _ in points.values()])
    design = np.zeros((gold.size, 1 + len(points)))
    design[:, 0] = np.concatenate([columns[:, common] for columns in designs])
    design[np.arange(gold.size), 1 + np.repeat(np.arange(len(points)), sizes)] = np.concatenate(
        [columns[:, 1 - common] for columns in designs]
    )
    coefficients, errors, residual = _solve(design, gold, np.ones_like(gold))
    fits = {}
    for index, (group, (distance, scores, share)) in enumerate(points.items(), start=1):
        order = [0, index] if shared == "alpha" else [index, 0]
        alpha, beta = (float(value) for value in coefficients[order])
        alpha_se, beta_se = (float(value) for value in errors[order])
        peak, top = shape.peak(alpha, beta)
        misfit = float(np.square(scores - shape.curve(distance, alpha, beta)).sum())
        r2, rmse = _quality(scores, share, misfit)
        fits[group] = Fit(form, alpha, beta, alpha_se, beta_se, float(peak), float(top), r2, rmse, scores.size)
    r2, rmse = _quality(gold, np.ones_like(gold), residual)
    return SharedFit(form, shared, float(coefficients[0]), float(errors[0]), fits, r2, rmse, gold.size)


def _seen(kl: ArrayLike, cut: float, needed: int) -> NDArray[np.bool_] | None:
    """[points] which lie at or below the cut; None where none lies beyond, or too few with kl > 0 below."""
    nats = np.asarray(kl, np.float64)
    seen = nats <= cut
    enough = not seen.all() and np.unique(nats[seen & (nats > 0)]).size >= needed
    return np.asarray(seen) if enough else None


def held_out_error(kl: ArrayLike, gold: ArrayLike, form: str, cut: float = 6.0) -> float:
    """sqrt(mean (gold_i - R(sqrt(kl_i)))^2) over kl_i > cut, of the form fitted on kl_i <= cut alone.

    The test of the paper's Fig. 26: best-of-n cut at 6 nats (n = 1,000).

    Args:
        kl: [points] nats.
        gold: [points] gold scores.
        form: a name in `FORMS`.
        cut: nats.
    Returns:
        The error, in the units of gold; nan where no point lies beyond the cut, or fewer than 3 points with
        kl > 0 (4 for a form with an exponent) below it.
    Raises:
        InputError: as `fit_curve`.
    """
    _points(kl, gold, None)
    nats, scores = np.asarray(kl, np.float64), np.asarray(gold, np.float64)
    seen = _seen(nats, cut, 4 if find_form(form).free_exponent else 3)
    if seen is None:
        return NAN
    fit = fit_curve(nats[seen], scores[seen], form)
    return float(np.sqrt(np.mean(np.square(scores[~seen] - fit.predict(nats[~seen])))))


def shared_held_out_errors(
    curves: Mapping[Any, tuple[ArrayLike, ArrayLike]], form: str, cut: float
) -> dict[Any, float]:
    """`held_out_error` of each group, of the form fitted with a common alpha (`fit_shared`) on kl <= cut alone.

    Args:
        curves: (kl [points], gold [points]) of each group; one with too few points counts for nothing and has nan.
    """
    points = {group: (np.asarray(kl, np.float64), np.asarray(gold, np.float64)) for group, (kl, gold) in curves.items()}
    seen = {group: _seen(kl, cut, 3) for group, (kl, _) in points.items()}
    below = {
        group: (kl[seen[group]], gold[seen[group]]) for group, (kl, gold) in points.items() if seen[group] is not None
    }
    errors: dict[Any, float] = dict.fromkeys(points, NAN)
    if below:
        for group, fit in fit_shared(below, form).fits.items():
            kl, gold = points[group]
            beyond = kl > cut
            errors[group] = float(np.sqrt(np.mean(np.square(gold[beyond] - fit.predict(kl[beyond])))))
    return errors


def compare_forms(kl: ArrayLike, gold: ArrayLike, forms: Sequence[str] | None = None, cut: float = 6.0) -> pd.DataFrame:
    """Every form fitted to the same curve and scored on the same held-out points, the best prediction first.

    Args:
        kl: [points] nats.
        gold: [points] gold scores.
        forms: names in `FORMS`; all of them if None.
        cut: nats, as in `held_out_error`.
    Returns:
        Columns form, alpha, beta, gamma, r2, rmse (fitted on all points) and held_out_rmse.
    Raises:
        InputError: as `fit_curve`.
    """
    rows = []
    for form in FORMS if forms is None else forms:
        fit = fit_curve(kl, gold, form)
        held_out = held_out_error(kl, gold, form, cut)
        rows.append(
            {
                **{name: getattr(fit, name) for name in ("form", "alpha", "beta", "gamma", "r2", "rmse")},
                "held_out_rmse": held_out,
            }
        )
    return pd.DataFrame(rows).sort_values("held_out_rmse", kind="stable", ignore_index=True)
