"""F1: exact quantities of policies over finitely many responses, and the closed forms of regularised optima.

Shapes: R responses on the last axis; leading axes, such as prompts, are shared by all arguments. KL is in nats.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp, rel_entr

from synthetic_rm.errors import require

Floats = NDArray[np.float64]


def _policies(**given: ArrayLike) -> list[Floats]:
    """Distributions [..., R] as float64, checked to be such and of one shape."""
    arrays = {name: np.asarray(value, np.float64) for name, value in given.items()}
    shapes = [array.shape for array in arrays.values()]
    require(
        len(set(shapes)) == 1 and len(shapes[0]) > 0 and shapes[0][-1] > 0,
        f"{' and '.join(arrays)} must be of one shape [..., R], got {', '.join(map(str, shapes))}",
    )
    for name, array in arrays.items():
        require(bool((array >= 0).all()), f"{name} must be non-negative numbers, got a negative one or nan")
        total = array.sum(axis=-1)
        bad = total[~(np.abs(total - 1.0) <= 1e-6)]
        require(bad.size == 0, f"{name} must sum to 1 over responses, got {bad.ravel()[:1]}")
    return list(arrays.values())


def _scores(scores: ArrayLike, shape: tuple[int, ...]) -> Floats:
    values = np.asarray(scores, np.float64)
    require(values.shape == shape, f"scores must be of shape {shape}, got {values.shape}")
    require(bool(np.isfinite(values).all()), "scores must be finite, got nan or inf")
    return values


def _coefficient(name: str, value: float) -> None:
    require(bool(np.isfinite(value)) and value > 0, f"{name}={value}: allowed is a finite number above 0")


def expected(policy: ArrayLike, scores: ArrayLike) -> Floats:
    """E_pi r = sum_y pi(y) r(y): policy, scores [..., R] -> [...]."""
    (pi,) = _policies(policy=policy)
    return np.asarray((pi * _scores(scores, pi.shape)).sum(axis=-1))


def kl_divergence(policy: ArrayLike, reference: ArrayLike) -> Floats:
    """KL(pi || pi_0) = sum_y pi ln(pi / pi_0), in nats.

    Args:
        policy, reference: [..., R].
    Returns:
        [...]; inf where the policy says what the reference cannot.
    Raises:
        InputError: shapes differ, or a row is no distribution.
    """
    return np.asarray(rel_entr(*_policies(policy=policy, reference=reference)).sum(axis=-1))


def chi_squared(policy: ArrayLike, reference: ArrayLike) -> Floats:
    """chi^2(pi || pi_0) = sum_y (pi - pi_0)^2 / pi_0 = E_pi[pi / pi_0] - 1: arguments and errors of `kl_divergence`."""
    pi, start = _policies(policy=policy, reference=reference)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = (pi - start) ** 2 / start
    return np.asarray(np.where(pi == start, 0.0, terms).sum(axis=-1))


def win_rate(policy: ArrayLike, reference: ArrayLike, scores: ArrayLike) -> Floats:
    """P(r(y) > r(y')) + P(r(y) = r(y')) / 2, y drawn from the policy, y' from the reference.

    Of best-of-n against its reference n/(n + 1) where no scores tie, by the proxy's own scores (Beirami et al. 2024).

    Args:
        policy, reference, scores: [..., R].
    Returns:
        [...].
    Raises:
        InputError: shapes differ, a row is no distribution, or a score is not finite.
    """
    pi, start = _policies(policy=policy, reference=reference)
    values = _scores(scores, pi.shape)
    order = np.argsort(values, axis=-1)
    ours, theirs, ranked = (np.take_along_axis(x, order, axis=-1) for x in (pi, start, values))
    first = np.concatenate([np.ones_like(ranked[..., :1], bool), ranked[..., 1:] != ranked[..., :-1]], axis=-1)
    level = np.cumsum(first.ravel()) - 1  # rows start levels of their own
    mass = np.bincount(level, weights=theirs.ravel())[level].reshape(theirs.shape)
    whole = np.cumsum(theirs, axis=-1)
    below = np.maximum.accumulate(np.where(first, whole - theirs, 0.0), axis=-1)
    return np.asarray((ours * (below + 0.5 * mass)).sum(axis=-1))


def kl_optimum(reference: ArrayLike, scores: ArrayLike, beta: float) -> Floats:
    """argmax_pi E_pi r - beta KL(pi || pi_0) = softmax(r / beta + ln pi_0).

    The maximum is beta ln E_pi0 exp(r / beta) (the Gibbs variational principle; Korbak et al. 2022 for RLHF).

    Args:
        reference, scores: [..., R].
        beta: the KL coefficient, in units of the score.
    Returns:
        The policy, [..., R].
    Raises:
        InputError: shapes differ, a row is no distribution, a score is not finite, or beta is not above 0.
    """
    (start,) = _policies(reference=reference)
    values = _scores(scores, start.shape)
    _coefficient("beta", beta)
    with np.errstate(divide="ignore"):
        logits = values / beta + np.log(start)
    return np.asarray(np.exp(logits - logsumexp(logits, axis=-1, keepdims=True)))


def chi_squared_optimum(reference: ArrayLike, scores: ArrayLike, beta: float) -> Floats:
    """argmax_pi E_pi r - (beta / 2) chi^2(pi || pi_0) = pi_0 max(r - lam, 0) / beta, lam such that it sums to 1.

    The policy that inference-time pessimism samples from (Huang et al. 2025). lam is found exactly: were the m best
    responses those kept, it would be (sum of pi_0 r over them - beta) / (their mass); the largest m that keeps its own
    last response is right.

    Args:
        reference, scores: [..., R].
        beta: the coefficient, in units of the score.
    Returns:
        The policy, [..., R]: exactly 0 for responses that score below lam.
    Raises:
        InputError: as `kl_optimum`.
    """
    (start,) = _policies(reference=reference)
    values = _scores(scores, start.shape)
    _coefficient("beta", beta)
    order = np.argsort(-values, axis=-1)
    mass, ranked = (np.take_along_axis(x, order, axis=-1) for x in (start, values))
    ranked = ranked - values.max(axis=-1, keepdims=True)
    total = np.cumsum(mass, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        levels = (np.cumsum(mass * ranked, axis=-1) - beta) / total
    kept = (total > 0) & (ranked > levels)
    last = values.shape[-1] - 1 - np.argmax(kept[..., ::-1], axis=-1)
    level = np.take_along_axis(levels, last[..., None], axis=-1)
    weight = start * np.maximum(values - values.max(axis=-1, keepdims=True) - level, 0.0)
    return np.asarray(weight / weight.sum(axis=-1, keepdims=True))
