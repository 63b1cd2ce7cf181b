"""Intervals over seeds and prompts together: a crossed bootstrap that keeps its level with few seeds.

The value of seed s on prompt p is mean + a_s + b_p + e_sp: every seed answers the same prompts, so neither
seeds nor prompts may be resampled within the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthetic_rm.analysis.forms import Form, find_form
from synthetic_rm.errors import require

Floats = NDArray[np.float64]


def _multiplied(effects: Floats, num_resamples: int, rng: np.random.Generator) -> Floats:
    """Draws [R, ...] of the normal law whose covariance is that of the mean of `effects` [L, ...], which sum to 0."""
    levels = len(effects)
    weights = rng.normal(size=(num_resamples, levels)) / np.sqrt(levels * max(levels - 1, 1))
    return np.tensordot(weights, effects, axes=1)


def crossed_bootstrap(values: ArrayLike, *, num_resamples: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draws of the mean of `values` over seeds and prompts, both taken as samples of many.

    Each is mean + z sqrt(V). V is a draw of the variance of the mean,

        V = (e + max(a - e, 0) + max(b - e, 0)) / (S P),
        a = SS_seeds / chi2(S - 1),  b = SS_prompts / chi2(P - 1),  e = SS_rest / chi2((S - 1)(P - 1)),

    with the sums of squares of the two-way table: the generalized pivots of its mean squares (Weerahandi 1993), of
    which no effect's variance may be negative. z is standard normal: the effects of seeds and prompts times normal
    weights (a multiplier bootstrap), over their deviation, which keeps how the entries of `...` vary together.

    Seeds alone give Student's interval with S - 1 degrees of freedom, prompts alone that with P - 1. Few seeds make
    it wide, as they must, and too wide where seeds do not differ. Seeds that agree by chance do not make it narrow:
    V is never below what the noise of the cells says. (Resampling levels, as a bootstrap does, gives no deviation
    half of the time with 2 seeds; resampling rows and columns of the table counts the noise three times: Owen 2007.)

    Args:
        values: [seeds, prompts, ...]. A single seed or prompt adds no spread: the draws then hold for it only.
        num_resamples: R.
        rng: makes the draws.
    Returns:
        mean [...], draws [R, ...].
    """
    return summed_bootstrap([np.asarray(values, np.float64)], num_resamples=num_resamples, rng=rng)


