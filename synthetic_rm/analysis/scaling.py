"""Scaling laws: the coefficients of the gold curve as lines over log10 of the proxy's parameters and comparisons.

The paper (section 3.2) finds alpha and beta of best-of-n, and beta of RL with one alpha for all sizes, to be about so
over size; over data it draws both (its Figs. 17 and 18) and gives no law. `Terms` says how ours are related to data.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from synthetic_rm.analysis.bootstrap import interval, summed_bootstrap
from synthetic_rm.analysis.curves import SettingCurves
from synthetic_rm.analysis.forms import find_form
from synthetic_rm.analysis.scaling_terms import Terms, best_terms
from synthetic_rm.errors import require

Floats = NDArray[np.float64]
LEAST_SIZES = 3
"""or numbers of comparisons; with fewer, nothing tells how far they lie off a line"""


@dataclass(frozen=True)
class Estimate:
    """A number with its interval."""

    value: float
    lo: float
    hi: float


@dataclass(frozen=True)
class Highest:
    """The highest point of gold within some KL."""

    kl: Estimate
    gold: Estimate


@dataclass(frozen=True)
class Prediction:
    """What a law says of proxies of one size and number of comparisons."""

    size: float
    comparisons: float
    alpha: Estimate
    beta: Estimate
    peak_kl: Estimate
    """nats; inf where gold rises without end"""
    peak_gold: Estimate
    draws: Floats = field(repr=False, compare=False)
    """[R, 2] of (alpha, beta)"""


@dataclass(frozen=True)
class ScalingLaw:
    """alpha and beta of a setting as its `Terms` times `line`; with one number of comparisons they are lines over size.

    Draws are of the law's own coefficients, over the seeds of every setting and the prompts they have in common
    (`summed_bootstrap`). `scatter` is how far the fitted settings lie off the law: it belongs to what is said of a
    setting that was not measured, and counts the noise of the settings once more, so that such intervals are rather
    too wide.
    """

    form: str
    sizes: tuple[int, ...]
    """parameters, rising"""
    counts: tuple[int, ...]
    """comparisons, rising"""
    fitted: Floats
    """[settings, 2] alpha and beta of every setting, from its own curve, by rising size and then comparisons"""
    terms: Terms
    line: Floats
    """[terms, 2] of alpha and beta: at the means, and per tenfold"""
    draws: Floats = field(repr=False)
    """[R, terms, 2] of `line`"""
    scatter: Floats = field(repr=False)
    """[R, 2] draws of a setting's distance from the law, above the threshold"""
    chance: Floats = field(repr=False)
    """[R, 2] the same at or below it"""
    level: float
    largest_kl: float
    """nats up to which every setting was measured"""

    def slope(self, coefficient: str, per: str = "parameters") -> Estimate:
        """Change of "alpha" or "beta" per tenfold of "parameters" or "comparisons", of those that vary."""
        place = ("alpha", "beta").index(coefficient)
        column = 1 + self.terms.names.index(per)
        return estimate(self.line[column, place], self.draws[:, column, place], self.level)

    def covers(self, size: float, comparisons: float) -> bool:
        """Whether both lie between those that were fitted."""
        return all(known[0] <= x <= known[-1] for known, x in ((self.sizes, size), (self.counts, comparisons)))

    def at_chance(self, comparisons: float) -> bool:
        """Whether the law has proxies of so many comparisons at or below its threshold."""
        return self.terms.threshold > 0 and comparisons <= self.terms.threshold

    def at(self, size: float, comparisons: float | None = None, *, new: bool = True) -> Prediction:
        """alpha, beta and the peak that the law gives for proxies of `size` parameters.

        Args:
            size: parameters, above 0; nothing is refused outside those fitted (`planner.plan` does that).
            comparisons: that they learn from, above 0; the most there are if None.
            new: of a setting to be trained, so that `scatter` widens the intervals; False for the law itself.
        """
        require(size > 0, f"size must be above 0, got {size}")
        count = float(self.counts[-1] if comparisons is None else comparisons)
        require(comparisons is None or count > 0, f"comparisons must be above 0, got {comparisons}")
        row = self.terms.rows([size], [count])[0]
        value, draws = row @ self.line, row @ self.draws
        draws = draws + (self.chance if self.at_chance(count) else self.scatter) if new else draws
        shape = find_form(self.form)
        with np.errstate(over="ignore"):
            peak, top = shape.peak(value[0], value[1])
            peaks, tops = shape.peak(draws[:, 0], draws[:, 1])
            kl, kls = float(np.square(peak)), np.square(peaks)
        return Prediction(
            float(size),
            count,
            estimate(value[0], draws[:, 0], self.level),
            estimate(value[1], draws[:, 1], self.level),
            estimate(kl, kls, self.level),
            estimate(float(top), tops, self.level),
            draws,
        )

    def highest(self, size: float, comparisons: float | None = None) -> Highest:
        """Where gold of a setting is highest up to `largest_kl`, by the law itself (`at` without `scatter`)."""
        told, shape = self.at(size, comparisons, new=False), find_form(self.form)
        distance = np.linspace(0, np.sqrt(self.largest_kl), 60)
        gold = shape.curve(distance, told.alpha.value, told.beta.value)
        golds = shape.curve(distance, told.draws[:, :1], told.draws[:, 1:])
        kl, kls = (np.square(distance[np.argmax(values, axis=-1)]) for values in (gold, golds))
        return Highest(estimate(float(kl), kls, self.level), estimate(gold.max(), golds.max(axis=1), self.level))

    def curve(self, size: float, kl: ArrayLike, comparisons: float | None = None) -> pd.DataFrame:
        """Gold of a setting (`at`) over `kl` [K] nats with intervals pointwise: columns kl, gold, gold_lo, gold_hi."""
        told, shape = self.at(size, comparisons), find_form(self.form)
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


