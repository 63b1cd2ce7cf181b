"""From an estimate with its interval to a verdict on a claim."""

import math
from dataclasses import dataclass

from synthetic_rm.analysis.scaling import Estimate

REPRODUCED, NOT_REPRODUCED = "reproduced", "not reproduced"
NOT_IDENTIFIED, NOT_MEASURED = "not identified", "not measured"


@dataclass(frozen=True)
class Verdict:
    """What the records say of one claim."""

    claim: str
    """name in `CLAIMS`, e.g. "H1a" """
    optimizer: str
    statistic: str
    """what `value` is, with its unit"""
    estimate: Estimate
    verdict: str
    figure: str
    """stem of the figure that shows it"""
    note: str = ""


def positive(told: Estimate, *, negligible: float = 0.0) -> str:
    """Verdict on "greater than 0": reproduced where the interval lies above 0.

    Not reproduced where it lies below `negligible`, the smallest effect that would be worth the name; else the data do
    not tell (not identified).
    """
    if math.isnan(told.lo) or math.isnan(told.hi):
        return NOT_IDENTIFIED
    if told.lo > 0:
        return REPRODUCED
    return NOT_REPRODUCED if told.hi < max(negligible, 0.0) else NOT_IDENTIFIED


def negative(told: Estimate) -> str:
    """Verdict on "less than 0"."""
    return positive(Estimate(-told.value, -told.hi, -told.lo))


def within(told: Estimate, low: float, high: float) -> str:
    """Verdict on "between `low` and `high`": reproduced where all of the interval is, not where none of it is."""
    if math.isnan(told.lo) or math.isnan(told.hi):
        return NOT_IDENTIFIED
    if low <= told.lo and told.hi <= high:
        return REPRODUCED
    return NOT_REPRODUCED if told.hi < low or told.lo > high else NOT_IDENTIFIED


def both(*verdicts: str) -> str:
    """A claim with several parts: not reproduced where one is not, reproduced where all are."""
    if NOT_REPRODUCED in verdicts:
        return NOT_REPRODUCED
    return REPRODUCED if set(verdicts) == {REPRODUCED} else NOT_IDENTIFIED
