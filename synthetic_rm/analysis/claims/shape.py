"""H1 and H2: gold rises and falls while the proxy rises, and the paper's form tells how better than others do."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag

from synthetic_rm.analysis.bootstrap import summed_bootstrap
from synthetic_rm.analysis.claims.judging import (
    NOT_IDENTIFIED,
    NOT_REPRODUCED,
    REPRODUCED,
    Verdict,
    both,
    positive,
    within,
)
from synthetic_rm.analysis.curves import SettingCurves, cross_fitted_peak
from synthetic_rm.analysis.figures.style import human_count
from synthetic_rm.analysis.fit_table import default_form
from synthetic_rm.analysis.forms import find_form
from synthetic_rm.analysis.scaling import Estimate, estimate, joint_design, proxy_size
from synthetic_rm.analysis.tables import number, with_interval

Floats = NDArray[np.float64]
NEGLIGIBLE = 0.1
"""of the largest gold, up or down: a rise or fall that is surely smaller is none"""
GOOD_FORECAST = 0.1
"""of the highest gold: the root mean square error of a forecast that holds"""
RIVALS = ("bon", "rl", "log1p", "quadratic", "linear")
"""forms that are fitted by linear least squares, the one in question among them"""
RESAMPLES = 1000
FALL_RESAMPLES = 40_000
"""for ends of intervals far out in the tails, which sums of a few numbers afford"""


def rise_and_fall(
    entries: Sequence[SettingCurves], *, rng: np.random.Generator, level: float
) -> tuple[Estimate, Estimate, Estimate]:
    """Means over the sizes of three gains, with intervals over seeds and the prompts they have in common.

    rise = gold(peak) - gold(start); fall = gold(peak) - gold(end), the peak of every seed and prompt found on the other
    seeds and prompts (`cross_fitted_peak`); late = proxy(end) - proxy(half of the largest distance).
    """
    blocks = []
    for entry in entries:
        top = np.take_along_axis(entry.gold, cross_fitted_peak(entry.gold)[:, None], axis=1)[:, 0]
        half = int(np.searchsorted(np.sqrt(entry.kl), np.sqrt(entry.kl[-1]) / 2))
        gains = (top - entry.gold[:, 0], top - entry.gold[:, -1], entry.proxy[:, -1] - entry.proxy[:, half])
        blocks.append(np.stack(gains, axis=-1) / len(entries))
    means, draws = summed_bootstrap(blocks, num_resamples=FALL_RESAMPLES, rng=rng)
    rise, fall, late = (estimate(means[i], draws[:, i], level) for i in range(3))
    return rise, fall, late


def highest_at_the_end(entry: SettingCurves) -> bool:
    """Whether gold is highest at the end, whatever seed and prompt is left out: what it does beyond is not seen."""
    return bool((cross_fitted_peak(entry.gold) == entry.kl.size - 1).all())


def fall_of(entry: SettingCurves, level: float) -> tuple[Estimate, str]:
    """The fall of gold of one size, with no interval where gold is highest at the end, and whether it rose and fell."""
    if highest_at_the_end(entry):
        return Estimate(0.0, float("nan"), float("nan")), NOT_REPRODUCED
    rise, fall, _ = rise_and_fall([entry], rng=np.random.default_rng(0), level=level)
    scale = NEGLIGIBLE * float(np.abs(entry.gold.mean(axis=(0, 2))).max())
    return fall, both(positive(rise, negligible=scale), positive(fall, negligible=scale))


def h1(entries: Sequence[SettingCurves], optimizer: str, *, level: float) -> Iterator[Verdict]:
    """H1: at some proxy size gold rises, then falls; the proxy keeps rising.

    Every size counts, whatever others were run beside it; the intervals of the falls hold for all of them together
    (Bonferroni: each at 1 - (1 - level) / sizes), so that many ask for a clearer fall. It would fail where gold of no
    size falls although optimization goes on, or where the proxy stops rising in the second half of the distance, so
    that there is nothing to overoptimize.
    """
    ordered = sorted(entries, key=proxy_size)
    found = [fall_of(entry, 1 - (1 - level) / len(ordered)) for entry in ordered]
    words = {word for _, word in found}
    verdict = next((word for word in (REPRODUCED, NOT_IDENTIFIED) if word in words), NOT_REPRODUCED)
    clearest = int(np.argmax([-np.inf if np.isnan(fall.lo) else fall.lo for fall, _ in found]))
    names = [human_count(proxy_size(entry)) for entry in ordered]
    each = "; ".join(
        f"{name} " + ("highest at the end" if np.isnan(fall.lo) else with_interval(fall.value, fall.lo, fall.hi))
        for name, (fall, _) in zip(names, found, strict=True)
    )
    end = min(float(entry.kl[-1]) for entry in ordered)
    yield Verdict(
        "H1a",
        optimizer,
        f"fall of gold from its peak to the end (SDs), {names[clearest]} parameters",
        found[clearest][0],
        verdict,
        "figure_gold" if optimizer == "best_of_n" else "figure_rl_gold",
        f"the clearest of {len(ordered)} sizes, in intervals that hold for all together, KL up to {end:.1f}: {each}",
    )
    _, _, late = rise_and_fall(ordered, rng=np.random.default_rng(0), level=level)
    yield Verdict(
        "H1b",
        optimizer,
        "rise of the proxy score in the second half of the distance",
        late,
        positive(late),
        "figure_1a" if optimizer == "best_of_n" else "figure_1b",
        f"mean over {', '.join(names)} parameters, KL up to {end:.1f}",
    )


class Forecast(NamedTuple):
    """Squared errors of forms beyond the cut, relative to the squared largest gold of each size, mean over sizes."""

    errors: dict[str, float]
    draws: dict[str, Floats]
    """[R]"""


def mean_gold(entries: Sequence[SettingCurves], *, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Mean gold of all sizes end to end [points], and draws [R, points] over seeds and common prompts together."""
    ends = np.cumsum([entry.kl.size for entry in entries])
    blocks = []
    for entry, end in zip(entries, ends, strict=True):
        block = np.zeros((entry.gold.shape[0], entry.gold.shape[2], ends[-1]))
        block[..., end - entry.kl.size : end] = entry.gold.swapaxes(1, 2)
        blocks.append(block)
    return summed_bootstrap(blocks, num_resamples=RESAMPLES, rng=rng)


