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


def _deviations(effects: Floats, num_resamples: int, rng: np.random.Generator) -> Floats:
    """Draws [R, ...] of the error of the mean of `effects` [levels, ...], which sum to 0 over the levels.

    Levels are resampled with replacement, and a draw's deviation is widened by sqrt(L / chi2(L - 1)), L levels:
    sqrt(L / (L - 1)) for the variance that a resample of L lacks, the rest for Student's tails with L - 1
    degrees of freedom. (For L = 4 the plain percentile interval is about 1.9 times shorter than Student's.) One
    level alone shows no deviation.
    """
    levels = len(effects)
    if levels < 2:
        return np.zeros((num_resamples, *effects.shape[1:]))
    counts = rng.multinomial(levels, np.full(levels, 1.0 / levels), size=num_resamples)
    width = np.sqrt(levels / rng.chisquare(levels - 1, size=num_resamples))
    return np.tensordot(counts * (width / levels)[:, None], effects, axes=1)


def crossed_bootstrap(values: ArrayLike, *, num_resamples: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """mean + D_seeds + D_prompts: draws of the mean of `values` over seeds and prompts, both resampled.

    D_seeds and D_prompts resample the seed means a_s and the prompt means b_p about the mean (see
    `_deviations`). Both carry the noise e_sp of their cells, which must count once: b_p is shrunk by sqrt(1 -
    MS_e/MS_b), as var(mean) = (MS_a + MS_b - MS_e) / (SP) in a crossed design. (Resampling rows and columns
    of the table itself would count it three times: Owen 2007.)

    Args:
        values: [seeds, prompts, ...].
        num_resamples: R.
        rng: draws the resamples.
    Returns:
        mean [...], draws [R, ...].
    """
    cells = np.asarray(values, np.float64)
    seeds, prompts = cells.shape[:2]
    mean = cells.mean(axis=(0, 1))
    rows, columns = cells.mean(axis=1) - mean, cells.mean(axis=0) - mean
    if seeds > 1 and prompts > 1:
        rest = cells - mean - rows[:, None] - columns[None]
        noise = np.square(rest).sum(axis=(0, 1)) / ((seeds - 1) * (prompts - 1))
        spread = seeds * np.square(columns).sum(axis=0) / (prompts - 1)
        columns = columns * np.sqrt(np.maximum(1.0 - noise / np.where(spread > 0, spread, np.inf), 0.0))
    draws = mean + _deviations(rows, num_resamples, rng) + _deviations(columns, num_resamples, rng)
    return mean, draws


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
