"""F7: rows of records.csv, runs.csv and fits.csv of worlds that are enumerated or have a closed form."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from synthetic_rm.provenance import digest
from synthetic_rm.types import Curve

ANALYTIC = "analytic: enumerated or closed form, nothing trained"
"""what every row and every figure of these experiments says of itself"""


@dataclass(frozen=True)
class AnalyticCurve:
    """One optimizer in one world, and where its numbers come from."""

    world: str
    optimizer: str
    source: str
    """"enumerated", "closed form", "quadrature" or "simulated draws\""""
    curve: Curve
    series: str = ""
    """which member of a family of worlds it is, as figures name it"""
    num_prompts: int = 1
    num_samples: int = 0
    """draws of a response; 0 where nothing was drawn"""
    extra: dict[str, Any] = field(default_factory=dict)
    """further columns: values, or arrays [k]"""

    @property
    def run(self) -> str:
        """A name that tells one curve from another, by what it is and by its numbers."""
        numbers = [np.asarray(x, np.float64).round(12).tolist() for x in self.curve]
        identity = [self.world, self.optimizer, self.source, self.series, numbers]
        return f"analytic-{self.optimizer}-{digest(identity)[:8]}"


def records(curves: Iterable[AnalyticCurve], scale: str) -> pd.DataFrame:
    """The rows of records.csv: scores are means over prompts, and less those of the reference."""
    return pd.concat([_rows(curve, scale) for curve in curves], ignore_index=True)


def _rows(made: AnalyticCurve, scale: str) -> pd.DataFrame:
    curve, drawn = made.curve, made.num_samples > 0
    count = len(np.asarray(curve.gold))

    def error(values: Any) -> Any:
        """Of the mean over pools of drawn responses; what is exact has none."""
        return np.std(values, axis=0, ddof=1) / math.sqrt(count) if drawn and count > 1 else 0.0

    return pd.DataFrame(
        {
            "run": made.run,
            "environment": f"analytic: {made.world}",
            "scale": scale,
            "optimizer": made.optimizer,
            "mitigation": "none",
            "labels": "none",
            "policy_params": 0,
            "proxy_params": 0,
            "num_comparisons": 0,
            "label_noise": 0.0,
            "kl_coef": math.nan,
            "proxy_seed": 0,
            "policy_seed": 0,
            "pressure": curve.pressure,
            "kl": curve.kl,
            "kl_se": 0.0,
            "proxy": np.mean(curve.proxy, axis=0),
            "proxy_se": error(curve.proxy),
            "gold": np.mean(curve.gold, axis=0),
            "gold_se": error(curve.gold),
            "response_length": math.nan,
            "num_prompts": made.num_prompts,
            "num_samples": made.num_samples,
            "provenance": ANALYTIC,
            "source": made.source,
            "series": made.series,
            **made.extra,
        }
    )


def runs(curves: Iterable[AnalyticCurve], seconds: Iterable[float], origin: dict[str, Any]) -> pd.DataFrame:
    """The rows of runs.csv, one for each curve: nothing is stored, so each is made anew."""
    rows = []
    for made, took in zip(curves, seconds, strict=True):
        finite = np.isfinite(made.curve.gold).all() and np.isfinite(made.curve.kl).all()
        rows.append(
            {
                "run": made.run,
                "stage": "analytic",
                "status": "ok" if finite else "nonfinite",
                "config_hash": digest([made.run, made.world, made.source]),
                "commit": origin["commit"],
                "device": origin["device"],
                "seconds": round(took, 3),
                "environment": f"analytic: {made.world}",
                "optimizer": made.optimizer,
                "series": made.series,
                "source": made.source,
            }
        )
    return pd.DataFrame(rows)
