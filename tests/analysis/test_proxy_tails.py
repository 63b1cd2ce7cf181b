"""The tail index of a run's proxies from its records: known laws in, their index out."""

import numpy as np
import pandas as pd
import pytest

from synthetic_rm.analysis.proxy_tails import proxy_tails, tails_section
from synthetic_rm.environments.analytic.error_laws import normal, pareto, student_t
from synthetic_rm.environments.analytic.proxy_error import ProxyError
from synthetic_rm.errors import InputError
from synthetic_rm.estimators import best_of_n_curve, ns_grid
from synthetic_rm.tails import pool_tail

NS = ns_grid(4096, 25)
RUNS = pd.DataFrame({"run": ["release"], "stage": ["release"]})
"""of a folder written before Hill's index was"""


def rows(run: str, proxy: np.ndarray, optimizer: str = "best_of_n") -> pd.DataFrame:
    known = {"run": run, "environment": "reviews", "proxy_params": 9, "proxy_seed": 0, "optimizer": optimizer}
    return pd.DataFrame({**known, "pressure": NS, "proxy": proxy})


def test_the_index_of_every_run_is_that_of_its_proxy() -> None:
    worlds = {"normal": normal(), "t3": student_t(3), "pareto": pareto(1.5)}
    curves = {name: ProxyError(tail).best_of_n(NS).proxy[0] for name, tail in worlds.items()}
    records = pd.concat([rows(name, proxy) for name, proxy in curves.items()] + [rows("ppo", NS * 1.0, "ppo")])
    found = proxy_tails(records.sample(frac=1, random_state=0)).set_index("run")
    assert set(found.index) == set(worlds)
    assert found.loc["pareto", "xi"] == pytest.approx(2 / 3, abs=0.06)
    assert found.loc["t3", "xi"] == pytest.approx(1 / 3, abs=0.12)
    assert found.loc["normal", "xi"] == pytest.approx(found.loc["normal", "normal_xi"], abs=1e-3)
    assert -0.2 < found.loc["normal", "xi"] < 0
    told = tails_section(records, RUNS)
    assert "Tails of the proxies" in told and "−0.10" in told
    assert "no best_of_n run" in tails_section(rows("a", NS * 1.0, "ppo"), RUNS)
    assert found.loc["t3", ["first_n", "last_n"]].tolist() == pytest.approx([16, 4096], rel=0.2)


def test_it_holds_for_a_pool_of_drawn_scores_and_native_scores_come_first() -> None:
    draws = np.random.default_rng(0).standard_t(2.5, (64, 4096))
    proxy, _ = best_of_n_curve(draws, draws, NS)
    records = rows("a", -proxy.mean(0)).assign(proxy_native=proxy.mean(0))
    assert proxy_tails(records)["xi"][0] == pytest.approx(0.4, abs=0.15)
    assert np.isnan(proxy_tails(records.drop(columns="proxy_native"))["xi"][0])


def test_hills_index_stands_beside_it_where_the_runs_tell_it() -> None:
    pools = {"a": np.random.default_rng(1).pareto(2.0, (32, 4096)), "b": np.random.default_rng(2).normal(size=(32, 64))}
    hill = {run: pool_tail(pool) for run, pool in pools.items()}
    proxy = ProxyError(normal()).best_of_n(NS).proxy[0]
    records = pd.concat([rows(run, proxy).assign(proxy_params=size) for run, size in (("a", 9), ("b", 20), ("c", 300))])
    runs = pd.concat([RUNS, pd.DataFrame([{"run": run, **found} for run, found in hill.items()])])
    told = tails_section(records, runs)
    for found in hill.values():
        assert f"{found['hill']:.3f} ± {found['hill_se']:.3f}" in told
    assert told.count(">–<") == 1 and "highest 2% of scores" in told  # no index, no claim
    seeds = runs.assign(run=runs["run"].replace("b", "c"))
    shared = tails_section(records.assign(proxy_params=9), seeds)
    assert f"{(hill['a']['hill'] + hill['b']['hill']) / 2:.3f} ± " in shared
    for without in (RUNS, runs.assign(hill=np.nan)):
        assert "Hill" not in tails_section(records, without) and "of normal scores" in tails_section(records, without)


def test_records_that_say_too_little_are_refused() -> None:
    with pytest.raises(InputError, match="no best_of_n run"):
        proxy_tails(rows("a", NS * 1.0, "ppo"))
    with pytest.raises(InputError, match="needs three n, got 2"):
        proxy_tails(rows("a", NS * 1.0).head(2))
    with pytest.raises(InputError, match="too few"):
        proxy_tails(rows("a", NS * 1.0).iloc[[0, 1, -1]])
