"""Curves whose points lie at distances of their own, seed by seed, brought to common distances."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LEAST = 3
"""points of a curve"""


class RunPoints(NamedTuple):
    """The points of one run, in the order they were reached; K differs from run to run."""

    pressure: Floats
    """[K] rising"""
    kl: Floats
    """[K] nats"""
    proxy: Floats
    """[K, prompts]"""
    gold: Floats
    """[K, prompts]"""


class Aligned(NamedTuple):
    """Runs at common distances."""

    pressure: Floats
    """[K] mean over the runs"""
    kl: Floats
    """[K] nats"""
    proxy: Floats
    """[runs, K, prompts]"""
    gold: Floats
    """[runs, K, prompts]"""


def advancing(points: RunPoints) -> RunPoints:
    """The points at which a run was further from the reference than ever before."""
    before = np.concatenate([[-np.inf], np.maximum.accumulate(points.kl)[:-1]])
    return RunPoints(*(values[points.kl > before] for values in points))


def align(runs: Sequence[RunPoints]) -> Aligned:
    """Runs at distances d = sqrt(KL) spread evenly up to the largest that all of them reached.

    As many distances as the run with most points has up to there. Between the two nearest points of a run everything
    is linear in d; where a run turned back, its points count only where they reached a new distance (`advancing`).
    """
    kept = [advancing(points) for points in runs]
    distances = [np.sqrt(points.kl) for points in kept]
    end = min(d[-1] for d in distances)
    count = max(LEAST, *(int((d <= end * (1 + 1e-9)).sum()) for d in distances))
    grid = np.linspace(0.0, end, count)

    def at_grid(values: Floats, d: Floats) -> Floats:
        """values [K, ...] at the grid's distances."""
        if len(d) == 1:
            return np.repeat(values, count, axis=0)
        right = np.clip(np.searchsorted(d, grid), 1, len(d) - 1)
        share = np.clip((grid - d[right - 1]) / (d[right] - d[right - 1]), 0.0, 1.0)
        share = share.reshape(-1, *(1,) * (values.ndim - 1))
        return np.asarray((1 - share) * values[right - 1] + share * values[right])

    pressure, proxy, gold = (
        np.stack([at_grid(getattr(points, name), d) for points, d in zip(kept, distances, strict=True)])
        for name in ("pressure", "proxy", "gold")
    )
    return Aligned(pressure.mean(0), np.square(grid), proxy, gold)
