"""H4 and H5: what the number of comparisons does, whether epochs stand in for it, and what validation loss tells."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from synthetic_rm.analysis.claims.judging import Verdict, both, positive, within
from synthetic_rm.analysis.claims.shape import RESAMPLES
from synthetic_rm.analysis.data_points import CHANCE, DataPoint, learnt, once_by_gold, summed_gold
from synthetic_rm.analysis.figures.style import human_count
from synthetic_rm.analysis.scaling import Estimate, estimate
from synthetic_rm.analysis.tables import number, with_interval

Floats = NDArray[np.float64]
THRESHOLD = 2_000
"""comparisons up to which the paper finds almost no gain over chance"""
NOTHING = 0.1
"""of what most comparisons gain over chance: less is almost no gain"""
SAME_GOLD = 0.1
"""of the highest gold: how much it may change per tenfold of parameters at equal loss and be called equal"""
LEAST_SETTINGS = 6
"""for a line through loss, its square and size, with settings to spare"""


def less(first: Sequence[DataPoint], second: Sequence[DataPoint], level: float) -> Estimate:
    """Mean gold of the first settings less that of the second."""
    weights = [*[1 / len(first)] * len(first), *[-1 / len(second)] * len(second)]
    return summed_gold([*first, *second], np.array(weights), level)


def share_learnt(few: Sequence[DataPoint], most: Sequence[DataPoint], level: float) -> Estimate:
    """(ln 2 - validation loss) with few comparisons over that with most, each the mean over sizes.

    Seeds are resampled within each setting; the interval is that of the draws' ratio. Not a number where most
    comparisons gain nothing either.
    """
    rng = np.random.default_rng(0)

    def gain(points: Sequence[DataPoint]) -> tuple[float, Floats]:
        draws = []
        for point in points:
            scale = np.sqrt(max(len(point.losses), 2) / (max(len(point.losses), 2) - 1))
            centre = point.losses.mean()
            picked = rng.integers(len(point.losses), size=(RESAMPLES, len(point.losses)))
            draws.append(centre + scale * (point.losses[picked].mean(axis=1) - centre))
        return CHANCE - float(np.mean([p.losses.mean() for p in points])), CHANCE - np.mean(draws, axis=0)

    (value, draws), (whole, of_whole) = gain(few), gain(most)
    return estimate(value / whole, draws / of_whole, level) if whole > 0 else Estimate(*[float("nan")] * 3)


def h4(every: Sequence[DataPoint], optimizer: str, *, level: float) -> Iterator[Verdict]:
    """H4: up to about 2,000 comparisons next to nothing is learnt, beyond more give more gold; epochs do not help.

    a. It would fail where proxies taught with `THRESHOLD` comparisons have learnt much of what those taught with most
    have, or where gold is no higher with most.
    b. With as many samples seen, few comparisons several times and many once: it would fail where the former give as
    much gold.
    """
    points = once_by_gold(every)
    counts = sorted({point.comparisons for point in points})
    few = [point for point in points if point.comparisons == THRESHOLD]
    most = [point for point in points if point.comparisons == counts[-1]] if counts else []
    if few and counts[-1] > THRESHOLD:
        share, more = share_learnt(few, most, level), less(most, few, level)
        first = {p.size: p.comparisons for p in reversed(points) if learnt(p, level)}
        told = ", ".join(
            f"{human_count(size)} from {first[size]:,}" if size in first else f"{human_count(size)} never"
            for size in sorted({point.size for point in points})
        )
        yield Verdict(
            "H4a",
            optimizer,
            f"gain over chance with {THRESHOLD:,} comparisons (ln 2 − validation loss, of that with {counts[-1]:,})",
            share,
            both(within(share, -np.inf, NOTHING), positive(more)),
            "figure_data_validation",
            f"next to nothing where it is below {NOTHING:g}; gold at n ≈ 1,000 with {counts[-1]:,} less with "
            f"{THRESHOLD:,}: {with_interval(more.value, more.lo, more.hi)}; better than chance: {told}",
        )
    yield from _epochs(every, optimizer, level=level)


def _epochs(every: Sequence[DataPoint], optimizer: str, *, level: float) -> Iterator[Verdict]:
    again = [point for point in every if point.labels == "hard" and point.epochs > 1]
    pairs = []
    for point in again:
        seen = point.comparisons * point.epochs
        known = {p.comparisons: p for p in once_by_gold(every) if p.size == point.size}
        if known and known.get(point.comparisons):
            near = min(known.values(), key=lambda p: abs(np.log(p.comparisons / seen)))
            if near.comparisons > point.comparisons:
                pairs.append((point, near, known[point.comparisons]))
    if not pairs:
        return
    repeated, unique, once = (list(part) for part in zip(*pairs, strict=True))
    gain, own = less(unique, repeated, level), less(repeated, once, level)
    conditions = {f"{p.epochs:g} × {p.comparisons:,} against {u.comparisons:,} once" for p, u, _ in pairs}
    losses = [float(np.mean([p.losses.mean() for p in part])) for part in (once, repeated, unique)]
    yield Verdict(
        "H4b",
        optimizer,
        "gold at n ≈ 1,000 with other comparisons less with the same ones again (SDs)",
        gain,
        positive(gain),
        "figure_epochs",
        f"{'; '.join(sorted(conditions))}; what seeing them again gains: {with_interval(own.value, own.lo, own.hi)}; "
        f"validation losses once, again, others: {', '.join(number(x, 4) for x in losses)}",
    )


def size_at_equal_loss(points: Sequence[DataPoint]) -> tuple[Floats, Floats]:
    """Weights [settings] of gold in what a tenfold of parameters changes: at equal validation loss, and at any.

    Least squares of gold on 1, loss, loss squared and log10 parameters; and on 1 and log10 parameters alone. Losses are
    taken as they are: they are means over seeds on thousands of held-out comparisons.
    """
    loss = np.array([point.losses.mean() for point in points])
    loss = (loss - loss.mean()) / loss.std()
    size = np.log10([point.size for point in points])
    with_loss = np.stack([np.ones_like(loss), loss, loss**2, size - size.mean()], axis=1)
    return np.linalg.pinv(with_loss)[3], np.linalg.pinv(with_loss[:, [0, 3]])[1]


def h5(every: Sequence[DataPoint], optimizer: str, *, level: float) -> Iterator[Verdict]:
    """H5: of proxies with equal validation loss gold is equal, whatever mix of size and comparisons led to it.

    It would fail where gold at n differs between sizes whose validation loss is the same.
    """
    points = once_by_gold(every)
    counts, sizes = {point.comparisons for point in points}, {point.size for point in points}
    if len(points) < LEAST_SETTINGS or min(len(counts), len(sizes)) < 2:
        return
    highest = max(float(point.gold.mean()) for point in points)
    if highest <= 0:
        return
    at_equal, at_any = (summed_gold(points, w / highest, level) for w in size_at_equal_loss(points))
    yield Verdict(
        "H5",
        optimizer,
        "change of gold at n ≈ 1,000 per tenfold of parameters, at equal validation loss (of the highest gold)",
        at_equal,
        within(at_equal, -SAME_GOLD, SAME_GOLD),
        "figure_loss_gold",
        f"{len(points)} settings; equal where it is within ±{SAME_GOLD:g}; whatever the loss: "
        f"{with_interval(at_any.value, at_any.lo, at_any.hi)}",
    )
