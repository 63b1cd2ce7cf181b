"""H7 to H9: best-of-n beside RL, RL with and without a KL penalty, and how KL grows."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student

from synthetic_rm.analysis.bootstrap import summed_bootstrap
from synthetic_rm.analysis.claims.judging import NOT_IDENTIFIED, Verdict, positive, within
from synthetic_rm.analysis.claims.shape import RESAMPLES, highest_at_the_end
from synthetic_rm.analysis.curves import SettingCurves, cross_fitted_peak
from synthetic_rm.analysis.scaling import Estimate, estimate, proxy_size

Floats = NDArray[np.float64]
Pair = tuple[SettingCurves, SettingCurves]
SIMILAR = 0.2
"""of the highest gold: curves that differ by less are alike"""
SQUARE = (1.5, 2.5)
"""exponents of KL in steps that are called quadratic"""
GRID = 25
PROXY_SETTING = ("environment", "scale", "labels", "label_noise", "num_comparisons", "proxy_epochs", "proxy_init",
                 "proxy_params")  # fmt: skip
"""what, with its seed, makes a proxy"""


def tables_of_proxies(entries: Sequence[SettingCurves], scores: Sequence[Floats]) -> list[Floats]:
    """Scores [seeds, prompts, points] of every setting, end to end along the points, as tables of independent seeds.

    Settings of the very same proxies (another policy or penalty) are one table: what a proxy does to both is shared.
    Sums over the tables' means are the settings' means; the rest of each table is 0.
    """
    ends = np.cumsum([score.shape[2] for score in scores])
    tables: dict[str, Floats] = {}
    for place, (entry, score, end) in enumerate(zip(entries, scores, ends, strict=True)):
        named = [str(entry.setting.get(name)) for name in PROXY_SETTING]
        name = f"{named} {entry.seeds}" if entry.seeds else str(place)
        table = tables.setdefault(name, np.zeros((*score.shape[:2], ends[-1])))
        table[..., end - score.shape[2] : end] = score
    return list(tables.values())


def joint_draws(entries: Sequence[SettingCurves]) -> list[tuple[Floats, Floats]]:
    """(proxy, gold) of every setting, each [1 + R, points]: the mean curve, then draws of it."""
    scores = [np.concatenate([entry.proxy, entry.gold], axis=1).swapaxes(1, 2) for entry in entries]
    ends = np.cumsum([score.shape[2] for score in scores])
    blocks = tables_of_proxies(entries, scores)
    mean, draws = summed_bootstrap(blocks, num_resamples=RESAMPLES // 2, rng=np.random.default_rng(0))
    together = np.split(np.concatenate([mean[None], draws]), ends[:-1], axis=1)
    return [tuple(np.split(part, 2, axis=1)) for part in together]  # type: ignore[misc]


def _at(x: Floats, y: Floats, grid: Floats) -> Floats:
    """y [D, points] as a function of x [D, points], made rising, at grid [points] or [D, points]."""
    rising = np.maximum.accumulate(x, axis=1)
    grids = np.broadcast_to(grid, (len(x), np.shape(grid)[-1]))
    return np.stack([np.interp(g, a, b) for g, a, b in zip(grids, rising, y, strict=True)])


def compared(pairs: Sequence[Pair], *, level: float) -> dict[str, Estimate]:
    """The second of each pair less the first, mean over the pairs, with intervals.

    Returns:
        log_kl: log10 of the ratio of their KL where the proxy score is 0.9 of what both reach.
        gold_at_proxy, gold_at_kl, gap_at_kl: difference of gold at the same proxy score, of gold at the same distance
        and of proxy - gold at the same distance, averaged up to what both reach, in units of the first's highest gold.
    """
    drawn = joint_draws([entry for pair in pairs for entry in pair])
    sums: dict[str, list[Floats]] = {"log_kl": [], "gold_at_proxy": [], "gold_at_kl": [], "gap_at_kl": []}
    for (first, second), a, b in zip(pairs, drawn[::2], drawn[1::2], strict=True):
        distances = [np.broadcast_to(np.sqrt(e.kl), p[0].shape) for e, p in ((first, a), (second, b))]
        unit = a[1][0].max()
        reach = min(a[0][0].max(), b[0][0].max())
        if reach <= 0 or unit <= 0:
            continue
        near = np.array([0.9 * reach])
        kl = [np.square(_at(p[0], d, near))[:, 0] for p, d in ((a, distances[0]), (b, distances[1]))]
        sums["log_kl"].append(np.log10(np.maximum(kl[1], 1e-9) / np.maximum(kl[0], 1e-9)))
        scores = np.linspace(0, reach, GRID + 1)[1:]
        sums["gold_at_proxy"].append((_at(*b, scores) - _at(*a, scores)).mean(1) / unit)
        along = np.linspace(0, min(d[0, -1] for d in distances), GRID + 1)[1:]
        gold = _at(distances[1], b[1], along) - _at(distances[0], a[1], along)
        proxy = _at(distances[1], b[0], along) - _at(distances[0], a[0], along)
        sums["gold_at_kl"].append(gold.mean(1) / unit)
        sums["gap_at_kl"].append((proxy - gold).mean(1) / unit)
    told = {}
    for name, values in sums.items():
        mean = np.mean(values, axis=0) if values else np.full(2, np.nan)
        told[name] = estimate(float(mean[0]), mean[1:], level)
    return told


def higher_peak(pairs: Sequence[Pair], *, level: float) -> Estimate:
    """Mean over the pairs of the second's highest gold less the first's, peaks taken from other seeds and prompts."""
    entries = [entry for pair in pairs for entry in pair]
    tops = [np.take_along_axis(e.gold, cross_fitted_peak(e.gold)[:, None], axis=1).swapaxes(1, 2) for e in entries]
    signs = np.tile([-1.0, 1.0], len(pairs)) / len(pairs)
    blocks = [table @ signs for table in tables_of_proxies(entries, tops)]
    value, draws = summed_bootstrap(blocks, num_resamples=RESAMPLES, rng=np.random.default_rng(0))
    return estimate(float(value), draws, level)


def pairs_by_size(first: Sequence[SettingCurves], second: Sequence[SettingCurves]) -> list[Pair]:
    """Settings of the same proxy size, measured on the same number of prompts."""
    others = {proxy_size(entry): entry for entry in second}
    found = [(one, others[proxy_size(one)]) for one in first if proxy_size(one) in others]
    return [pair for pair in found if pair[0].gold.shape[2] == pair[1].gold.shape[2]]


def h7(best_of_n: Sequence[SettingCurves], rl: Sequence[SettingCurves], optimizer: str, *, level: float
       ) -> Iterator[Verdict]:  # fmt: skip
    """H7: RL spends far more KL than best-of-n, peaks higher, and gold against proxy is alike.

    It would fail where RL reaches the same proxy score at as little KL, where its gold peaks no higher, or where gold
    at the same proxy score differs between the two. Peaks are compared where both are seen: gold that is highest at the
    end may have risen on.
    """
    pairs = pairs_by_size(best_of_n, rl)
    if not pairs:
        return
    told, sizes = compared(pairs, level=level), f"mean over {len(pairs)} sizes"
    peaked = [pair for pair in pairs if not any(highest_at_the_end(entry) for entry in pair)]
    peak = higher_peak(peaked or pairs, level=level)
    seen = f"mean over the {len(peaked)} of {len(pairs)} sizes at which both have a peak before their end"
    spent, alike = told["log_kl"], told["gold_at_proxy"]
    yield Verdict("H7a", optimizer, "log10 of KL spent by RL over that of best-of-n, at the same proxy score", spent,
                  positive(spent), "figure_both", sizes)  # fmt: skip
    yield Verdict("H7b", optimizer, "highest gold of RL less that of best-of-n (SDs)", peak,
                  positive(peak) if peaked else NOT_IDENTIFIED, "figure_both",
                  seen if peaked else f"{sizes}; gold is highest at the end of one or both at each")  # fmt: skip
    yield Verdict("H7c", optimizer, "gold of RL less that of best-of-n at the same proxy score (of the highest gold)",
                  alike, within(alike, -SIMILAR, SIMILAR), "figure_both",
                  f"{sizes}; alike where it is within ±{SIMILAR:g}")  # fmt: skip


def h8(entries: Sequence[SettingCurves], optimizer: str, *, level: float) -> Iterator[Verdict]:
    """H8: with a KL penalty gold at the same KL is unchanged and the gap between proxy and gold wider.

    It would fail where a penalty moves gold at the same KL up or down, or where it leaves the gap as it was.
    """
    free = {proxy_size(e): e for e in entries if _penalty(e) == 0}
    pairs = [(free[proxy_size(e)], e) for e in entries if _penalty(e) > 0 and proxy_size(e) in free]
    if not pairs:
        return
    told, note = compared(pairs, level=level), f"mean over {len(pairs)} penalties and sizes"
    gold, gap = told["gold_at_kl"], told["gap_at_kl"]
    yield Verdict("H8a", optimizer, "gold with a penalty less without, at the same KL (of the highest gold)", gold,
                  within(gold, -SIMILAR / 2, SIMILAR / 2), "figure_penalty",
                  f"{note}; unchanged where it is within ±{SIMILAR / 2:g}")  # fmt: skip
    yield Verdict("H8b", optimizer, "proxy − gold with a penalty less without, at the same KL (of the highest gold)",
                  gap, positive(gap), "figure_penalty_gap", note)  # fmt: skip


def _penalty(entry: SettingCurves) -> float:
    value = entry.setting.get("kl_coef", float("nan"))
    return float(str(value)) if value not in (None, "") else float("nan")


def exponents(records: pd.DataFrame) -> Floats:
    """For each run the least-squares slope of ln KL over ln steps, over its points after the reference."""
    found = []
    for _, rows in records.groupby("run"):
        points = rows[(rows["pressure"] > 0) & (rows["kl"] > 0)]
        if points["pressure"].nunique() >= 3:
            found.append(np.polyfit(np.log(points["pressure"]), np.log(points["kl"]), 1)[0])
    return np.array(found)


def h9(records: pd.DataFrame, optimizer: str, *, level: float) -> Iterator[Verdict]:
    """H9: without a penalty KL grows as the square of the steps.

    It would fail where KL grows in proportion to steps (exponent 1), or faster than their square.
    """
    found = exponents(records[records["kl_coef"].fillna(0) == 0])
    if len(found) < 2:
        return
    half = float(student.ppf((1 + level) / 2, len(found) - 1) * found.std(ddof=1) / np.sqrt(len(found)))
    told = Estimate(float(found.mean()), float(found.mean()) - half, float(found.mean()) + half)
    note = f"mean over {len(found)} runs; quadratic where it is within {SQUARE[0]:g} to {SQUARE[1]:g}"
    verdict = within(told, *SQUARE)
    yield Verdict("H9", optimizer, "exponent of KL in steps", told, verdict, "figure_kl_steps", note)
