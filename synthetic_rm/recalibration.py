"""F1: the scale of a proxy's logits, found on held-out comparisons (paper, section 2.2)."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar


def recalibration_factor(proxy_margins: ArrayLike, gold_margins: ArrayLike) -> float:
    """argmin_s mean CE(s(gold margin), s(s * proxy margin)), s the logistic function, over pairs of responses.

    The objective is convex in s; its minimum is found by bracketed scalar minimisation. The factor is negative
    where the proxy orders the pairs against gold: it serves the scale on which a proxy is shown, never its ranking.

    Args:
        proxy_margins, gold_margins: differences of logits, of one shape; gold's on its native scale.
    Returns:
        The factor; NaN where there is none: a margin is not finite, or all of the proxy's are equal.
    """
    proxy, gold = (np.asarray(x, np.float64).ravel() for x in (proxy_margins, gold_margins))
    if not (np.isfinite(proxy).all() and np.isfinite(gold).all()) or np.ptp(proxy) == 0:
        return float("nan")
    spread = proxy.std()
    target = 0.5 * (1 + np.tanh(gold / 2))

    def cross_entropy(scale: float) -> float:
        margin = scale * proxy / spread
        return float(np.mean(np.logaddexp(0.0, margin) - target * margin))

    return float(minimize_scalar(cross_entropy, bounds=(-20.0, 20.0), method="bounded").x / spread)
