"""Scaling laws: the coefficients of the gold curve as straight lines over log10 of the proxy's parameters.

The paper (section 3.2) finds alpha and beta of best-of-n, and beta of RL with one alpha for all sizes, to be about so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from synthetic_rm.analysis.bootstrap import interval, summed_bootstrap
from synthetic_rm.analysis.curves import SettingCurves
from synthetic_rm.analysis.forms import find_form
from synthetic_rm.errors import require

Floats = NDArray[np.float64]
LEAST_SIZES = 3
"""with fewer, nothing tells how far sizes lie off a line"""


@dataclass(frozen=True)
class Estimate:
    """A number with its interval."""

    value: float
    lo: float
    hi: float


@dataclass(frozen=True)
class Prediction:
    """What a law says of proxies of one size."""

    size: float
    alpha: Estimate
    beta: Estimate
    peak_kl: Estimate
    """nats; inf where gold rises without end"""
    peak_gold: Estimate
    draws: Floats = field(repr=False, compare=False)
    """[R, 2] of (alpha, beta)"""


@dataclass(frozen=True)
class ScalingLaw:
    """c(N) = intercept + slope (log10 N - centre) for c = alpha and c = beta.

    Draws are of the law's own coefficients, over the seeds of every size and the prompts they have in common
    (`summed_bootstrap`). `scatter` is how far the fitted sizes lie off the lines: it belongs to what is said of a size
    that was not measured, and counts the noise of the sizes once more, so that such intervals are rather too wide.
    """

    form: str
    sizes: tuple[int, ...]
    fitted: Floats
    """[sizes, 2] alpha and beta of every size, from its own curve"""
    centre: float
    """mean of log10 of the sizes"""
    line: Floats
    """[2, 2]: intercept and slope, of alpha and beta"""
    draws: Floats = field(repr=False)
    """[R, 2, 2] of `line`"""
    scatter: Floats = field(repr=False)
    """[R, 2] draws of a size's distance from the lines"""
    level: float
    largest_kl: float
    """nats up to which every size was measured"""

    def slope(self, coefficient: str) -> Estimate:
        """Change of "alpha" or "beta" per tenfold of parameters."""
        place = ("alpha", "beta").index(coefficient)
        return estimate(self.line[1, place], self.draws[:, 1, place], self.level)

    def at(self, size: float, *, new: bool = True) -> Prediction:
        """alpha, beta and the peak that the law gives for proxies of `size` parameters.

        Args:
            size: parameters, above 0; nothing is refused outside the sizes fitted (`planner.plan` does that).
            new: of a size to be trained, so that `scatter` widens the intervals; False for the line itself.
        """
        require(size > 0, f"size must be above 0, got {size}")
        basis = np.array([1.0, np.log10(size) - self.centre])
        value, draws = basis @ self.line, basis @ self.draws
        draws = draws + self.scatter if new else draws
        shape = find_form(self.form)
        with np.errstate(over="ignore"):
            peak, top = shape.peak(value[0], value[1])
            peaks, tops = shape.peak(draws[:, 0], draws[:, 1])
            kl, kls = float(np.square(peak)), np.square(peaks)
        return Prediction(
            float(size),
            estimate(value[0], draws[:, 0], self.level),
            estimate(value[1], draws[:, 1], self.level),
            estimate(kl, kls, self.level),
            estimate(float(top), tops, self.level),
            draws,
        )

    def curve(self, size: float, kl: ArrayLike) -> pd.DataFrame:
        """Gold of a size over `kl` [K] nats with intervals pointwise: columns kl, gold, gold_lo, gold_hi."""
        told, shape = self.at(size), find_form(self.form)
        distance = np.sqrt(np.asarray(kl, np.float64))
        lo, hi = interval(shape.curve(distance, told.draws[:, :1], told.draws[:, 1:]), self.level)
        gold = shape.curve(distance, told.alpha.value, told.beta.value)
        return pd.DataFrame({"kl": np.square(distance), "gold": gold, "gold_lo": lo, "gold_hi": hi})


