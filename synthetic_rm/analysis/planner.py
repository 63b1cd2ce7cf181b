"""How far may one optimize against a proxy of a given size? The answer of a scaling law, with its interval."""

from dataclasses import dataclass

import numpy as np
from scipy.special import lambertw

from synthetic_rm.analysis.bootstrap import interval
from synthetic_rm.analysis.figures.style import human_count, percent
from synthetic_rm.analysis.forms import find_form
from synthetic_rm.analysis.scaling import Estimate, Prediction, ScalingLaw
from synthetic_rm.analysis.tables import number, with_interval
from synthetic_rm.errors import require


@dataclass(frozen=True)
class Plan:
    """Where gold of proxies of one size peaks, and how far one may go and be on the safe side of it."""

    prediction: Prediction
    law: ScalingLaw
    cautious_kl: float
    """nats: the lower end of the interval of the peak, cut at the largest KL that was measured"""
    cautious_gold: Estimate
    """gold there, by the law"""
    extended: bool
    """the size lies outside those that the law was fitted to"""

    @property
    def peak_seen(self) -> bool:
        """The law's peak lies within the KL that was measured."""
        return self.prediction.peak_kl.value <= self.law.largest_kl


def best_of_n_at(kl: float) -> float:
    """n of best-of-n (no integer) at `kl` nats: the root of ln n - (n - 1)/n = kl, n = -1 / W0(-exp(-1 - kl))."""
    return float(-1.0 / lambertw(-np.exp(-1.0 - kl)).real) if kl > 0 else 1.0


def plan(law: ScalingLaw, size: float, *, extrapolate: bool = False) -> Plan:
    """How far may I optimize a proxy of `size` parameters?

    Args:
        law: of the optimizer in question.
        size: parameters.
        extrapolate: answer for sizes outside those of the law too.
    Raises:
        InputError: a size outside those of the law, without `extrapolate`; a size that is none.
    """
    first, last = law.sizes[0], law.sizes[-1]
    require(np.isfinite(size) and size > 0, f"size={size:g}: allowed is a number of parameters above 0")
    outside = not first <= size <= last
    require(
        extrapolate or not outside,
        f"size={size:g}: the law was fitted to {first:,} to {last:,} parameters; beyond them only with --extrapolate",
    )
    told = law.at(size)
    cautious = min(told.peak_kl.lo, law.largest_kl)
    distance = np.sqrt(cautious)
    shape = find_form(law.form)
    lo, hi = interval(shape.curve(distance, told.draws[:, 0], told.draws[:, 1]), law.level)
    gold = float(shape.curve(distance, told.alpha.value, told.beta.value))
    return Plan(told, law, float(cautious), Estimate(gold, float(lo), float(hi)), outside)


def plan_lines(answer: Plan, optimizer: str) -> list[str]:
    """The plan in words, a few lines for the terminal.

    Args:
        answer: the plan.
        optimizer: of the law, as the records name it.
    """
    told, law = answer.prediction, answer.law
    sizes = f"law of {len(law.sizes)} sizes, {human_count(law.sizes[0])} to {human_count(law.sizes[-1])}"
    n = f", n = {best_of_n_at(answer.cautious_kl):,.0f}" if optimizer == "best_of_n" else ""
    measured = f"{number(law.largest_kl, 1)} nats, the largest that was measured"
    peak = f"gold peaks at KL {_text(told.peak_kl, 1, limit=law.largest_kl)} nats"
    if answer.peak_seen:
        peak += f", at {_text(told.peak_gold)} SDs of the reference"
    lines = [
        f"proxy of {human_count(told.size)} parameters under {optimizer}; {sizes}; {percent(law.level)} intervals",
        f"alpha {_text(told.alpha, 3)}, beta {_text(told.beta, 3)} (form {law.form})",
        peak if told.peak_kl.lo <= law.largest_kl else f"no peak up to KL {measured}",
        f"on the safe side of the peak: KL up to {number(answer.cautious_kl, 1)} nats{n}, "
        f"gold there {_text(answer.cautious_gold)} SDs",
    ]
    if told.peak_kl.lo <= law.largest_kl < told.peak_kl.hi:
        lines.append(f"> {number(law.largest_kl, 1)}: beyond KL {measured}; how far beyond, the data do not tell")
    if answer.extended:
        lines.append("EXTRAPOLATED: no proxy of such a size was measured")
    return lines


def _text(estimate: Estimate, digits: int = 2, limit: float = np.inf) -> str:
    """An estimate with its interval, what lies beyond the limit told as "> limit"."""
    if estimate.hi <= limit:
        return with_interval(estimate.value, estimate.lo, estimate.hi, digits)
    shown = [number(x, digits) if x <= limit else f"> {number(limit, digits)}" for x in
             (estimate.value, estimate.lo, estimate.hi)]  # fmt: skip
    return f"{shown[0]} [{shown[1]}, {shown[2]}]"
