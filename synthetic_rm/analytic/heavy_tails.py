"""F7: the curves of `+experiment=heavy_tails`: gold plus an error of light or heavy tail, nothing trained."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from synthetic_rm.analytic.records import AnalyticCurve
from synthetic_rm.environments.analytic.error_laws import (
    BLIND_AT_THE_BOTTOM,
    BLIND_IN_THE_MIDDLE,
    bounded,
    lognormal,
    normal,
    pareto,
    student_t,
)
from synthetic_rm.environments.analytic.proxy_error import ProxyError
from synthetic_rm.errors import InputError
from synthetic_rm.estimators import best_of_n_curve
from synthetic_rm.tails import tail_index

TAILED: Mapping[str, ProxyError] = {
    world.error.name: world
    for world in map(ProxyError, (normal(), bounded(), lognormal(1.0), student_t(3.0), pareto(1.5), pareto(0.5)))
}
"""independent errors, from light to heavy"""
DEPENDENT: Mapping[str, ProxyError] = {
    "independent, normal": ProxyError(normal()),
    "correlated: slope 0.5": ProxyError(normal(), slope=0.5),
    "correlated: slope −0.2": ProxyError(normal(), slope=-0.2),
    "blind in the middle": ProxyError(normal(), spread=BLIND_IN_THE_MIDDLE),
    "blind at the bottom": ProxyError(normal(), spread=BLIND_AT_THE_BOTTOM),
}
"""normal errors that depend on gold"""
NS = np.exp(np.linspace(0, 17, 69))
DRAWN_NS = np.array([1, 2, 4, 10, 30, 100, 400, 1600])
POOLS, DRAWS = 64, 4096
LAMS = np.geomspace(0.02, 5.0, 40)
SHARES = np.geomspace(2e-4, 0.1, 16)
"""of the largest scores that a tail index is estimated from"""
GAIN = 1.0
"""of mean proxy score, whose price in KL is asked"""


def best_of_n_curves(seed: int = 0) -> Iterator[AnalyticCurve]:
    """Of every world by quadrature, and from drawn responses by the package's unbiased estimator."""
    rng = np.random.default_rng(seed)
    for group, worlds in (("tail of the error", TAILED), ("dependent error", DEPENDENT)):
        for series, world in worlds.items():
            name = f"gold + {world.error.name} error"
            extra = {"group": group, "slope": world.slope, "spread": world.spread.name}
            exact = world.best_of_n(NS)
            yield AnalyticCurve(name, "best_of_n", "quadrature", exact, series, extra=extra)
            proxy, gold = best_of_n_curve(*world.sample(rng, (POOLS, DRAWS)), DRAWN_NS)
            drawn = exact._replace(pressure=DRAWN_NS, kl=world.best_of_n(DRAWN_NS).kl, proxy=proxy, gold=gold)
            counts = {"num_prompts": POOLS, "num_samples": DRAWS}
            yield AnalyticCurve(name, "best_of_n", "simulated draws", drawn, series, extra=extra, **counts)


def tilted_curves() -> Iterator[AnalyticCurve]:
    """The KL-regularised optimum of the independent errors that have one."""
    for series, world in TAILED.items():
        try:
            curve = world.tilted(LAMS)
        except InputError:
            continue
        extra = {"group": "tail of the error", "slope": world.slope, "spread": world.spread.name, "kl_coef": 1 / LAMS}
        name = f"gold + {world.error.name} error"
        yield AnalyticCurve(name, "kl_regularised", "closed form", curve, series, extra=extra)


def heavy_tails_curves() -> Iterator[AnalyticCurve]:
    """Every curve of the experiment."""
    yield from best_of_n_curves()
    yield from tilted_curves()


def price_table() -> pd.DataFrame:
    """KL for a mean proxy score of `GAIN` by drawing more often from U >= t: columns series, mass (of U >= t), kl."""
    rows = []
    for series, world in TAILED.items():
        if not np.isfinite(world.error.law.mean()):
            continue
        cut, mass, _ = world.grid
        chosen = np.searchsorted(-mass, -np.geomspace(0.3, 1e-12, 60))
        kl = world.price(GAIN, cut[chosen])
        rows.append(pd.DataFrame({"series": series, "mass": mass[chosen], "kl": kl}))
    return pd.concat(rows, ignore_index=True)


def tail_table(seed: int = 1, repeats: int = 20, draws: int = 50_000) -> pd.DataFrame:
    """Tail indices of drawn proxy scores against the share of the scores used: the mean and deviation over repeats."""
    rng = np.random.default_rng(seed)
    rows = []
    for series, world in TAILED.items():
        proxy, _ = world.sample(rng, (repeats, draws))
        counts = [max(2, round(share * draws)) for share in SHARES]
        largest = np.sort(proxy - np.median(proxy), axis=1)[:, -max(counts) - 1 :]
        for share, k in zip(SHARES, counts, strict=True):
            found = tail_index(largest, k)
            rows.append(
                {
                    "series": series,
                    "share": share,
                    "k": k,
                    "hill": found.hill.mean(),
                    "hill_deviation": found.hill.std(ddof=1),
                    "hill_se": found.hill_se.mean(),
                    "moment": found.moment.mean(),
                    "moment_deviation": found.moment.std(ddof=1),
                    "xi": world.xi,
                }
            )
    return pd.DataFrame(rows)
