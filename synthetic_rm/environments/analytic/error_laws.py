"""F4: laws of a proxy's error: how heavy its tail is, and how its deviation depends on gold."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit

from synthetic_rm.errors import require

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Tail:
    """The law of the error: mean 0 where it has one."""

    name: str
    law: "stats.distributions.rv_frozen"
    heavy: bool
    """E exp(lam Z) = inf for every lam > 0"""
    cumulant: Callable[[Floats], Floats] | None = None
    """lam -> ln E exp(lam Z), where it is finite"""
    slope: Callable[[Floats], Floats] | None = None
    """its derivative"""
    xi: float = 0.0
    """extreme value index of the upper tail: below 0 where it is bounded, above 0 where it falls like a power"""


def _uniform_cumulant(lam: Floats) -> Floats:
    """ln(sinh(x) / x), x = sqrt(3) lam."""
    x = math.sqrt(3.0) * np.maximum(lam, 1e-9)
    return np.asarray(x + np.log(-np.expm1(-2 * x) / (2 * x)))


def _uniform_slope(lam: Floats) -> Floats:
    """sqrt(3) (coth x - 1 / x)."""
    x = math.sqrt(3.0) * np.maximum(lam, 1e-5)
    return np.asarray(math.sqrt(3.0) * (1 / np.tanh(x) - 1 / x))


def normal() -> Tail:
    """N(0, 1)."""
    return Tail("normal", stats.norm(), False, lambda lam: 0.5 * lam**2, lambda lam: 1.0 * lam)


def bounded() -> Tail:
    """Uniform on [-sqrt(3), sqrt(3)]: variance 1."""
    law = stats.uniform(-math.sqrt(3.0), 2 * math.sqrt(3.0))
    return Tail("bounded", law, False, _uniform_cumulant, _uniform_slope, xi=-1.0)


def student_t(freedom: float = 3.0) -> Tail:
    """Student's t, of variance 1 where it has one (freedom above 2); xi = 1 / freedom."""
    require_positive("freedom", freedom)
    scale = math.sqrt((freedom - 2) / freedom) if freedom > 2 else 1.0
    return Tail(f"student_t({freedom:g})", stats.t(freedom, scale=scale), True, xi=1.0 / freedom)


def lognormal(sigma: float = 1.0) -> Tail:
    """exp(sigma N(0, 1)), moved and scaled to mean 0 and variance 1: heavier than exponential, lighter than a power."""
    require_positive("sigma", sigma)
    law = stats.lognorm(sigma)
    scale = 1.0 / float(law.std())
    return Tail(f"lognormal({sigma:g})", stats.lognorm(sigma, loc=-scale * float(law.mean()), scale=scale), True)


def pareto(index: float = 1.5) -> Tail:
    """P(Z + c > z) = z^(-index), z >= 1, c the mean where there is one (index above 1), else 1; xi = 1 / index."""
    require_positive("index", index)
    centre = index / (index - 1) if index > 1 else 1.0
    return Tail(f"pareto({index:g})", stats.pareto(index, loc=-centre), True, xi=1.0 / index)


def require_positive(name: str, value: float) -> None:
    """Refuse what is no finite number above 0."""
    require(math.isfinite(value) and value > 0, f"{name}={value}: allowed is a finite number above 0")


TAILS: dict[str, Callable[..., Tail]] = {
    "normal": normal,
    "bounded": bounded,
    "student_t": student_t,
    "lognormal": lognormal,
    "pareto": pareto,
}
"""Every law of the error by name."""


class Spread(NamedTuple):
    """How the deviation of the error depends on gold."""

    name: str
    of: Callable[[Floats], Floats]
    """gold -> factor on the error, 0 or more"""
    breaks: tuple[float, ...] = ()
    """values of gold where it jumps"""


CONSTANT = Spread("constant", np.ones_like)
BLIND_IN_THE_MIDDLE = Spread("2 where |X| <= 1, else 0", lambda x: np.where(np.abs(x) <= 1, 2.0, 0.0), (-1.0, 1.0))
"""light-tailed error, and only of ordinary responses"""
BLIND_AT_THE_BOTTOM = Spread("2 / (1 + exp(2 X))", lambda x: np.asarray(2.0 * expit(-2.0 * x)))
"""the worse a response, the less the proxy knows of it"""
