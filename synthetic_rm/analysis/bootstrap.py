"""Intervals over seeds and prompts together: a crossed bootstrap that keeps its level with few seeds.

The value of seed s on prompt p is mean + a_s + b_p + e_sp: every seed answers the same prompts, so neither
seeds nor prompts may be resampled within the other.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthetic_rm.analysis.forms import find_form
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
    cells = np.asarray(values, np.float64)
    seeds, prompts = cells.shape[:2]
    mean = cells.mean(axis=(0, 1))
    rows, columns = cells.mean(axis=1) - mean, cells.mean(axis=0) - mean
    rest = cells - mean - rows[:, None] - columns[None]

    def mean_square(effects: Floats, repeats: int, freedom: int) -> Floats:
        sums = repeats * np.square(effects.reshape(-1, *mean.shape)).sum(axis=0)
        chi2 = rng.chisquare(freedom, size=num_resamples) if freedom else np.full(num_resamples, np.inf)
        return np.asarray(sums / chi2.reshape(-1, *(1,) * mean.ndim))

    noise = mean_square(rest, 1, (seeds - 1) * (prompts - 1))
    of_seeds, of_prompts = mean_square(rows, prompts, seeds - 1), mean_square(columns, seeds, prompts - 1)
    variance = noise + np.maximum(of_seeds - noise, 0) + np.maximum(of_prompts - noise, 0)
    together = _multiplied(rows, num_resamples, rng) + _multiplied(columns, num_resamples, rng)
    spread = sum(np.square(x).sum(axis=0) / (len(x) * max(len(x) - 1, 1)) for x in (rows, columns))
    z = together / np.sqrt(np.where(spread > 0, spread, 1.0))
    return mean, mean + z * np.sqrt(variance / (seeds * prompts))


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
    cells = np.einsum("ck,skp->spc", np.linalg.pinv(design), values)
    if design.shape[1] == 1:
        cells = np.concatenate([cells, np.zeros_like(cells)], axis=-1)
    (alpha, beta), draws = crossed_bootstrap(cells, num_resamples=num_resamples, rng=rng)
    peak, top = shape.peak(alpha, beta)
    peaks, tops = shape.peak(draws[:, 0], draws[:, 1])
    with np.errstate(over="ignore"):
        peak_kl, peak_kls = np.square(peak), np.square(peaks)
    spans = [interval(column, level) for column in (draws[:, 0], draws[:, 1], peak_kls, tops)]
    mean = values.mean(axis=(0, 2))
    total = np.square(mean - mean.mean()).sum()
    residual = np.square(mean - shape.curve(np.sqrt(nats), alpha, beta)).sum()
    (alpha_lo, alpha_hi), (beta_lo, beta_hi), (kl_lo, kl_hi), (gold_lo, gold_hi) = (
        (float(lo), float(hi)) for lo, hi in spans
    )
    return BootstrapFit(
        form=form,
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
        num_resamples=num_resamples,
        draws=draws,
    )
