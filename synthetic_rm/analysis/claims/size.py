"""H3: alpha and beta are about straight lines over the logarithm of the proxy's parameters."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from synthetic_rm.analysis.bootstrap import summed_bootstrap
from synthetic_rm.analysis.claims.judging import Verdict, negative, positive, within
from synthetic_rm.analysis.claims.shape import RESAMPLES
from synthetic_rm.analysis.curves import SettingCurves
from synthetic_rm.analysis.fit_table import default_form
from synthetic_rm.analysis.scaling import (
    LEAST_SIZES,
    Estimate,
    coefficient_blocks,
    estimate,
    fit_scaling_law,
    proxy_size,
)

Floats = NDArray[np.float64]
STRAIGHT = 0.25
"""of the whole change: how far the middle of a line may lie off it and the line be called straight"""
SAME = 0.2
"""of the mean: how much alpha may change over all sizes and be called the same"""


def contrasts(
    entries: Sequence[SettingCurves], form: str, weights: Floats, place: int, *, shared: bool | None = None
) -> tuple[Floats, Floats]:
    """Weighted sums over sizes of alpha (place 0) or beta (1), with draws.

    Args:
        entries: one setting per size.
        form, shared: as `joint_design`.
        weights: [sums, sizes].
        place: 0 or 1.
    Returns:
        [sums], [R, sums].
    """
    blocks = [block[..., place] @ weights.T for block in coefficient_blocks(entries, form, shared)]
    return summed_bootstrap(blocks, num_resamples=RESAMPLES, rng=np.random.default_rng(0))


def bend_and_change(sizes: Sequence[int]) -> Floats:
    """Weights [2, sizes] of a quadratic through the sizes over log parameters.

    First: how far it lies off its own chord in the middle of the range; second: its change from end to end.
    """
    x = np.log(sizes)
    x = 2 * (x - x[0]) / (x[-1] - x[0]) - 1
    constant_linear_square = np.linalg.pinv(np.stack([np.ones_like(x), x, x**2], axis=1))
    return np.stack([-constant_linear_square[2], 2 * constant_linear_square[1]])


def ratio(values: Floats, draws: Floats, level: float) -> Estimate:
    """The first of two sums over the second, with the interval of the draws' ratio."""
    return estimate(float(values[0] / values[1]), draws[:, 0] / draws[:, 1], level)


def h3(entries: Sequence[SettingCurves], optimizer: str, *, level: float) -> Iterator[Verdict]:
    """H3: alpha of best-of-n rises and beta falls with log parameters, in straight lines; of RL beta alone.

    It would fail where a coefficient changes the other way, or not; where its change comes all at once and not in
    proportion to log parameters; where alpha of RL, fitted for each size by itself, differs between sizes.
    """
    entries = sorted(entries, key=proxy_size)
    if len(entries) < LEAST_SIZES:
        return
    form, sizes = default_form(optimizer), [proxy_size(entry) for entry in entries]
    law = fit_scaling_law(entries, form, num_resamples=RESAMPLES, rng=np.random.default_rng(0), level=level)
    alpha, beta = law.slope("alpha"), law.slope("beta")
    of_n = optimizer == "best_of_n"
    figure, told = ("figure_scaling" if of_n else "figure_rl_scaling"), f"{len(sizes)} sizes"
    unit = "per tenfold of parameters"
    if of_n:
        yield Verdict("H3a", optimizer, f"change of alpha {unit}", alpha, positive(alpha), figure, told)
    yield Verdict("H3b", optimizer, f"change of beta {unit}", beta, negative(beta), figure, told)
    name = "alpha" if of_n else "beta"
    bend = ratio(*contrasts(entries, form, bend_and_change(sizes), int(not of_n)), level)
    yield Verdict(
        "H3c",
        optimizer,
        f"bend of {name} in the middle of the sizes (of its change over all of them)",
        bend,
        within(bend, -STRAIGHT, STRAIGHT),
        figure,
        f"{told}; straight where it is within ±{STRAIGHT:g}",
    )
    if not of_n:
        weights = np.stack([bend_and_change(sizes)[1], np.full(len(sizes), 1 / len(sizes))])
        change = ratio(*contrasts(entries, form, weights, 0, shared=False), level)
        yield Verdict(
            "H3d",
            optimizer,
            "change of alpha over all sizes (of its mean), each size fitted by itself",
            change,
            within(change, -SAME, SAME),
            figure,
            f"{told}; the same where it is within ±{SAME:g}",
        )
