"""H6: the size of the policy that is optimized, gold and proxies being the same."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from synthetic_rm.analysis.claims.judging import NOT_IDENTIFIED, Verdict, negative, within
from synthetic_rm.analysis.claims.methods import SIMILAR, Pair, compared, higher_peak, joint_draws
from synthetic_rm.analysis.curves import SettingCurves
from synthetic_rm.analysis.figures.style import human_count
from synthetic_rm.analysis.scaling import Estimate, estimate, proxy_size

SAME_KL = float(np.log10(2.0))
"""peaks that lie within a factor of two of KL of each other lie at the same KL"""


def policy_size(entry: SettingCurves) -> int:
    """Parameters of the policy."""
    return int(str(entry.setting["policy_params"]))


def policy_pairs(entries: Sequence[SettingCurves]) -> list[Pair]:
    """(smallest policy, largest policy) against the proxies of each size, both cut at the KL that both reached."""
    found = []
    for size in sorted({proxy_size(entry) for entry in entries}):
        mine = sorted((entry for entry in entries if proxy_size(entry) == size), key=policy_size)
        if policy_size(mine[0]) < policy_size(mine[-1]):
            reach = min(float(mine[0].kl.max()), float(mine[-1].kl.max()))
            found.append((cut(mine[0], reach), cut(mine[-1], reach)))
    return found


def cut(entry: SettingCurves, reach: float) -> SettingCurves:
    """The curve up to `reach` nats."""
    kept = entry.kl <= reach * (1 + 1e-9)
    scores = {name: getattr(entry, name)[:, kept] for name in ("proxy", "gold")}
    return replace(entry, pressure=entry.pressure[kept], kl=entry.kl[kept], **scores)


def peak_ratio(pairs: Sequence[Pair], *, level: float) -> tuple[Estimate, bool]:
    """log10 of the second's KL at its highest mean gold over the first's, mean over the pairs.

    Returns:
        The estimate, and whether gold is seen to peak: in more than `level` of the draws no curve is still at its
        highest where it ends. Where it is not, the estimate compares ends and not peaks.
    """
    drawn = joint_draws([entry for pair in pairs for entry in pair])
    kl, inside = [], np.ones(len(drawn[0][1]), bool)
    for (_, gold), entry in zip(drawn, (entry for pair in pairs for entry in pair), strict=True):
        top = np.maximum(gold.argmax(axis=1), 1)
        inside &= top < gold.shape[1] - 1
        kl.append(np.log10(entry.kl[top]))
    ratio = np.mean([second - first for first, second in zip(kl[::2], kl[1::2], strict=True)], axis=0)
    return estimate(float(ratio[0]), ratio[1:], level), bool(inside[0] and inside[1:].mean() > level)


def h6(entries: Sequence[SettingCurves], optimizer: str, *, level: float) -> Iterator[Verdict]:
    """H6: a larger policy gains less gold, peaks at the same KL, and has the same gap between proxy and gold.

    It would fail where the larger policy gains as much or more, where its gold peaks at other KL, or where proxy and
    gold part more, or less, at the same KL.
    """
    pairs = policy_pairs(entries)
    if not pairs:
        return
    first, second = pairs[0]
    who = f"policies of {human_count(policy_size(first))} and {human_count(policy_size(second))} parameters"
    sizes = ", ".join(human_count(proxy_size(entry)) for entry, _ in pairs)
    note = f"{who}; mean over proxies of {sizes}, KL up to {min(float(e.kl.max()) for e, _ in pairs):.1f} or more"
    panel = "a" if optimizer == "best_of_n" else "b"
    gain = higher_peak(pairs, level=level)
    yield Verdict("H6a", optimizer, "highest gain in gold of the larger policy less that of the smaller (SDs)", gain,
                  negative(gain), f"figure_23{panel}", note)  # fmt: skip
    place, seen = peak_ratio(pairs, level=level)
    word = within(place, -SAME_KL, SAME_KL) if seen else NOT_IDENTIFIED
    why = "same where it is within a factor of two" if seen else "gold is not seen to peak before the end"
    yield Verdict("H6b", optimizer, "log10 of KL at the peak of gold, the larger policy's over the smaller's", place,
                  word, f"figure_7{panel}", f"{note}; {why}")  # fmt: skip
    gap = compared(pairs, level=level)["gap_at_kl"]
    yield Verdict("H6c", optimizer, "proxy − gold of the larger policy less the smaller's, at the same KL (of the "
                  "highest gold)", gap, within(gap, -SIMILAR, SIMILAR), f"figure_24{panel}",
                  f"{note}; same where it is within ±{SIMILAR:g}")  # fmt: skip
