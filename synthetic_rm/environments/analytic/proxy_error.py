"""F4: a proxy that is gold plus an error, under best-of-n and tilting: Gaussian, bounded and heavy-tailed.

Gold X ~ N(0, 1) over responses of the reference; the proxy is U = slope X + scale spread(X) Z. Independent error has
slope 1 and constant spread; slope 1 + c is an error whose regression on gold is c (correlated error); a spread that
depends on X is heteroscedastic error. For independent error, by Stein's identity and Tweedie's formula,

    E[X | U >= t] = f_U(t) / P(U >= t),      E[X | U = c] = -f_U'(c) / f_U(c):

conditioning on a high proxy buys gold at the hazard rate of the proxy. Normal error: both rise without end. The hazard
of a heavy tail goes to 0, and gold with it (catastrophic Goodhart, Kwa et al. 2024).

It is a world of curves without prompts or tokens, used directly. Draws of it, [prompts, responses], are tables of proxy
and gold on `Tabular`, an `Environment` on which every optimizer runs.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from synthetic_rm.divergences import best_of_n_kl
from synthetic_rm.environments.analytic.error_laws import CONSTANT, Spread, Tail, require_positive
from synthetic_rm.errors import InputError, require
from synthetic_rm.types import Curve

Floats = NDArray[np.float64]
WIDEST = 13.0
"""gold is integrated over [-13, 13]"""
PANELS, POINTS = 120, 6
GRID = 3001
TINY = 1e-40
"""mass of the tail of the error beyond the grid"""


@dataclass(frozen=True)
class ProxyError:
    """U = slope X + spread(X) Z."""

    error: Tail
    slope: float = 1.0
    scale: float = 1.0
    spread: Spread = CONSTANT

    def __post_init__(self) -> None:
        require_positive("scale", self.scale)
        require(math.isfinite(self.slope), f"slope={self.slope}: allowed is a finite number")

    @property
    def independent(self) -> bool:
        """The spread is constant and the slope above 0: what follows is then exact up to rounding."""
        return self.spread is CONSTANT and self.slope > 0

    @property
    def xi(self) -> float:
        """Extreme value index of the proxy: the error's where its tail is a power, else 0, that of normal gold."""
        return max(self.error.xi, 0.0)

    def sample(self, rng: np.random.Generator, size: int | tuple[int, ...]) -> tuple[Floats, Floats]:
        """Draws of (proxy, gold) over responses of the reference, each [size]."""
        gold = rng.standard_normal(size)
        noise = np.asarray(self.error.law.rvs(size=size, random_state=rng))
        return self.slope * gold + self.scale * self.spread.of(gold) * noise, gold

    def _nodes(self, cut: Floats) -> tuple[Floats, Floats, Floats]:
        """Gold values [C, M], their weights under N(0, 1), and the gold above which U >= cut is certain [C].

        Gauss-Legendre panels that end wherever an integrand has a jump or a kink.
        """
        edge = np.full(cut.shape, WIDEST)
        if self.independent:
            least, most = (self.scale * end for end in self.error.law.support())
            ends = [np.clip((cut - end) / self.slope, -WIDEST, WIDEST) for end in (most, least)]
        else:
            inner = [np.full(cut.shape, at) for at in self.spread.breaks]
            ends = [-edge, *inner, np.clip(cut / (self.slope or np.inf), -WIDEST, WIDEST), edge]
        bounds = np.sort(np.stack(ends, axis=-1), axis=-1)
        place, weight = np.polynomial.legendre.leggauss(POINTS)
        panels = PANELS // (len(ends) - 1)
        at = ((np.arange(panels)[:, None] + 0.5 * (place + 1)) / panels).ravel()
        width = np.diff(bounds, axis=-1)[..., None]
        x = (bounds[:, :-1, None] + width * at).reshape(cut.size, -1)
        each = (width * np.tile(0.5 * weight / panels, panels)).reshape(cut.size, -1)
        certain = ends[1] if self.independent else edge
        return x, each * stats.norm.pdf(x), np.where(certain < WIDEST, certain, np.inf)

    def above(self, cut: ArrayLike) -> tuple[Floats, Floats]:
        """P(U >= c) and E[X; U >= c]: cut [C] -> two arrays [C]."""
        cuts = np.asarray(cut, np.float64)
        mass, gold = np.empty(cuts.size), np.empty(cuts.size)
        for start in range(0, cuts.size, 500):
            part = slice(start, start + 500)
            x, weight, certain = self._nodes(cuts[part])
            with np.errstate(divide="ignore"):
                noise = (cuts[part, None] - self.slope * x) / (self.scale * self.spread.of(x))
            share = weight * self.error.law.sf(noise)
            mass[part] = share.sum(-1) + stats.norm.sf(certain)
            gold[part] = (share * x).sum(-1) + stats.norm.pdf(certain)
        return np.clip(mass, 0.0, 1.0), gold

    def at(self, score: ArrayLike) -> tuple[Floats, Floats]:
        """f_U(c) and E[X | U = c]: score [C] -> two arrays [C]. The spread must be above 0 everywhere.

        The mean is int (c - z) f_X(c - z) f_Z(z) dz / int f_X(c - z) f_Z(z) dz. Of independent error of mean 0 it is
        c / (1 + scale^2), exactly where the error is normal, and up to o(scale^2) where it is bounded: the regressional
        identity (Gao et al. 2022, equation 1).
        """
        cuts = np.asarray(score, np.float64)
        x, weight, _ = self._nodes(cuts)
        spread = self.scale * self.spread.of(x)
        require(bool((spread > 0).all()), f"spread {self.spread.name}: allowed here is one above 0 everywhere")
        share = weight * self.error.law.pdf((cuts[:, None] - self.slope * x) / spread) / spread
        density = share.sum(-1)
        return density, (share * x).sum(-1) / density

    @cached_property
    def grid(self) -> tuple[Floats, Floats, Floats]:
        """c [GRID], evenly spaced in asinh(c), with P(U >= c) and E[X | U >= c]."""
        widest = self.scale * float(np.max(self.spread.of(np.linspace(-WIDEST, WIDEST, 2001))))
        reach = abs(self.slope) * WIDEST
        low, high = (widest * float(edge) for edge in (self.error.law.ppf(1e-12), self.error.law.isf(TINY)))
        cut = np.sinh(np.linspace(np.arcsinh(low - reach), np.arcsinh(high + reach), GRID))
        mass, gold = self.above(cut)
        kept = mass > 0
        return cut[kept], mass[kept], gold[kept] / mass[kept]

    def best_of_n(self, ns: ArrayLike) -> Curve:
        """The best-of-n curve, exact up to the grid (about 1e-4); proxy and gold [1, k], KL ln n - (n - 1)/n.

        The winner exceeds the second best S of n and is otherwise a draw above it, so that E X_n = E E[X | U >= S];
        P(S >= c) = 1 - F^n - n F^(n-1) (1 - F). Gold needs no density, and n may be any number from 1 on.

        Args:
            ns: [k].
        """
        sizes = np.asarray(ns, np.float64)
        nats = best_of_n_kl(sizes)
        cut, mass, given = self.grid
        with np.errstate(divide="ignore", invalid="ignore"):
            log_below = np.log1p(-mass)
            best = -np.expm1(sizes[:, None] * log_below)
            others = np.where(sizes[:, None] > 1, np.exp((sizes[:, None] - 1) * log_below), 1.0)
        second = np.clip(best - sizes[:, None] * mass * others, 0.0, 1.0)
        means = 0.5 * (given[1:] + given[:-1])
        gold = (second[:, :-1] - second[:, 1:]) @ means + second[:, -1] * given[-1]
        proxy = cut[0] + np.trapezoid(best, cut, axis=1)
        finite = np.isfinite(self.error.law.mean())
        return Curve(sizes, nats, (proxy if finite else np.full(sizes.size, np.inf))[None], gold[None])

    def tilted(self, lams: ArrayLike) -> Curve:
        """pi ~ exp(lam U) pi_0, the KL-regularised optimum at coefficient 1 / lam: gold lam slope.

        KL = lam E U - ln E_0 e^(lam U), of which the error takes its own part and gives gold nothing.

        Args:
            lams: [k], pressure.
        Raises:
            InputError: the error is heavy-tailed (there is no such policy) or not independent.
        """
        lam = np.asarray(lams, np.float64)
        law = self.error
        if law.cumulant is None or law.slope is None:
            raise InputError(f"error={law.name}: E exp(lam U) is infinite, so nothing can be tilted by this proxy")
        require(self.independent, "tilting is given for independent error only")
        noise = self.scale * law.slope(self.scale * lam)
        kl = 0.5 * (lam * self.slope) ** 2 + lam * noise - law.cumulant(self.scale * lam)
        return Curve(lam, kl, (self.slope**2 * lam + noise)[None], (self.slope * lam)[None])

    def price(self, gain: float, thresholds: ArrayLike) -> Floats:
        """KL of the policy that draws from U >= t with probability delta, else from pi_0, such that E U = gain.

        KL = q ln(q / p) + (1 - q) ln((1 - q) / (1 - p)), p = P(U >= t), q = p + delta (1 - p). As t grows it goes to 0
        where the error is heavy-tailed: any proxy score is had for next to no KL (Kwa et al. 2024, theorem 1).

        Args:
            gain: the mean proxy score to reach, above 0.
            thresholds: [k].
        Returns:
            [k] nats; nan where U >= t is too little for the gain.
        """
        require_positive("gain", gain)
        cut, mass, _ = self.grid
        steps = np.diff(cut) * 0.5 * (mass[1:] + mass[:-1])
        beyond = np.concatenate([np.cumsum(steps[::-1])[::-1], [0.0]])
        at = np.asarray(thresholds, np.float64)
        p, rest = (np.exp(np.interp(at, cut[:-1], np.log(values[:-1]))) for values in (mass, beyond))
        delta = gain / (at + rest / p)
        delta = np.where((delta > 0) & (delta <= 1), delta, np.nan)
        q = p + delta * (1 - p)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(q * np.log(q / p) + np.where(q < 1, (1 - q) * np.log((1 - q) / (1 - p)), 0.0))
