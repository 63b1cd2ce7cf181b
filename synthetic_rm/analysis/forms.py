"""Forms of a gold curve over the distance d = sqrt(KL), linear in (alpha, beta), each with its peak."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import wrightomega

from synthetic_rm.errors import InputError

Floats = NDArray[np.float64]


def bon(distance: ArrayLike, alpha: ArrayLike, beta: ArrayLike) -> Floats:
    """R(d) = d (alpha - beta d)"""
    d = np.asarray(distance, np.float64)
    return np.asarray(d * (alpha - np.multiply(beta, d)))


def rl(distance: ArrayLike, alpha: ArrayLike, beta: ArrayLike) -> Floats:
    """R(d) = d (alpha - beta ln d), R(0) = 0"""
    d = np.asarray(distance, np.float64)
    return np.asarray(d * (alpha - np.multiply(beta, np.log(np.where(d > 0, d, 1.0)))))


def log1p(distance: ArrayLike, alpha: ArrayLike, beta: ArrayLike) -> Floats:
    """R(d) = d (alpha - beta ln(1 + d))"""
    d = np.asarray(distance, np.float64)
    return np.asarray(d * (alpha - np.multiply(beta, np.log1p(d))))


def quadratic(distance: ArrayLike, alpha: ArrayLike, beta: ArrayLike) -> Floats:
    """R(d) = d^2 (alpha - beta d^2), a quadratic in KL = d^2"""
    kl = np.square(np.asarray(distance, np.float64))
    return np.asarray(kl * (alpha - np.multiply(beta, kl)))


def linear(distance: ArrayLike, alpha: ArrayLike, beta: ArrayLike) -> Floats:
    """R(d) = alpha d (beta is 0)"""
    d = np.asarray(distance, np.float64)
    return np.asarray(np.multiply(alpha, d) + np.zeros(np.shape(beta)))


def power(distance: ArrayLike, alpha: ArrayLike, beta: ArrayLike, gamma: float = 1.0) -> Floats:
    """R(d) = d (alpha - beta d^gamma)"""
    d = np.asarray(distance, np.float64)
    return np.asarray(d * (alpha - np.multiply(beta, d**gamma)))


def _bon_peak(alpha: Floats, beta: Floats) -> Floats:
    """d* = alpha / (2 beta)"""
    return np.maximum(alpha, 0.0) / (2.0 * beta)


def _rl_peak(alpha: Floats, beta: Floats) -> Floats:
    """d* = exp(alpha/beta - 1)"""
    return np.asarray(np.exp(alpha / beta - 1.0))


def _log1p_peak(alpha: Floats, beta: Floats) -> Floats:
    """d* = 1/w - 1 with w e^w = exp(1 - alpha/beta), the root of ln(1 + d) + d/(1 + d) = alpha/beta"""
    return np.asarray(1.0 / wrightomega(1.0 - np.maximum(alpha, 0.0) / beta) - 1.0)


def _quadratic_peak(alpha: Floats, beta: Floats) -> Floats:
    """d* = sqrt(alpha / (2 beta))"""
    return np.asarray(np.sqrt(np.maximum(alpha, 0.0) / (2.0 * beta)))


def _power_peak(alpha: Floats, beta: Floats, gamma: float = 1.0) -> Floats:
    """d* = (alpha / ((1 + gamma) beta))^(1/gamma)"""
    return np.asarray((np.maximum(alpha, 0.0) / ((1.0 + gamma) * beta)) ** (1.0 / gamma))


@dataclass(frozen=True)
class Form:
    """A form R(d) = alpha u(d) - beta v(d), and the distance of its maximum where beta > 0."""

    name: str
    predict: Callable[..., Floats]
    """(distance, alpha, beta) -> gold, broadcast; and `gamma` where there is a free exponent."""
    interior_peak: Callable[..., Floats]
    coefficients: int = 2
    free_exponent: bool = False

    @property
    def formula(self) -> str:
        """The formula, as the docstring of `predict` gives it."""
        return (self.predict.__doc__ or self.name).strip()

    def design(self, distance: ArrayLike, gamma: float | None = None) -> Floats:
        """Columns u(d), -v(d) of the regression, [points, coefficients], read off the linear `predict`."""
        columns = [self.curve(distance, 1.0, 0.0, gamma), self.curve(distance, 0.0, 1.0, gamma)]
        return np.stack(columns[: self.coefficients], axis=-1)

    def curve(self, distance: ArrayLike, alpha: ArrayLike, beta: ArrayLike, gamma: float | None = None) -> Floats:
        """R(d) at the given coefficients, broadcast over all of them."""
        return self.predict(distance, alpha, beta, *self._exponent(gamma))

    def peak(self, alpha: ArrayLike, beta: ArrayLike, gamma: float | None = None) -> tuple[Floats, Floats]:
        """(d*, R(d*)): where the form is largest on d >= 0, and its value there.

        Both are inf where the form rises without end (beta < 0, or beta = 0 with alpha > 0) and 0 where it
        never rises.

        Args:
            alpha: any shape.
            beta: any shape that broadcasts with it.
            gamma: the exponent of a form that has one.
        Returns:
            Two arrays of the broadcast shape.
        """
        a, b = np.broadcast_arrays(np.asarray(alpha, np.float64), np.asarray(beta, np.float64))
        with np.errstate(over="ignore", divide="ignore"):
            inner = self.interior_peak(a, np.where(b > 0, b, 1.0), *self._exponent(gamma))
            distance = np.select([b > 0, (b < 0) | (a > 0)], [inner, np.inf], 0.0)
            finite = np.isfinite(distance)
            top = self.curve(np.where(finite, distance, 0.0), a, b, gamma)
        return distance, np.where(finite, top, np.inf)

    def _exponent(self, gamma: float | None) -> tuple[float, ...]:
        return (gamma,) if self.free_exponent and gamma is not None else ()


FORMS: dict[str, Form] = {
    form.name: form
    for form in (
        Form("bon", bon, _bon_peak),
        Form("rl", rl, _rl_peak),
        Form("log1p", log1p, _log1p_peak),
        Form("quadratic", quadratic, _quadratic_peak),
        Form("linear", linear, _bon_peak, coefficients=1),
        Form("power", power, _power_peak, free_exponent=True),
    )
}
"""Every form by name: "bon" and "rl" are the paper's "log1p" and "power" its App. B, the rest rivals."""


def find_form(form: str) -> Form:
    """The form of that name.

    Raises:
        InputError: there is none.
    """
    if form not in FORMS:
        raise InputError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
    return FORMS[form]
