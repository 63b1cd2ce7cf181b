"""How heavy the tails of trained proxies are, from the records of a best-of-n run alone."""

import numpy as np
import pandas as pd

from synthetic_rm.errors import require
from synthetic_rm.tails import maxima_index

KNOWN_BY = ("environment", "proxy_params", "proxy_seed")


def proxy_tails(records: pd.DataFrame) -> pd.DataFrame:
    """The extreme value index of every run's proxy, by how its best-of-n score grows (`tails.maxima_index`).

    The three n are the ones measured nearest to N^(1/3), N^(2/3) and N, N the largest: 16, 256 and 4,096 of a pool of
    4,096. The index is that of scores pooled over prompts as a run pools them: the mean over prompts of each maximum.
    xi clearly above 0 warns of catastrophic Goodhart; normal scores give about -0.1 at such n, not 0.

    Args:
        records: the table of records.csv; rows of other optimizers than best-of-n are left out.
    Returns:
        One row per run: run, environment, proxy_params, proxy_seed, first_n, middle_n, last_n, xi (nan where the
        proxy's score does not rise).
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
        rows.append({"run": run, **known, **sizes, "xi": maxima_index(ns[at], curve[column].to_numpy()[at])})
    return pd.DataFrame(rows)