def summed_bootstrap(
    blocks: Sequence[Floats], *, num_resamples: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Draws of the sum of the means of several tables that have their prompts in common, each with seeds of its own.

    As `crossed_bootstrap`, of which it is the case of several tables g:

        V = sum_g (e_g + max(a_g - e_g, 0)) / (S_g P) + max(B - sum_g e_g / (S_g P), 0),

    B the pivot of the variance of the mean over prompts of the summed prompt effects.

    Args:
        blocks: [seeds_g, prompts, ...] each.
    Returns:
        sum of the means [...], draws [R, ...].
    """
    prompts, shape = blocks[0].shape[1], blocks[0].shape[2:]
    means = [cells.mean(axis=(0, 1)) for cells in blocks]
    rows = [cells.mean(axis=1) - mean for cells, mean in zip(blocks, means, strict=True)]
    columns = [cells.mean(axis=0) - mean for cells, mean in zip(blocks, means, strict=True)]

    def mean_square(effects: Floats, repeats: int, freedom: int) -> Floats:
        sums = repeats * np.square(effects.reshape(-1, *shape)).sum(axis=0)
        chi2 = rng.chisquare(freedom, size=num_resamples) if freedom else np.full(num_resamples, np.inf)
        return np.asarray(sums / chi2.reshape(-1, *(1,) * len(shape)))

    noise, of_seeds = np.zeros((num_resamples, *shape)), np.zeros((num_resamples, *shape))
    for cells, mean, row, column in zip(blocks, means, rows, columns, strict=True):
        seeds = len(cells)
        rest = cells - mean - row[:, None] - column[None]
        cell = mean_square(rest, 1, (seeds - 1) * (prompts - 1))
        noise += cell / (seeds * prompts)
        of_seeds += np.maximum(mean_square(row, prompts, seeds - 1) - cell, 0) / (seeds * prompts)
    together = np.sum(columns, axis=0)
    of_prompts = np.maximum(mean_square(together, 1, prompts - 1) / prompts - noise, 0)
    effects = [*rows, together]
    normal = sum(_multiplied(effect, num_resamples, rng) for effect in effects)
    spread = sum(np.square(x).sum(axis=0) / (len(x) * max(len(x) - 1, 1)) for x in effects)
    z = normal / np.sqrt(np.where(spread > 0, spread, 1.0))
    total = np.asarray(np.sum(means, axis=0))
    return total, total + z * np.sqrt(noise + of_seeds + of_prompts)


def interval(draws: ArrayLike, level: float) -> tuple[Floats, Floats]:
    """The central interval of the draws: quantiles (1 -+ level)/2 over the first axis, each a drawn value.

    Args:
        draws: [R, ...]; may hold inf.
        level: e.g. 0.95.
    Returns:
        lo, hi: [...] each.
    Raises:
        InputError: level is not between 0 and 1.
    """
    require(0.0 < level < 1.0, f"level must be between 0 and 1, got {level}")
    tail = (1.0 - level) / 2.0
    values = np.asarray(draws, np.float64)
    lo = np.quantile(values, tail, axis=0, method="lower")
    return np.asarray(lo), np.asarray(np.quantile(values, 1.0 - tail, axis=0, method="higher"))


@dataclass(frozen=True)
class BootstrapFit:
    """A form fitted to the mean over seeds and prompts, with intervals; the peak is inf if there is none."""

    form: str
    alpha: float
    alpha_lo: float
    alpha_hi: float
    beta: float
    beta_lo: float
    beta_hi: float
    peak_kl: float
    peak_kl_lo: float
    peak_kl_hi: float
    peak_gold: float
    peak_gold_lo: float
    peak_gold_hi: float
    r2: float
    identified: bool
    """The interval of beta is above 0 and the peak lies within the data (peak_kl <= the largest kl)."""
    level: float
    num_seeds: int
    num_prompts: int
    num_resamples: int
    draws: Floats = field(repr=False, compare=False)
    """[R, 2] resampled (alpha, beta)."""


def bootstrap_fits(
    kl: ArrayLike,
    gold: ArrayLike,
    form: str,
    *,
    num_resamples: int,
    rng: np.random.Generator,
    level: float = 0.95,
) -> BootstrapFit:
    """Least-squares fit of the mean curve, with intervals of `crossed_bootstrap` over seeds and prompts.

    The fit is linear in gold, so it is made once per seed and prompt ([alpha, beta] = pinv(design) gold) and
    the table of coefficients is resampled; peaks follow from each draw of (alpha, beta). With one seed the
    interval is over prompts alone and holds for that seed only.

    Args:
        kl: [K] nats, common to all seeds.
        gold: [seeds, K, prompts], 0 on average where kl is 0.
        form: name of a form without a free exponent.
        num_resamples: number of bootstrap draws.
        rng: draws them.
        level: of the intervals.
    Returns:
        The fit.
    Raises:
        InputError: unknown form, shapes do not match, values are not finite, kl is negative, or the points do
            not determine the coefficients.
    """
    shape, nats, values = _checked(kl, gold, form, num_resamples)
    cells = np.einsum("ck,skp->spc", np.linalg.pinv(shape.design(np.sqrt(nats))), values)
    if shape.coefficients == 1:
        cells = np.concatenate([cells, np.zeros_like(cells)], axis=-1)
    mean, draws = crossed_bootstrap(cells, num_resamples=num_resamples, rng=rng)
    return _fit(shape, nats, values, mean, draws, level)


def shared_bootstrap_fits(
    curves: Mapping[Any, tuple[ArrayLike, ArrayLike]],
    form: str,
    *,
    num_resamples: int,
    rng: np.random.Generator,
    level: float = 0.95,
) -> dict[Any, BootstrapFit]:
    """The curves of several groups fitted together, alpha common to all and beta each group's own, with intervals.

    argmin over (alpha, beta_g) of sum_g sum_i (gold_gi - R(sqrt(kl_gi); alpha, beta_g))^2, as the paper fits RL
    (section 3.2): linear in gold, so each group's seeds and prompts have their part in every coefficient, and the sum
    of the parts is resampled (`summed_bootstrap`).

    Args:
        curves: (kl [K], gold [seeds, K, prompts]) of each group; K and seeds may differ, prompts are the same.
        form: name of a form with alpha and beta and no free exponent.
    Returns:
        The fit of each group.
    Raises:
        InputError: as `bootstrap_fits`, or prompts differ in number.
    """
    checked = {group: _checked(kl, gold, form, num_resamples) for group, (kl, gold) in curves.items()}
    shape = find_form(form)
    require(shape.coefficients == 2, f"form {form!r} has no beta beside a common alpha")
    prompts = {values.shape[2] for _, _, values in checked.values()}
    require(len(prompts) == 1, f"groups that are fitted together need the same prompts, got {sorted(prompts)} of them")
    designs = []
    for place, (_, nats, _) in enumerate(checked.values(), start=1):
        own = np.zeros((nats.size, 1 + len(checked)))
        own[:, [0, place]] = shape.design(np.sqrt(nats))
        designs.append(own)
    inverse = np.linalg.pinv(np.concatenate(designs))
    parts = np.split(inverse, np.cumsum([len(own) for own in designs])[:-1], axis=1)
    cells = [
        np.einsum("ck,skp->spc", part, values) for part, (_, _, values) in zip(parts, checked.values(), strict=True)
    ]
    mean, draws = summed_bootstrap(cells, num_resamples=num_resamples, rng=rng)
    return {
        group: _fit(shape, nats, values, mean[[0, place]], draws[:, [0, place]], level)
        for place, (group, (_, nats, values)) in enumerate(checked.items(), start=1)
    }


def _checked(kl: ArrayLike, gold: ArrayLike, form: str, num_resamples: int) -> tuple[Form, Floats, Floats]:
    """The form, kl [K] and gold [seeds, K, prompts], when a fit of them can be made."""
    shape = find_form(form)
    require(not shape.free_exponent, f"form {form!r} is not linear: it has no bootstrap")
    nats, values = np.asarray(kl, np.float64), np.asarray(gold, np.float64)
    require(
        nats.ndim == 1 and values.ndim == 3 and values.shape[1] == nats.size and values.size > 0,
        f"kl must be [K] and gold [seeds, K, prompts], got {nats.shape} and {values.shape}",
    )
    require(bool(np.isfinite(values).all()), "gold must be finite, got nan or inf")
    require(bool((np.isfinite(nats) & (nats >= 0)).all()), "kl must be finite and non-negative")
    require(num_resamples >= 1, f"num_resamples must be at least 1, got {num_resamples}")
    design = shape.design(np.sqrt(nats))
    require(
        np.linalg.matrix_rank(design) == design.shape[1],
        f"form {form!r} needs points at {design.shape[1]} distinct distances above 0",
    )
    return shape, nats, values


def _fit(shape: Form, nats: Floats, values: Floats, mean: Floats, draws: Floats, level: float) -> BootstrapFit:
    """What follows from (alpha, beta) [2] and their draws [R, 2]."""
    alpha, beta = mean
    peak, top = shape.peak(alpha, beta)
    peaks, tops = shape.peak(draws[:, 0], draws[:, 1])
    with np.errstate(over="ignore"):
        peak_kl, peak_kls = np.square(peak), np.square(peaks)
    spans = [interval(column, level) for column in (draws[:, 0], draws[:, 1], peak_kls, tops)]
    gold = values.mean(axis=(0, 2))
    total = np.square(gold - gold.mean()).sum()
    residual = np.square(gold - shape.curve(np.sqrt(nats), alpha, beta)).sum()
    (alpha_lo, alpha_hi), (beta_lo, beta_hi), (kl_lo, kl_hi), (gold_lo, gold_hi) = (
        (float(lo), float(hi)) for lo, hi in spans
    )
    return BootstrapFit(
        form=shape.name,
        alpha=float(alpha),
        alpha_lo=alpha_lo,
        alpha_hi=alpha_hi,
        beta=float(beta),
        beta_lo=beta_lo,
        beta_hi=beta_hi,
        peak_kl=float(peak_kl),
        peak_kl_lo=kl_lo,
        peak_kl_hi=kl_hi,
        peak_gold=float(top),
        peak_gold_lo=gold_lo,
        peak_gold_hi=gold_hi,
        r2=float(1.0 - residual / total) if total > 0 else float("nan"),
        identified=bool(beta_lo > 0 and peak_kl <= nats.max()),
        level=level,
        num_seeds=values.shape[0],
        num_prompts=values.shape[2],
        num_resamples=len(draws),
        draws=draws,
    )
