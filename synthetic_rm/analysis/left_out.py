"""The curves of settings that a scaling law has not seen, predicted by it, and how far it was off."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from synthetic_rm.analysis.curves import SettingCurves
from synthetic_rm.analysis.scaling import LEAST_SIZES, comparisons_of, fit_scaling_law, proxy_size
from synthetic_rm.errors import require

Floats = NDArray[np.float64]
SETTINGS = ["proxy_params", "num_comparisons"]


def leave_one_out(
    entries: Sequence[SettingCurves],
    form: str,
    *,
    num_resamples: int = 2000,
    rng: np.random.Generator,
    level: float = 0.95,
) -> pd.DataFrame:
    """The whole gold curve of every setting, predicted by a law that has not seen it, beside what was measured.

    Its threshold too is chosen without the setting.

    Args:
        entries, form, num_resamples, rng, level: as `fit_scaling_law`, with one setting more than it needs.
    Returns:
        One row per setting and point: proxy_params, num_comparisons (0 where not told), outside (the law is extended
        to smaller or larger values than its own), kl, measured, gold, gold_lo, gold_hi, and what knows no law: nearest
        (the curve of the setting that is nearest in ratio) and others (the mean curve of the others), nan beyond their
        own KL.
    Raises:
        InputError: as `fit_scaling_law`.
    """
    entries = sorted(entries, key=lambda entry: (proxy_size(entry), comparisons_of(entry)))
    need = LEAST_SIZES + 1
    require(len(entries) >= need, f"to leave one out needs {need} or more settings, got {len(entries)}")
    tables = []
    for left in entries:
        rest = [entry for entry in entries if entry is not left]
        law = fit_scaling_law(rest, form, num_resamples=num_resamples, rng=rng, level=level)
        size, count = proxy_size(left), comparisons_of(left)
        near = min(rest, key=lambda entry: _ratio(proxy_size(entry), size) + _ratio(comparisons_of(entry), count))
        table = law.curve(size, left.kl, count or None)
        table.insert(0, "proxy_params", size)
        table.insert(1, "num_comparisons", count)
        table.insert(2, "outside", not law.covers(size, count))
        table["measured"] = left.gold.mean(axis=(0, 2))
        table["nearest"] = _at(near, left.kl)
        table["others"] = np.mean([_at(entry, left.kl) for entry in rest], axis=0)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _ratio(one: int, other: int) -> float:
    return 0.0 if one == other else abs(float(np.log(one / other)))


def _at(entry: SettingCurves, kl: Floats) -> Floats:
    """Mean gold [K] of a setting at other distances, linear in d between its points; nan beyond them."""
    mean = entry.gold.mean(axis=(0, 2))
    return np.asarray(np.interp(np.sqrt(kl), np.sqrt(entry.kl), mean, right=np.nan))


def prediction_errors(predicted: pd.DataFrame) -> pd.DataFrame:
    """How far `leave_one_out` was off: one row per setting.

    Returns:
        proxy_params, num_comparisons, outside, rmse (law against measured), rmse_nearest, rmse_others (what knows no
        law), covered (the share of points within the law's intervals), highest (largest measured gold, the scale of
        the errors).
    """
    rows = []
    for (size, count), table in predicted.groupby(SETTINGS, sort=True):
        known = table[(table["kl"] > 0) & table[["nearest", "others"]].notna().all(axis=1)]
        errors = {name: float(np.sqrt(np.mean(np.square(known[column] - known["measured"])))) for name, column in
                  (("rmse", "gold"), ("rmse_nearest", "nearest"), ("rmse_others", "others"))}  # fmt: skip
        within = (known["measured"] >= known["gold_lo"]) & (known["measured"] <= known["gold_hi"])
        rows.append(
            {"proxy_params": size, "num_comparisons": count, "outside": bool(table["outside"].iloc[0]), **errors}
            | {"covered": float(within.mean()), "highest": float(table["measured"].max())}
        )
    return pd.DataFrame(rows)


def beside_size_laws(
    entries: Sequence[SettingCurves], form: str, *, rng: np.random.Generator, level: float = 0.95
) -> pd.DataFrame:
    """Errors of the law over size and data beside those of laws over size alone.

    Args:
        entries, form, rng, level: as `leave_one_out`.
    Returns:
        `prediction_errors` of the law through all other settings, with rmse_size: of the law through the other sizes
        with as many comparisons; nan where they are too few.
    """
    predicted = leave_one_out(entries, form, num_resamples=200, rng=rng, level=level)
    errors = prediction_errors(predicted).set_index(SETTINGS)
    errors["rmse_size"] = np.nan
    for count in {comparisons_of(entry) for entry in entries}:
        mine = [entry for entry in entries if comparisons_of(entry) == count]
        if len(mine) > LEAST_SIZES:
            own = prediction_errors(leave_one_out(mine, form, num_resamples=1, rng=rng, level=level))
            errors.loc[pd.MultiIndex.from_frame(own[SETTINGS]), "rmse_size"] = own["rmse"].to_numpy()
    return errors.reset_index()