def comparisons_of(entry: SettingCurves) -> int:
    """Comparisons that the proxies of a setting learnt from; 0 where they are not told."""
    return int(str(entry.setting.get("num_comparisons", 0)))


def joint_design(
    entries: Sequence[SettingCurves], form: str, shared: bool | None = None
) -> tuple[Floats, NDArray[np.intp]]:
    """The least-squares problem of all settings at once: gold of all curves, end to end, against all coefficients.

    Args:
        entries: one setting per size and number of comparisons.
        form: name of a form with alpha and beta and no free exponent.
        shared: one alpha for all sizes that learnt from as many comparisons; as the paper has it if None: for "rl" and
            for no other form.
    Returns:
        design [points of all settings, coefficients]; columns [settings, 2], where alpha and beta of every setting are.
    Raises:
        InputError: the form has other coefficients.
    """
    shape = find_form(form)
    require(shape.coefficients == 2 and not shape.free_exponent, f"form {form!r} has no line in alpha and beta")
    one = form == "rl" if shared is None else shared
    places = np.arange(len(entries))
    groups, group = np.unique([comparisons_of(entry) for entry in entries], return_inverse=True)
    columns = np.stack([group, groups.size + places] if one else [2 * places, 2 * places + 1], axis=1)
    designs = [shape.design(np.sqrt(entry.kl)) for entry in entries]
    ends = np.cumsum([len(design) for design in designs])
    stacked = np.zeros((ends[-1], columns.max() + 1))
    for design, own, end in zip(designs, columns, ends, strict=True):
        stacked[end - len(design) : end, own] = design
    return stacked, columns


def coefficient_maps(entries: Sequence[SettingCurves], form: str, shared: bool | None = None) -> list[Floats]:
    """For each setting what turns its gold [K] into its part of (alpha, beta) of every setting: [settings, 2, K].

    Least squares is linear in gold. Where alpha is one for several sizes each of their curves has a part in it, and so
    in every one's beta; elsewhere a curve counts for its own setting alone.

    Args:
        entries, form, shared: as `joint_design`.
    Raises:
        InputError: as `joint_design`, or the curves do not determine the coefficients.
    """
    stacked, columns = joint_design(entries, form, shared)
    width = stacked.shape[1]
    require(np.linalg.matrix_rank(stacked) == width, f"form {form!r}: the curves do not determine its coefficients")
    ends = np.cumsum([entry.kl.size for entry in entries])
    return [part[columns] for part in np.split(np.linalg.pinv(stacked), ends[:-1], axis=1)]