def estimate(value: float, draws: Floats, level: float) -> Estimate:
    """A value with the central interval of its draws [R]."""
    lo, hi = interval(draws, level)
    return Estimate(float(value), float(lo), float(hi))


def proxy_size(entry: SettingCurves) -> int:
    """Parameters of the proxies of a setting."""
    return int(str(entry.setting["proxy_params"]))


def joint_design(
    entries: Sequence[SettingCurves], form: str, shared: bool | None = None
) -> tuple[Floats, NDArray[np.intp]]:
    """The least-squares problem of all sizes at once: gold of all curves, end to end, against all coefficients.

    Args:
        entries: one setting per size.
        form: name of a form with alpha and beta and no free exponent.
        shared: one alpha for all sizes; as the paper has it if None: for "rl" and for no other form.
    Returns:
        design [points of all sizes, coefficients]; columns [sizes, 2], where alpha and beta of every size are.
    Raises:
        InputError: the form has other coefficients.
    """
    shape, count = find_form(form), len(entries)
    require(shape.coefficients == 2 and not shape.free_exponent, f"form {form!r} has no line in alpha and beta")
    one = form == "rl" if shared is None else shared
    places = np.arange(count)
    columns = np.stack([0 * places, 1 + places] if one else [2 * places, 2 * places + 1], axis=1)
    designs = [shape.design(np.sqrt(entry.kl)) for entry in entries]
    ends = np.cumsum([len(design) for design in designs])
    stacked = np.zeros((ends[-1], columns.max() + 1))
    for design, own, end in zip(designs, columns, ends, strict=True):
        stacked[end - len(design) : end, own] = design
    return stacked, columns


def coefficient_blocks(entries: Sequence[SettingCurves], form: str, shared: bool | None = None) -> list[Floats]:
    """Each size's part [seeds, prompts, sizes, 2] in the (alpha, beta) of every size; the means of the parts add up.

    Least squares is linear in gold. Where alpha is one for all sizes every curve has a part in it, and so in every
    size's beta; elsewhere a curve counts for its own size alone.

    Args:
        entries, form, shared: as `joint_design`.
    Raises:
        InputError: as `joint_design`, or the curves do not determine the coefficients.
    """
    stacked, columns = joint_design(entries, form, shared)
    width = stacked.shape[1]
    require(np.linalg.matrix_rank(stacked) == width, f"form {form!r}: the curves do not determine its coefficients")
    ends = np.cumsum([entry.kl.size for entry in entries])
    parts = np.split(np.linalg.pinv(stacked), ends[:-1], axis=1)
    return [np.einsum("gck,skp->spgc", part[columns], entry.gold) for part, entry in zip(parts, entries, strict=True)]


def fit_scaling_law(
    entries: Sequence[SettingCurves],
    form: str,
    *,
    num_resamples: int = 2000,
    rng: np.random.Generator,
    level: float = 0.95,
) -> ScalingLaw:
    """Straight lines through alpha and through beta of every size, least squares over log10 parameters.

    Args:
        entries: one setting per size, as `setting_curves` gives them, measured on the same prompts.
        form: "bon", "rl" (one alpha for all sizes), "log1p" or "quadratic".
        num_resamples: number of draws.
        rng: makes them.
        level: of the intervals.
    Raises:
        InputError: fewer than `LEAST_SIZES` sizes, several settings of one size, other prompts, or as `bootstrap_fits`.
    """
    entries = sorted(entries, key=proxy_size)
    sizes = tuple(proxy_size(entry) for entry in entries)
    require(len(sizes) >= LEAST_SIZES, f"a scaling law needs {LEAST_SIZES} or more proxy sizes, got {len(sizes)}")
    require(len(set(sizes)) == len(sizes), "a scaling law needs one setting per proxy size, got several")
    prompts = {entry.gold.shape[2] for entry in entries}
    require(len(prompts) == 1, f"sizes of one law must be measured on the same prompts, got {sorted(prompts)} of them")
    logs = np.log10(sizes)
    centre = float(logs.mean())
    basis = np.stack([np.ones_like(logs), logs - centre], axis=1)
    solve = np.linalg.pinv(basis)
    blocks = coefficient_blocks(entries, form)
    fitted = np.asarray(sum(block.mean(axis=(0, 1)) for block in blocks))
    lines = [np.einsum("ig,spgc->spic", solve, block) for block in blocks]
    line, draws = summed_bootstrap(lines, num_resamples=num_resamples, rng=rng)
    off = fitted - basis @ line
    freedom = len(sizes) - 2
    weights = rng.normal(size=(num_resamples, len(sizes))) / np.sqrt(rng.chisquare(freedom, size=(num_resamples, 1)))
    largest = min(float(entry.kl.max()) for entry in entries)
    return ScalingLaw(form, sizes, fitted, centre, line, draws, weights @ off, level, largest)


