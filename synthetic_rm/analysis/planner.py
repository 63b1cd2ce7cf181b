"""How far may one optimize against a proxy of a given size and data? A scaling law's answer, with its interval."""

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
    """Where gold of proxies of one size and number of comparisons peaks, and how far one may safely go."""

    prediction: Prediction
    law: ScalingLaw
    cautious_kl: float
    """nats: the lower end of the interval of the peak, cut at the largest KL that was measured"""
    cautious_gold: Estimate
    """gold there, by the law"""
    extended: bool
    """the size or the number of comparisons lies outside those that the law was fitted to"""

    @property
    def peak_seen(self) -> bool:
        """The law's peak lies within the KL that was measured."""
        return self.prediction.peak_kl.value <= self.law.largest_kl


def best_of_n_at(kl: float) -> float:
    """n of best-of-n (no integer) at `kl` nats: the root of ln n - (n - 1)/n = kl, n = -1 / W0(-exp(-1 - kl))."""
    return float(-1.0 / lambertw(-np.exp(-1.0 - kl)).real) if kl > 0 else 1.0


def plan(law: ScalingLaw, size: float, comparisons: float | None = None, *, extrapolate: bool = False) -> Plan:
    """How far may I optimize a proxy of `size` parameters that learnt from so many `comparisons`?

    Args:
        law: of the optimizer in question.
        size: parameters.
        comparisons: the most of the law if None.
        extrapolate: answer for what lies outside the law's settings too, where it knows more than one such value.
    Raises:
        InputError: what lies outside those of the law, without `extrapolate` or where it knows one value; what is no
            number above 0.
    """
    count = law.counts[-1] if comparisons is None else comparisons
    _check("size", size, law.sizes, "parameters", extrapolate)
    _check("comparisons", count, law.counts, "comparisons", extrapolate)
    told = law.at(size, comparisons)
    cautious = min(told.peak_kl.lo, law.largest_kl)
    distance = np.sqrt(cautious)
    shape = find_form(law.form)
    lo, hi = interval(shape.curve(distance, told.draws[:, 0], told.draws[:, 1]), law.level)
    gold = float(shape.curve(distance, told.alpha.value, told.beta.value))
    return Plan(told, law, float(cautious), Estimate(gold, float(lo), float(hi)), not law.covers(size, count))


def _check(name: str, value: float, known: tuple[int, ...], unit: str, extrapolate: bool) -> None:
    """That a law which knows these values speaks of this one."""
    good = (bool(np.isfinite(value)) and value > 0) or value in known
    require(good, f"{name}={value:g}: allowed is a number of {unit} above 0")
    first, last = known[0], known[-1]
    inside, several = first <= value <= last, len(known) > 1
    told = (
        f"{first:,} to {last:,} {unit}; beyond them only with --extrapolate" if several else f"{first:,} {unit} alone"
    )
    require(inside or (extrapolate and several), f"{name}={value:g}: the law was fitted to {told}")


def plan_lines(answer: Plan, optimizer: str) -> list[str]:
    """The plan in words, a few lines for the terminal.

    Args:
        answer: the plan.
        optimizer: of the law, as the records name it.
    """
    told, law = answer.prediction, answer.law
    n = f", n = {best_of_n_at(answer.cautious_kl):,.0f}" if optimizer == "best_of_n" else ""
    measured = f"{number(law.largest_kl, 1)} nats, the largest that was measured"
    peak = f"gold peaks at KL {_text(told.peak_kl, 1, limit=law.largest_kl)} nats"
    if answer.peak_seen:
        peak += f", at {_text(told.peak_gold)} SDs of the reference"
    of = f", {told.comparisons:,.0f} comparisons" if len(law.counts) > 1 else ""
    lines = [
        f"proxy of {human_count(told.size)} parameters{of} under {optimizer}; {_law_told(law)}; "
        f"{percent(law.level)} intervals",
        f"alpha {_text(told.alpha, 3)}, beta {_text(told.beta, 3)} (form {law.form})",
    ]
    few = f"with {law.terms.threshold:,} comparisons or fewer"
    if law.at_chance(told.comparisons):
        lines.append(f"at chance: {few} proxies are no use, by the law: gold stays where it was")
    else:
        lines += [
            peak if told.peak_kl.lo <= law.largest_kl else f"no peak up to KL {measured}",
            f"on the safe side of the peak: KL up to {number(answer.cautious_kl, 1)} nats{n}, "
            f"gold there {_text(answer.cautious_gold)} SDs",
        ]
        if told.peak_kl.lo <= law.largest_kl < told.peak_kl.hi:
            lines.append(f"> {number(law.largest_kl, 1)}: beyond KL {measured}; how far beyond, the data do not tell")
        first = min(count for count in law.counts if not law.at_chance(count))
        if law.terms.threshold and told.comparisons < first:
            lines.append(f"at chance {few}, better with {first:,}: where in between it begins, the data do not tell")
    if answer.extended:
        lines.append(f"EXTRAPOLATED: no proxy of such a size{' or data' if of else ''} was measured")
    return lines


def _law_told(law: ScalingLaw) -> str:
    """What it was fitted to."""
    ends = [f"{len(known)} {name}, {human_count(known[0])} to {human_count(known[-1])}" for known, name in
            ((law.sizes, "sizes"), (law.counts, "numbers of comparisons")) if len(known) > 1]  # fmt: skip
    return f"law of {' and '.join(ends)}"


def _text(estimate: Estimate, digits: int = 2, limit: float = np.inf) -> str:
    """An estimate with its interval, what lies beyond the limit told as "> limit"."""
    if estimate.hi <= limit:
        return with_interval(estimate.value, estimate.lo, estimate.hi, digits)
    shown = [number(x, digits) if x <= limit else f"> {number(limit, digits)}" for x in
             (estimate.value, estimate.lo, estimate.hi)]  # fmt: skip
    return f"{shown[0]} [{shown[1]}, {shown[2]}]"
