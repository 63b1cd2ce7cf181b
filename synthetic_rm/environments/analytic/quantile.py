"""F4: worlds in which gold is a function g(u) of the proxy's quantile u, and every optimizer's best pressure a root.

They are worlds of curves without prompts or tokens, used directly. Draws of one, [prompts, responses], are tables of
proxy and gold on `Tabular`, an `Environment` on which every optimizer runs.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from synthetic_rm.errors import require
from synthetic_rm.quantile_policies import FAMILIES, Family, gold_slope, integral, kl, nodes
from synthetic_rm.types import Curve

Floats = NDArray[np.float64]
SCAN = 40
"""pressures at which the slope is looked at before a root is bracketed"""


class Regime(NamedTuple):
    """How gold runs as the pressure grows (Khalaf et al. 2025).

    Of a family whose likelihood ratios are monotone gold turns no more often than g does.
    """

    kind: str
    """"rises", "falls", "rises, then falls", "falls, then rises" or "turns more than once\""""
    threshold: float
    """pressure at the only turn: the hacking threshold where gold rises before it; nan elsewhere"""


@dataclass(frozen=True)
class QuantileWorld:
    """Gold of a response at proxy quantile u is g(u); the proxy's score is u itself."""

    name: str
    gold: Callable[[Floats], Floats]

    def sample(self, rng: np.random.Generator, size: int | tuple[int, ...]) -> tuple[Floats, Floats]:
        """Draws of (proxy, gold) over responses of the reference, each [size]: u, uniform on [0, 1], and g(u)."""
        u = rng.random(size)
        return u, self.gold(u)

    def curve(self, family: Family, pressures: ArrayLike) -> Curve:
        """The family's policies at pressures [k]: KL [k], proxy and gold [1, k], gold less that of the reference."""
        thetas = np.asarray(pressures, np.float64)
        u, _ = nodes()
        gold = self.gold(u)
        laws = [family.density(u, float(theta)) for theta in thetas]
        proxy = np.array([[integral(u * q) for q in laws]])
        gain = np.array([[integral(gold * q) for q in laws]]) - integral(gold)
        return Curve(thetas, np.array([kl(q) for q in laws]), proxy, gain)

    def regime(self, family: Family, largest: float = 1e4) -> Regime:
        """Rise and fall of gold up to the pressure `largest`, its turn found as a root of E_q[g d ln q / d theta].

        HedgeTune (Khalaf et al. 2025). For best-of-n, n is any number from 1 on.
        """
        low = max(family.least, 1e-3)
        require(low < largest < math.inf, f"largest={largest:g}: allowed is a finite number above {low:g}")
        scan = np.geomspace(low, largest, SCAN)
        slopes = np.array([gold_slope(family, self.gold, float(theta)) for theta in scan])
        turns = np.flatnonzero(slopes[:-1] * slopes[1:] < 0)
        if turns.size == 0:
            return Regime("rises" if slopes.sum() > 0 else "falls", math.nan)
        if turns.size > 1:
            return Regime("turns more than once", math.nan)
        at = int(turns[0])
        root = brentq(lambda theta: gold_slope(family, self.gold, theta), scan[at], scan[at + 1], xtol=1e-10)
        return Regime("rises, then falls" if slopes[at] > 0 else "falls, then rises", float(root))


def peaked(power: float) -> QuantileWorld:
    """g(u) = u^p (1 - u) / C, C such that its largest value is 1.

    C = (p / (p + 1))^p / (p + 1). Under best-of-n gold is n / (C (n + p)(n + p + 1)), largest at n = sqrt(p (p + 1)).
    The toy gold of Khalaf et al. (2025); the optimum follows from its mean.
    """
    require(math.isfinite(power) and power > 0, f"power={power}: allowed is a finite number above 0")
    top = (power / (power + 1.0)) ** power / (power + 1.0)
    return QuantileWorld(f"u^{power:g} (1 - u)", lambda u: np.asarray(u**power * (1.0 - u) / top))


def best_n(power: float) -> float:
    """n = sqrt(p (p + 1)): where best-of-n is best in `peaked(p)` (the world of Khalaf et al. 2025).

    The root of d/dn of n / ((n + p)(n + p + 1)), as a real number; below 1 there is no turn.
    """
    return math.sqrt(power * (power + 1.0))


def family_named(name: str) -> Family:
    """The family of that name.

    Raises:
        InputError: there is none.
    """
    require(name in FAMILIES, f"family={name!r}: allowed are {', '.join(FAMILIES)}")
    return FAMILIES[name]
