"""RL through the store on the tiny world: one artifact for a size, its tables, failed runs, and gold out of reach."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from tiny_world import ORIGIN, RL, SIZE, Made, simulation, tiny_world

from synthetic_rm.optimizers.rl import Metrics
from synthetic_rm.progress import Bar
from synthetic_rm.results import Tables, overoptimization_tables
from synthetic_rm.rl_simulation import RLGroup, optimized, run_seeds
from synthetic_rm.rl_tables import rl_tables
from synthetic_rm.simulation import Simulation
from synthetic_rm.store import Store


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return tiny_world(tmp_path_factory)


@pytest.fixture(scope="module")
def group(made: Made) -> RLGroup:
    return optimized(simulation(made, RL))[0]


@pytest.fixture(scope="module")
def tables(made: Made, group: RLGroup) -> Tables:
    return overoptimization_tables(simulation(made, RL))


def of_rl(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["optimizer"] == "ppo"].reset_index(drop=True)


def test_one_artifact_holds_every_run_and_is_found_again(made: Made, group: RLGroup) -> None:
    asked = simulation(made, RL)
    names = {path.name for path in group.artifact.path.iterdir()}
    assert names == {"points.safetensors", "history.safetensors", "policies.safetensors", "manifest.json"}
    assert len(group.artifact.facts["ended"]) == len(run_seeds(asked.settings.rl)) == 2
    again = optimized(asked)[0]
    assert again.artifact.reused and again.artifact.key == group.artifact.key
    assert not optimized(simulation(made, RL | {"rl.clip": 0.3, "rl.max_steps": 2}))[0].artifact.reused
    tables_only = optimized(simulation(made, RL | {"rl.table_prompts": 1}))[0]
    assert tables_only.artifact.key == group.artifact.key


def test_the_first_point_is_the_reference_and_the_last_the_policy_of_the_end(group: RLGroup) -> None:
    steps = group.points["step"]
    assert (steps[:, 0] == 0).all() and (group.points["kl"][:, 0] == 0).all()
    for lane, count in enumerate(group.artifact.facts["steps"]):
        kept = steps[lane][steps[lane] >= 0]
        assert kept[-1] == count - 1 and (np.diff(kept) > 0).all() and len(kept) >= 4
        assert (
            np.isfinite(group.history["kl"][lane][:count]).all() and np.isnan(group.history["kl"][lane][count:]).all()
        )
        assert group.points["kl"][lane][len(kept) - 1].mean() > 1.0


def test_rewards_are_in_standard_deviations_of_the_proxy_over_the_pool(made: Made, group: RLGroup) -> None:
    asked = simulation(made, RL)
    raw = np.asarray(asked.proxy_scores(group.proxies), np.float64)
    facts = group.artifact.facts
    np.testing.assert_allclose(facts["proxy_mean"], raw.mean((1, 2)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(facts["proxy_deviation"], raw.std((1, 2)), rtol=1e-5)
    first = group.points["proxy"][:, 0]  # 4 prompts x 4 responses of the reference
    assert np.abs(first.mean(1)).max() < 1.0
    assert (group.history["proxy"][:, 0] < 1.0).all() and (group.history["proxy"][:, 0] > -1.0).all()


def test_records_are_those_of_the_contract_and_start_at_the_reference(made: Made, tables: Tables) -> None:
    rl, bon = of_rl(tables.records), tables.records[tables.records["optimizer"] == "best_of_n"]
    assert set(made.tables.records.columns) <= set(rl.columns)
    filled = [name for name in made.tables.records.columns if name != "kl_support"]
    assert not rl[[*filled, "k1", "k2", "k3", "entropy", "repetition", "finished", "agreement"]].isna().to_numpy().any()
    for _, rows in rl.groupby("run"):
        first = rows.iloc[0]
        assert first[["kl", "proxy_se", "gold_se", "k1", "k3"]].tolist() == [0] * 5
        np.testing.assert_allclose(first[["proxy", "gold", "proxy_native"]].astype(float), 0, atol=1e-5)
        assert first["num_samples"] == 48 and (rows["num_samples"].iloc[1:] == 4).all()
        assert (rows["kl"].iloc[1:] > 0).all() and (rows["kl_se"].iloc[1:] > 0).all()
        assert rows["pressure"].is_monotonic_increasing and (rows["num_prompts"] == 4).all()
        assert rows["finished"].between(0, 1).all() and rows["agreement"].between(0, 1).all()
        assert rows["response_length"].between(1, 12).all()
    pd.testing.assert_frame_equal(bon[made.tables.records.columns].reset_index(drop=True), made.tables.records)


def test_curves_and_records_are_the_measurements(made: Made, group: RLGroup, tables: Tables) -> None:
    asked, curves = simulation(made, RL), tables.rl_curves
    assert curves is not None and curves["pressure"].shape == group.points["step"].shape
    gold = np.asarray(asked.gold_scores(), np.float64)
    raw = np.asarray(asked.proxy_scores(group.proxies), np.float64)
    for lane, run in enumerate(curves["run"]):
        rows = of_rl(tables.records)
        rows = rows[rows["run"] == run]
        count = len(rows)
        np.testing.assert_array_equal(curves["pressure"][lane][:count], rows["pressure"])
        for name in ("proxy", "gold"):
            np.testing.assert_allclose(curves[name][lane][:count].mean(1), rows[name], atol=1e-5)
        np.testing.assert_allclose(curves["gold"][lane, 0], gold.mean(1) - gold.mean(), atol=1e-5)
        np.testing.assert_allclose(
            curves["gold"][lane, 1:count], group.points["gold"][lane, 1:count] - gold.mean(), atol=1e-5
        )
        native = group.points["proxy"][lane, 1:count].mean(1) * raw[lane].std()
        np.testing.assert_allclose(rows["proxy_native"].iloc[1:], native, rtol=1e-4, atol=1e-5)
        factor = asked.recalibration(group.proxies, lane) / made.world.gold_scale
        np.testing.assert_allclose(rows["proxy"], factor * rows["proxy_native"], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(rows["kl"], group.points["kl"][lane, :count].mean(1), rtol=1e-5)
        np.testing.assert_allclose(rows["clip_fraction"], group.history["clip_fraction"][lane][rows["pressure"]])


def test_every_run_is_listed_with_how_it_ended(made: Made, group: RLGroup, tables: Tables) -> None:
    runs = tables.runs[tables.runs["stage"] == "ppo"]
    assert runs["status"].tolist() == ["ok", "ok"] and runs["ended"].isin(["kl_budget", "max_steps"]).all()
    assert set(runs["run"]) == set(of_rl(tables.records)["run"]) and runs["config_hash"].is_unique
    assert runs["steps"].tolist() == group.artifact.facts["steps"]
    assert (runs["seconds"] > 0).all() and (runs["commit"] == ORIGIN["commit"]).all()
    assert tables.runs["run"].is_unique and len(tables.runs) == len(made.tables.runs) + 2
    history = tables.history
    assert history is not None and set(Metrics._fields) <= set(history.columns)
    assert history.groupby("run", sort=False).size().tolist() == group.artifact.facts["steps"]


def test_samples_show_what_one_run_says_as_it_goes(made: Made, group: RLGroup, tables: Tables) -> None:
    samples = of_rl(tables.samples)
    assert samples["prompt_id"].nunique() == 2 and samples["proxy_seed"].nunique() == 1 and samples["n"].isna().all()
    points = int((group.points["step"][0] >= 0).sum())
    for prompt, rows in samples.groupby("prompt_id"):
        assert len(rows) == points and rows["kl"].iloc[0] == 0 and rows["pressure"].is_monotonic_increasing
        tokens = group.points["first_tokens"][0, points - 1, prompt]
        length = int(group.points["first_length"][0, points - 1, prompt])
        assert rows["response"].iloc[-1].startswith(made.world.environment.decode(tokens[:length]))


def test_another_gold_leaves_policies_proxy_scores_and_kl_as_they_are(
    made: Made, group: RLGroup, tmp_path: Path
) -> None:
    asked = simulation(made, RL, Store(tmp_path, ORIGIN))
    gold = made.world.gold
    turned = jax.tree.map(lambda x: x, gold)
    turned = turned.centred(float(gold.shift), -float(gold.scale))
    for name in ("pool", "comparisons", "gold_scoring"):
        asked.__dict__[name] = getattr(simulation(made, RL), name)
    asked.__dict__["world"] = made.world.__class__(**(made.world.__dict__ | {"gold": turned}))
    proxies = simulation(made, RL).proxies(SIZE)
    scoring = simulation(made, RL).proxy_scoring(proxies)
    object.__setattr__(asked, "proxies", lambda size: proxies)
    object.__setattr__(asked, "proxy_scoring", lambda group: scoring)
    other = optimized(asked)[0]
    ours, theirs = ((g.artifact.path / "policies.safetensors").read_bytes() for g in (group, other))
    assert ours == theirs
    for name, values in group.history.items():
        np.testing.assert_array_equal(values, other.history[name], err_msg=name)
    for name in ("step", "kl", "proxy", "first_tokens"):
        np.testing.assert_array_equal(group.points[name], other.points[name], err_msg=name)
    np.testing.assert_allclose(group.points["gold"], -other.points["gold"], atol=1e-6)
    assert np.abs(group.points["gold"]).max() > 0.1


def with_nan(proxies: Callable[..., Any]) -> Callable[..., Any]:
    """The proxy of seed 1 gives no number."""

    def spoiled(self: Simulation, size: int) -> Any:
        group = proxies(self, size)
        params = jax.tree.map(lambda x: x.at[1].set(np.nan), group.params)
        return type(group)(group.size, group.network, params, group.artifact)

    return spoiled


def test_a_proxy_that_gives_no_number_is_recorded_and_its_neighbour_goes_on(
    made: Made, group: RLGroup, tables: Tables, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Simulation, "proxies", with_nan(Simulation.proxies))
    changes = RL | {"rl.seed": 0}
    asked = simulation(made, changes)
    scoring = simulation(made, RL).proxy_scoring
    asked = simulation(made, changes, Store(tmp_path, ORIGIN))
    for name in ("pool", "comparisons", "gold_scoring"):
        asked.__dict__[name] = getattr(simulation(made, RL), name)
    object.__setattr__(asked, "proxy_scoring", scoring)
    found = rl_tables(asked)
    assert [row["status"] for row in found.runs] == ["ok", "nonfinite"]
    assert found.runs[1]["ended"] == "nonfinite" and set(found.records["proxy_seed"]) == {0}
    assert set(found.history["status"]) == {"ok", "nonfinite"}
    ours = of_rl(tables.records)
    ours = ours[ours["proxy_seed"] == 0].reset_index(drop=True)
    for name in ("pressure", "kl", "gold", "proxy_native", "response_length"):
        np.testing.assert_array_equal(found.records[name], ours[name], err_msg=name)


def test_the_bar_tells_kl_proxy_gold_and_tokens(made: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    heard: list[tuple[float, str, dict[str, float]]] = []
    monkeypatch.setattr(Bar, "advance", lambda self, x, note="", **others: heard.append((x, note, others)))
    asked = simulation(made, RL | {"rl.max_steps": 4, "rl.measure_every": 2})
    optimized(asked)
    told = [x for x in heard if "tokens" in x[2]]
    assert sum(x for x, _, _ in heard) == pytest.approx(2.0)  # each run counts once, however it ends
    assert all("KL" in note and "proxy" in note and "gold" in note for _, note, _ in told)
    assert all(others["tokens"] >= 16 for _, _, others in told)