def leave_one_size_out(
    entries: Sequence[SettingCurves],
    form: str,
    *,
    num_resamples: int = 2000,
    rng: np.random.Generator,
    level: float = 0.95,
) -> pd.DataFrame:
    """The whole gold curve of every size, predicted by a law that has not seen it, beside what was measured.

    Args:
        entries, form, num_resamples, rng, level: as `fit_scaling_law`, with one size more than it needs.
    Returns:
        One row per size and point: proxy_params, outside (the size is the smallest or largest, so that the law is
        extended), kl, measured, gold, gold_lo, gold_hi, and what knows no law: nearest (the curve of the size that is
        nearest in log parameters) and others (the mean curve of all others), nan beyond their own KL.
    Raises:
        InputError: as `fit_scaling_law`.
    """
    entries = sorted(entries, key=proxy_size)
    need = LEAST_SIZES + 1
    require(len(entries) >= need, f"to leave one size out needs {need} or more proxy sizes, got {len(entries)}")
    tables = []
    for place, left in enumerate(entries):
        rest = [entry for entry in entries if entry is not left]
        law = fit_scaling_law(rest, form, num_resamples=num_resamples, rng=rng, level=level)
        size = proxy_size(left)
        near = min(rest, key=lambda entry: abs(np.log(proxy_size(entry) / size)))
        table = law.curve(size, left.kl)
        table.insert(0, "proxy_params", size)
        table.insert(1, "outside", place in (0, len(entries) - 1))
        table["measured"] = left.gold.mean(axis=(0, 2))
        table["nearest"] = _at(near, left.kl)
        table["others"] = np.mean([_at(entry, left.kl) for entry in rest], axis=0)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _at(entry: SettingCurves, kl: Floats) -> Floats:
    """Mean gold [K] of a setting at other distances, linear in d between its points; nan beyond them."""
    mean = entry.gold.mean(axis=(0, 2))
    return np.asarray(np.interp(np.sqrt(kl), np.sqrt(entry.kl), mean, right=np.nan))


def prediction_errors(predicted: pd.DataFrame) -> pd.DataFrame:
    """How far `leave_one_size_out` was off: one row per size.

    Returns:
        proxy_params, outside, rmse (law against measured), rmse_nearest, rmse_others (what knows no law), covered (the
        share of points within the law's intervals), highest (largest measured gold, the scale of the errors).
    """
    rows = []
    for size, table in predicted.groupby("proxy_params", sort=True):
        known = table[(table["kl"] > 0) & table[["nearest", "others"]].notna().all(axis=1)]
        errors = {name: float(np.sqrt(np.mean(np.square(known[column] - known["measured"])))) for name, column in
                  (("rmse", "gold"), ("rmse_nearest", "nearest"), ("rmse_others", "others"))}  # fmt: skip
        within = (known["measured"] >= known["gold_lo"]) & (known["measured"] <= known["gold_hi"])
        rows.append(
            {"proxy_params": size, "outside": bool(table["outside"].iloc[0]), **errors}
            | {"covered": float(within.mean()), "highest": float(table["measured"].max())}
        )
    return pd.DataFrame(rows)