def coefficient_blocks(entries: Sequence[SettingCurves], form: str, shared: bool | None = None) -> list[Floats]:
    """Each setting's part [seeds, prompts, settings, 2] in (alpha, beta) of every one; the means of the parts add up.

    Args:
        entries, form, shared: as `coefficient_maps`.
    """
    maps = coefficient_maps(entries, form, shared)
    return [np.einsum("gck,skp->spgc", part, entry.gold) for part, entry in zip(maps, entries, strict=True)]


def fit_scaling_law(
    entries: Sequence[SettingCurves],
    form: str,
    *,
    threshold: int | None = None,
    num_resamples: int = 2000,
    rng: np.random.Generator,
    level: float = 0.95,
) -> ScalingLaw:
    """The law through alpha and through beta of every setting, least squares over its `Terms`.

    Args:
        entries: one setting per size and number of comparisons, as `setting_curves` gives them, measured on the same
            prompts.
        form: "bon", "rl" (one alpha for all sizes of as many comparisons), "log1p" or "quadratic".
        threshold: comparisons at or below which proxies are at chance, 0 for none; as `best_terms` chooses it if None.
        num_resamples: number of draws.
        rng: makes them.
        level: of the intervals.
    Raises:
        InputError: fewer than `LEAST_SIZES` sizes and numbers of comparisons, several settings of one, too few of them
            above the threshold, other prompts, or as `bootstrap_fits`.
    """
    entries = sorted(entries, key=lambda entry: (proxy_size(entry), comparisons_of(entry)))
    sizes, counts = [proxy_size(entry) for entry in entries], [comparisons_of(entry) for entry in entries]
    _check(sizes, counts, {entry.gold.shape[2] for entry in entries})
    maps = coefficient_maps(entries, form)
    means = [(entry.kl, entry.gold.mean(axis=(0, 2))) for entry in entries]
    fitted = np.asarray(sum(part @ mean for part, (_, mean) in zip(maps, means, strict=True)))
    terms = best_terms(sizes, counts, fitted, means, form) if threshold is None else Terms.of(sizes, counts, threshold)
    basis = terms.rows(sizes, counts)
    fixed = np.linalg.matrix_rank(basis) == basis.shape[1]
    require(fixed, f"threshold={threshold}: too few settings above it for a law")
    of_law = [np.einsum("ts,sck->tck", np.linalg.pinv(basis), part) for part in maps]
    lines = [np.einsum("tck,skp->sptc", own, entry.gold) for own, entry in zip(of_law, entries, strict=True)]
    parts = [part for part in lines if part.any()]
    line, draws = summed_bootstrap(parts, num_resamples=num_resamples, rng=rng)
    off, above = fitted - basis @ line, basis.any(axis=1)
    scatter = _distances(off[above], int(above.sum()) - basis.shape[1], num_resamples, rng)
    chance = _distances(off[~above], int((~above).sum()), num_resamples, rng)
    largest = min(float(entry.kl.max()) for entry in entries)
    rising, more = (tuple(sorted(set(values))) for values in (sizes, counts))
    return ScalingLaw(form, rising, more, fitted, terms, line, draws, scatter, chance, level, largest)


def _check(sizes: Sequence[int], counts: Sequence[int], prompts: set[int]) -> None:
    """That these settings can be of one law."""
    several = len(set(counts)) >= LEAST_SIZES
    told = f"a scaling law needs {LEAST_SIZES} or more proxy sizes, got {len(set(sizes))}"
    require(len(set(sizes)) >= LEAST_SIZES or several, told)
    once = len(set(zip(sizes, counts, strict=True))) == len(sizes)
    require(once, "a scaling law needs one setting per proxy size and number of comparisons, got several")
    require(len(prompts) == 1, f"settings of one law must be measured on the same prompts, got {sorted(prompts)}")
    told = f"{len(set(counts))} numbers of comparisons"
    require(several or len(set(counts)) == 1, f"a law over data needs {LEAST_SIZES} or more of them, got {told}")


def _distances(off: Floats, freedom: int, num_resamples: int, rng: np.random.Generator) -> Floats:
    """[R, 2] draws of the distance of another setting from a law that these [settings, 2] lie off; 0 without any."""
    if not freedom:
        return np.zeros((num_resamples, 2))
    weights = rng.normal(size=(num_resamples, len(off))) / np.sqrt(rng.chisquare(freedom, size=(num_resamples, 1)))
    return np.asarray(weights @ off)
