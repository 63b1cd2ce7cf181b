"""F7: the curves of `+experiment=oracle`: worlds where the right answer is known, nothing trained."""

from collections.abc import Iterator

import numpy as np
from scipy.optimize import brentq

from synthetic_rm.analytic.records import AnalyticCurve
from synthetic_rm.divergences import best_of_n_kl
from synthetic_rm.environments.analytic.iterated import iterated_gold, simulate_rounds
from synthetic_rm.environments.analytic.quantile import peaked
from synthetic_rm.finite_support import chi_squared, win_rate
from synthetic_rm.optimizers.exact import EXACT, exact_curve, exact_policies
from synthetic_rm.quantile_policies import FAMILIES, integral, kl, nodes, tilting
from synthetic_rm.types import Curve

PROMPTS, RESPONSES = 32, 512
ALPHA, BETA = 0.35, 0.15
"""of the iterated process; about what the paper's RL curves have"""
ROUNDS = (1, 2, 4, 8)
FARTHEST = 16.0
"""distance up to which rounds are walked"""
POWER = 12.0
"""of the quantile world u^p (1 - u): best-of-n is best at n = 12.49"""
PRESSURES = {
    "best_of_n": np.unique(np.round(np.geomspace(1, 3000, 40))),
    "kl_regularised": np.geomspace(0.02, 40, 40),
    "chi_squared_regularised": np.geomspace(0.02, 400, 40),
}
THETAS = {
    "best_of_n": np.geomspace(1, 1500, 60),
    "soft_best_of_n": np.geomspace(0.05, 900, 60),
    "best_of_poisson": np.geomspace(0.02, 1500, 60),
    "tilting": np.geomspace(0.05, 1500, 60),
}


def tabular_curves() -> Iterator[AnalyticCurve]:
    """Best-of-n and the two regularised optima on tables: gold normal, the proxy's error of Student's t with 3 degrees.

    Responses have random probabilities, so that best-of-n's exact KL stays below ln n - (n - 1)/n (`kl_formula`).
    """
    rng = np.random.default_rng(0)
    reference = rng.dirichlet(np.full(RESPONSES, 0.5), size=PROMPTS)
    gold = rng.standard_normal(reference.shape)
    proxy = gold + rng.standard_t(3.0, size=reference.shape) / np.sqrt(3.0)
    for name, optimizer in EXACT.items():
        policies = exact_policies(optimizer, reference, proxy, PRESSURES[name])
        curve = exact_curve(policies, reference, proxy, gold, PRESSURES[name])
        gain = [x - (reference * scores).sum(1)[:, None] for x, scores in ((curve.proxy, proxy), (curve.gold, gold))]
        extra = {
            "chi_squared": [float(chi_squared(policy, reference).mean()) for policy in policies],
            "win_rate": [float(win_rate(policy, reference, proxy).mean()) for policy in policies],
        }
        if name == "kl_regularised":
            extra["kl_coef"] = (1 / PRESSURES[name]).tolist()
        if name == "best_of_n":
            extra["kl_formula"] = best_of_n_kl(PRESSURES[name]).tolist()
        made = curve._replace(proxy=gain[0], gold=gain[1])
        yield AnalyticCurve("tabular", name, "enumerated", made, name, num_prompts=PROMPTS, extra=extra)


def tilting_price(quantile: float) -> float:
    """KL of the tilted reference with that mean quantile: the least KL of any policy that has it."""
    u, _ = nodes()
    if quantile <= 0.5 + 1e-9:
        return 0.0
    lam = brentq(lambda x: integral(u * tilting(u, x)) - quantile, 1e-9, 1e7)
    return kl(tilting(u, lam))


def quantile_curves() -> Iterator[AnalyticCurve]:
    """Four families in one world, with the hacking threshold of each (`threshold`) and its KL beyond tilting's."""
    world = peaked(POWER)
    for name, family in FAMILIES.items():
        curve = world.curve(family, THETAS[name])
        extra = {
            "threshold": world.regime(family).threshold,
            "kl_above_tilting": [
                spent - tilting_price(score) for spent, score in zip(curve.kl, curve.proxy[0], strict=True)
            ],
        }
        yield AnalyticCurve(world.name, name, "quadrature", curve, name, extra=extra)


def iterated_curves() -> Iterator[AnalyticCurve]:
    """k rounds by the paper's formula, and walked step by step."""
    for rounds in ROUNDS:
        for source, count in (("closed form", 80), ("simulated rounds", 12)):
            d = np.linspace(0, FARTHEST, count + 1)[1:]
            if source == "closed form":
                gold = iterated_gold(d, ALPHA, BETA, rounds)
            else:
                gold = np.array([simulate_rounds(ALPHA, BETA, np.full(rounds, x / rounds)).gold[-1] for x in d])
            curve = Curve(np.full(count, rounds), d**2, np.full((1, count), np.nan), gold[None])
            label = f"{rounds} round" + ("s" if rounds > 1 else "")
            yield AnalyticCurve("iterated RLHF", "iterated", source, curve, label, extra={"distance": d})


def oracle_curves() -> Iterator[AnalyticCurve]:
    """Every curve of the experiment, world after world."""
    yield from tabular_curves()
    yield from quantile_curves()
    yield from iterated_curves()
