"""F4: iterated RLHF under the paper's assumptions: alpha and beta stay the same, and distances add up (section 4.3).

With k rounds of d / k each, gold reaches k (d/k)(alpha - beta ln(d/k)) = d (alpha - beta ln d + beta ln k): beta d ln k
more than one round gives. The alpha term is not touched.

It is a world of curves, not an `Environment`: there are no prompts or tokens, and it is used directly.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthetic_rm.errors import require

Floats = NDArray[np.float64]


def iterated_gold(distance: ArrayLike, alpha: float, beta: float, rounds: ArrayLike) -> Floats:
    """R(d) = d (alpha - beta ln d + beta ln k), 0 at d = 0 (Gao et al. 2022, section 4.3).

    Args:
        distance: total distance from the first reference, sqrt(nats) as the paper adds them; any shape.
        rounds: k, broadcast with it; the reference and the proxy are made anew after every d / k.
    """
    d, k = np.asarray(distance, np.float64), np.asarray(rounds, np.float64)
    require(bool((d >= 0).all()), "distance must be non-negative")
    require(bool((k >= 1).all()), "rounds must be at least 1")
    return np.asarray(d * (alpha - beta * np.log(np.where(d > 0, d, 1.0) / k)))


def best_distance(alpha: float, beta: float, rounds: int) -> tuple[float, float]:
    """(d*, R(d*)) = (k exp(alpha/beta - 1), beta d*): k times as far and as high as one round.

    Where the slope of `iterated_gold`, alpha - beta - beta ln(d / k), is 0.
    """
    require(beta > 0, f"beta={beta}: allowed is a number above 0")
    distance = rounds * math.exp(alpha / beta - 1.0)
    return distance, beta * distance


class Rounds(NamedTuple):
    """A path of several rounds, step by step."""

    distance: Floats
    """[steps + 1] from the first reference"""
    gold: Floats
    """[steps + 1]"""
    started: NDArray[np.int64]
    """[rounds] step at which each round began"""


def simulate_rounds(alpha: float, beta: float, lengths: ArrayLike, *, steps: int = 2000) -> Rounds:
    """Walk round after round in small steps; after each, the reference is where one stands and the proxy is new.

    A step from e to e + h within a round gains gold at the single-round curve's own slope, alpha - beta - beta ln e, so
    that nothing is known of the closed form over several rounds. Steps are halved towards the start of a round, where
    the slope is infinite.

    Args:
        lengths: [rounds] distance of each round; they need not be equal.
        steps: in every round.
    """
    spans = np.asarray(lengths, np.float64)
    require(spans.ndim == 1 and spans.size > 0 and bool((spans > 0).all()), "lengths must be [rounds] numbers above 0")
    require(steps >= 2, f"steps={steps}: allowed is 2 or more")
    distance, gold, started = [0.0], [0.0], []
    for span in spans:
        started.append(len(distance) - 1)
        within = span * np.concatenate([[0.0], np.geomspace(1e-9, 1.0, steps)])
        middle = np.sqrt(np.maximum(within[:-1], 1e-12 * span) * within[1:])
        gains = np.diff(within) * (alpha - beta - beta * np.log(middle))
        distance += (distance[-1] + within[1:]).tolist()
        gold += (gold[-1] + np.cumsum(gains)).tolist()
    return Rounds(np.array(distance), np.array(gold), np.array(started))
