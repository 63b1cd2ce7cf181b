"""F6: optimizers known exactly on finitely many responses: what sampled and trained ones are held to."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from synthetic_rm.divergences import best_of_n_distribution
from synthetic_rm.finite_support import chi_squared_optimum, expected, kl_divergence, kl_optimum
from synthetic_rm.types import Curve

Floats = NDArray[np.float64]
ExactOptimizer = Callable[[Floats, Floats, float], Floats]
"""(reference [prompts, R], proxy [prompts, R], pressure) -> policy [prompts, R]; more pressure pushes harder."""


def best_of_n(reference: Floats, proxy: Floats, n: float) -> Floats:
    """F^n - F_^n of every prompt (`divergences.best_of_n_distribution`)."""
    laws = [best_of_n_distribution(p, r, n) for p, r in zip(reference, proxy, strict=True)]  # type: ignore[arg-type]
    return np.stack(laws)


def kl_regularised(reference: Floats, proxy: Floats, pressure: float) -> Floats:
    """softmax(pressure r + ln pi_0): where PPO and its relatives end with kl_coef = 1 / pressure."""
    return kl_optimum(reference, proxy, 1.0 / pressure)


def chi_squared_regularised(reference: Floats, proxy: Floats, pressure: float) -> Floats:
    """pi_0 max(pressure (r - lam), 0): inference-time pessimism (Huang et al. 2025)."""
    return chi_squared_optimum(reference, proxy, 1.0 / pressure)


EXACT: Mapping[str, ExactOptimizer] = {
    "best_of_n": best_of_n,
    "kl_regularised": kl_regularised,
    "chi_squared_regularised": chi_squared_regularised,
}
"""Every exact optimizer by name."""


def exact_policies(
    optimizer: ExactOptimizer, reference: Floats, proxy: Floats, pressures: Sequence[float] | Floats
) -> Floats:
    """The policy at every pressure, [k, prompts, R]; gold is not known here."""
    return np.stack([optimizer(reference, proxy, float(pressure)) for pressure in pressures])


def exact_curve(
    policies: Floats, reference: Floats, proxy: Floats, gold: Floats, pressures: Sequence[float] | Floats
) -> Curve:
    """What policies [k, prompts, R] are worth: KL is the mean over prompts, proxy and gold are [prompts, k]."""
    kl = np.array([kl_divergence(policy, reference).mean() for policy in policies])
    proxies, golds = (np.stack([expected(policy, r) for policy in policies], axis=1) for r in (proxy, gold))
    return Curve(np.asarray(pressures), kl, proxies, golds)