def forecasts(entries: Sequence[SettingCurves], own: str, cut: float) -> Forecast | None:
    """Forms fitted to the mean curves at kl <= cut and scored beyond; None where no size lets one.

    The residuals are linear in the mean curves, so that each draw of these is fitted and scored anew.
    """
    usable = [e for e in entries if e.kl.max() > cut and np.count_nonzero((e.kl > 0) & (e.kl <= cut)) >= 3]
    if not usable:
        return None
    mean, draws = mean_gold(usable, rng=np.random.default_rng(0))
    kl = np.concatenate([entry.kl for entry in usable])
    seen = kl <= cut
    weights = np.concatenate(
        [
            np.full(entry.kl.size, 1.0) / ((entry.kl > cut).sum() * np.abs(entry.gold.mean(axis=(0, 2))).max() ** 2)
            for entry in usable
        ]
    )[~seen] / len(usable)
    errors, spread = {}, {}
    for form in RIVALS:
        if form == own:
            design = joint_design(usable, form)[0]
        else:
            design = block_diag(*(find_form(form).design(np.sqrt(entry.kl)) for entry in usable))
        onward = design[~seen] @ np.linalg.pinv(design[seen])
        errors[form] = float(np.square(mean[~seen] - onward @ mean[seen]) @ weights)
        spread[form] = np.square(draws[:, ~seen] - draws[:, seen] @ onward.T) @ weights
    return Forecast(errors, spread)


def cautious(value: float, draws: Floats, level: float) -> Estimate:
    """The interval of a squared error, or of a difference of two: noise in the curves adds to it.

    The union of the quantiles q of the draws and of their mirror image 2 v - q (the percentile and the basic
    bootstrap), which err to either side.
    """
    told = estimate(value, draws, level)
    return Estimate(value, min(told.lo, 2 * value - told.hi), max(told.hi, 2 * value - told.lo))


def h2(entries: Sequence[SettingCurves], optimizer: str, *, level: float, cut: float) -> Iterator[Verdict]:
    """H2: fitted up to `cut` nats alone, the paper's form tells what lies beyond, and better than others do.

    It would fail where another form with as many coefficients forecasts better, or where the forecast is far off.
    """
    own = default_form(optimizer)
    found = forecasts(entries, own, cut)
    if found is None:
        return
    figure = "figure_extrapolation" if optimizer == "best_of_n" else "figure_rl_extrapolation"
    better = {
        form: cautious(found.errors[form] - found.errors[own], found.draws[form] - found.draws[own], level)
        for form in RIVALS
        if form != own
    }
    toughest = min(better, key=lambda form: better[form].value)
    judged = [positive(told) for told in better.values()]
    verdict = REPRODUCED if set(judged) == {REPRODUCED} else NOT_IDENTIFIED
    lost = [form for form, word in zip(better, judged, strict=True) if word == NOT_REPRODUCED]
    yield Verdict(
        "H2a",
        optimizer,
        f"squared forecast error of {toughest} less that of {own} (of squared highest gold)",
        better[toughest],
        NOT_REPRODUCED if lost else verdict,
        figure,
        f"fitted at KL ≤ {cut:g}; against " + ", ".join(f"{f} {number(t.value, 4)}" for f, t in better.items()),
    )
    square = cautious(found.errors[own], found.draws[own], level)
    root = Estimate(*(float(np.sqrt(max(x, 0.0))) for x in (square.value, square.lo, square.hi)))
    yield Verdict(
        "H2b",
        optimizer,
        f"forecast error of {own} (root mean square, of the highest gold)",
        root,
        within(root, 0.0, GOOD_FORECAST),
        figure,
        f"fitted at KL ≤ {cut:g}; holds where it is below {GOOD_FORECAST:g}",
    )
