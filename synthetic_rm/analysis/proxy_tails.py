"""How heavy the tails of trained proxies are, from the records of a best-of-n run alone."""

import numpy as np
import pandas as pd

from synthetic_rm.analysis.figures.style import human_count
from synthetic_rm.analysis.tables import ABSENT, Markup, html_table, number
from synthetic_rm.errors import InputError, require
from synthetic_rm.tails import maxima_index, normal_maxima

KNOWN_BY = ("environment", "proxy_params", "proxy_seed")


def proxy_tails(records: pd.DataFrame) -> pd.DataFrame:
    """The extreme value index of every run's proxy, by how its best-of-n score grows (`tails.maxima_index`).

    The three n are the ones measured nearest to N^(1/3), N^(2/3) and N, N the largest: 16, 256 and 4,096 of a pool of
    4,096. The index is that of scores pooled over prompts as a run pools them: the mean over prompts of each maximum.
    xi clearly above that of normal scores at the same n (about -0.1, not 0) warns of catastrophic Goodhart.

    Args:
        records: the table of records.csv; rows of other optimizers than best-of-n are left out.
    Returns:
        One row per run: run, environment, proxy_params, proxy_seed, first_n, middle_n, last_n, xi (nan where the
        proxy's score does not rise), normal_xi (of normal scores at the same n).
    Raises:
        InputError: no best-of-n run, or fewer than three n in one.
    """
    chosen = records[records["optimizer"] == "best_of_n"]
    require(len(chosen) > 0, "records hold no best_of_n run")
    column = "proxy_native" if "proxy_native" in chosen else "proxy"
    rows = []
    for run, points in chosen.groupby("run", sort=False):
        curve = points.sort_values("pressure")
        ns = curve["pressure"].to_numpy(np.float64)
        require(len(ns) >= 3, f"run {run}: a tail index needs three n, got {len(ns)}")
        wanted = ns[-1] ** (np.arange(1, 4) / 3)
        at = [int(np.abs(np.log(ns / n)).argmin()) for n in wanted]
        require(len(set(at)) == 3, f"run {run}: n = {ns.tolist()} are too few for a tail index")
        known = {name: curve[name].iloc[0] for name in KNOWN_BY}
        sizes = dict(zip(("first_n", "middle_n", "last_n"), ns[at], strict=True))
        found = {"xi": maxima_index(ns[at], curve[column].to_numpy()[at])}
        found["normal_xi"] = maxima_index(ns[at], normal_maxima(ns[at]))
        rows.append({"run": run, **known, **sizes, **found})
    return pd.DataFrame(rows)


def tails_section(records: pd.DataFrame, runs: pd.DataFrame) -> Markup:
    """How heavy the proxies' tails are, by size, beside a normal one, and Hill's index where the runs tell it, in HTML.

    Args:
        records: as `proxy_tails` takes them.
        runs: the table of runs.csv; of its columns hill and hill_se, as `tails.pool_tail` gives them.
    """
    try:
        found = proxy_tails(records)
    except InputError as error:
        return Markup(f"<p>Not told: {error}.</p>")
    hill = runs.drop_duplicates("run").set_index("run").reindex(index=found["run"], columns=["hill", "hill_se"])
    found = found.assign(hill=hill["hill"].to_numpy(float), hill_se=hill["hill_se"].to_numpy(float))
    told = bool(found["hill"].notna().any())
    rows = [
        {
            "params": human_count(int(group["proxy_params"].iloc[0])),
            "ξ, mean over seeds": number(group["xi"].mean()),
            "lowest": number(group["xi"].min()),
            "highest": number(group["xi"].max()),
            "of normal scores": number(group["normal_xi"].mean()),
            **({"Hill’s index ± standard error of one": _hill(group)} if told else {}),
        }
        for _, group in found.groupby("proxy_params", sort=True)
    ]
    first = found.iloc[0]
    ns = ", ".join(f"{first[name]:,.0f}" for name in ("first_n", "middle_n", "last_n"))
    note = (
        f"<p>Extreme value index ξ of the proxy’s score over reference responses, from its curve at n = {ns}. "
        "Where it is above that of normal scores the tail is heavier than normal, and gold at risk however good the "
        "proxy is on average (catastrophic Goodhart); below, it is lighter.</p>"
    )
    if told:
        note += (
            "<p>Hill’s index is of each prompt’s highest 2% of scores (10 at least), less the prompt’s median: the "
            "mean over seeds, and the standard error over prompts of one seed. It is never negative, so that it "
            "measures ξ of a heavy tail and cannot call one light.</p>"
        )
    return Markup(note + html_table(pd.DataFrame(rows), caption="Tails of the proxies, by size"))


def _hill(group: pd.DataFrame) -> str:
    """Hill's index, mean over seeds, and the standard error of one: seeds share prompts, so it shrinks by no root."""
    index, error = group["hill"].mean(), group["hill_se"].mean()
    return f"{number(index, 3)} ± {number(error, 3)}" if np.isfinite(index) else ABSENT
