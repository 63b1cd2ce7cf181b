"""F7: the points of a study as one run: checked one by one, their tables joined."""

from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import pandas as pd

from synthetic_rm.errors import InputError, require
from synthetic_rm.results import Tables
from synthetic_rm.settings import Settings, flatten, points_of

VARIABLE = ("environment.", "comparisons.", "proxy.", "policy.", "rl.")
"""beginnings of the keys that a point may change: all points are measured and fitted alike"""


def check_study(settings: Settings, check: Callable[[Settings], None]) -> None:
    """Check every point before the first is run.

    Args:
        check: of one point.
    Raises:
        InputError: the study or one of its points cannot be; of several points the first that cannot be is told.
    """
    kinds, groups = _kinds(Settings), ", ".join(name.rstrip(".") for name in VARIABLE)
    for place, point in enumerate(settings.study):
        for key, value in point.items():
            known = key in kinds and key.startswith(VARIABLE)
            require(known, f"study[{place}]: {key}: no such key; a point may change those of {groups}")
            kind = kinds[key]
            require(
                _is_of(value, kind), f"study[{place}]: {key}={value!r}: allowed is {getattr(kind, '__name__', kind)}"
            )
    seen: list[dict[str, Any]] = []
    for place, settings_of_point in enumerate(points_of(settings)):
        flat = flatten(settings_of_point)
        require(flat not in seen, f"study[{place}]: is the same as study[{seen.index(flat) if flat in seen else ''}]")
        seen.append(flat)
        try:
            check(settings_of_point)
        except InputError as error:
            raise InputError(f"study[{place}]: {error}" if settings.study else str(error)) from error


def _kinds(group: Any, prefix: str = "") -> dict[str, Any]:
    """The declared type of every dotted key of a dataclass."""
    kinds: dict[str, Any] = {}
    for name, kind in get_type_hints(group).items():
        kinds |= _kinds(kind, f"{prefix}{name}.") if is_dataclass(kind) else {f"{prefix}{name}": kind}
    return kinds


def _is_of(value: object, kind: Any) -> bool:
    """Whether a value is of a declared type: a plain one, a list of it, or a choice; whole numbers are numbers."""
    inner = get_args(kind)
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_is_of(item, inner[0]) for item in value)
    choices = inner or (kind,)
    return type(value) in choices or (type(value) is int and float in choices)


def joined(parts: Sequence[Tables]) -> Tables:
    """The tables of several points as those of one run; what they have in common is told once.

    The points are measured at the same values of n; runs of RL, which have points of their own, are padded to the
    longest of all. Sample responses and what gold is worth are told of the first point.
    """
    if len(parts) == 1:
        return parts[0]
    sound = [part for part in parts if not part.records.empty]
    history = [part.history for part in parts if part.history is not None]
    return Tables(
        _each_run_once([part.records for part in sound]) if sound else pd.DataFrame(),
        pd.concat([part.runs for part in parts], ignore_index=True).drop_duplicates("run", ignore_index=True),
        parts[0].samples,
        _stacked([part.curves for part in parts]),
        parts[0].environment,
        _stacked([part.rl_curves for part in parts if part.rl_curves is not None]) or None,
        _each_run_once(history) if history else None,
    )


def _each_run_once(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Tables one below the other; a run that several points have in common stays where it is first."""
    seen: set[str] = set()
    kept = []
    for table in tables:
        kept.append(table[~table["run"].isin(seen)])
        seen |= set(table["run"])
    return pd.concat(kept, ignore_index=True)


def _stacked(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays of curves one below the other; pressure [K] that all have in common stays, [R, K] is padded with -1."""
    if not parts:
        return {}
    if parts[0]["pressure"].ndim == 1:
        common = parts[0]["pressure"]
        require(
            all(np.array_equal(part["pressure"], common) for part in parts), "points of a study were measured elsewhere"
        )
        return _unique(
            {"pressure": common} | {n: np.concatenate([p[n] for p in parts]) for n in ("run", "proxy", "gold")}
        )
    most = max(part["pressure"].shape[1] for part in parts)

    def padded(values: np.ndarray, fill: float) -> np.ndarray:
        ends = [(0, 0), (0, most - values.shape[1]), *[(0, 0)] * (values.ndim - 2)]
        return np.pad(values, ends, constant_values=fill)

    stacked = {"run": np.concatenate([part["run"] for part in parts])}
    for name, fill in (("pressure", -1), ("proxy", 0), ("gold", 0)):
        stacked[name] = np.concatenate([padded(part[name], fill) for part in parts])
    return _unique(stacked)


def _unique(curves: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Each run where it is first."""
    first = np.sort(np.unique(curves["run"], return_index=True)[1])
    own = [name for name, values in curves.items() if name != "pressure" or values.ndim == 2]
    return curves | {name: curves[name][first] for name in own}
