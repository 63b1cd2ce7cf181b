"""Tables of a run: what is not finite is marked and left out, every row is known by what made it, texts survive."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tiny_world import ORIGIN, SIZE, Made, simulation, tiny_world, without_curves

from synthetic_rm.curves import curves_of
from synthetic_rm.optimizers.best_of_n import measure
from synthetic_rm.progress import Bar
from synthetic_rm.results import Tables, best_of_n_tables, write_tables
from synthetic_rm.run_rows import each_once, release_row
from synthetic_rm.simulation import Simulation
from synthetic_rm.store import Artifact
from synthetic_rm.tails import pool_tail


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return tiny_world(tmp_path_factory)


TablesWith = Callable[[str, Any], Tables]


@pytest.fixture
def tables_with(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TablesWith:
    """Tables of curves measured where an attribute of the simulation is another."""
    stores = (tmp_path / f"store-{i}" for i in itertools.count())

    def measured(name: str, value: Any) -> Tables:
        monkeypatch.setattr(Simulation, name, value)
        return best_of_n_tables(simulation(made, store=without_curves(made, next(stores))))

    return measured


def fixed_factors(*factors: float) -> Callable[..., float]:
    return lambda self, group, seed: factors[seed]


def of_stage(tables: Tables, stage: str) -> pd.DataFrame:
    return tables.runs[tables.runs["stage"] == stage].reset_index(drop=True)


def test_the_factor_is_for_the_displayed_scale_alone(made: Made, tables_with: TablesWith) -> None:
    """A negative one turns the proxy's displayed curve round, and neither its ranking nor gold."""
    turned = tables_with("recalibration", fixed_factors(-2.0, 3.0))
    usual = tables_with("recalibration", fixed_factors(1.0, 1.0))
    ranked = ["kl", "gold", "gold_se", "response_length", "kl_support", "proxy_native", "pressure"]
    pd.testing.assert_frame_equal(turned.records[ranked], usual.records[ranked])
    np.testing.assert_array_equal(turned.curves["gold"], usual.curves["gold"])
    assert turned.samples["response"].tolist() == usual.samples["response"].tolist()
    for seed, factor in enumerate((-2.0, 3.0)):
        rows = turned.records[turned.records["proxy_seed"] == seed]
        assert (np.diff(rows["proxy_native"]) > 0).all() and (rows["proxy_se"] >= 0).all()
        np.testing.assert_allclose(rows["proxy"], factor / made.world.gold_scale * rows["proxy_native"], atol=1e-12)
        np.testing.assert_allclose(turned.curves["proxy"][seed], factor * usual.curves["proxy"][seed], atol=1e-6)
    assert of_stage(turned, "best_of_n")["recalibration"].tolist() == [-2.0, 3.0]


@pytest.mark.parametrize("factor", [-1.5, 0.25])
def test_the_winner_is_the_best_by_the_proxys_own_scores(made: Made, tables_with: TablesWith, factor: float) -> None:
    tables = tables_with("recalibration", fixed_factors(factor, factor))
    asked = simulation(made)
    raw = np.asarray(asked.proxy_scores(asked.proxies(SIZE)), np.float64)
    gold = np.asarray(asked.gold_scores(), np.float64)
    for seed, rows in tables.records.groupby("proxy_seed"):
        native = raw[seed] - raw[seed].mean()
        assert rows["proxy_native"].iloc[-1] == pytest.approx(native.max(axis=1).mean())
        best = np.take_along_axis(gold, native.argmax(axis=1)[:, None], axis=1).mean() - gold.mean()
        assert rows["gold"].iloc[-1] == pytest.approx(best, abs=1e-5)
        whole = measure(native, gold - gold.mean(), rows["pressure"].to_numpy())
        np.testing.assert_allclose(rows["gold"], whole.gold.mean(0), atol=1e-5)
    for _, rows in tables.samples.groupby("prompt_id"):
        shown = rows["proxy"] * np.sign(factor)
        assert shown.is_monotonic_increasing and shown.iloc[-1] > shown.iloc[0]


def with_nan(scores: Callable[..., np.ndarray], seeds: Sequence[int]) -> Callable[..., np.ndarray]:
    def spoiled(self: Simulation, group: Any) -> np.ndarray:
        found = np.array(scores(self, group))
        found[list(seeds), 1, 2] = np.nan
        return found

    return spoiled


def without_finite_training(proxies: Callable[..., Any], seeds: Sequence[int]) -> Callable[..., Any]:
    def spoiled(self: Simulation, size: int) -> Any:
        group = proxies(self, size)
        facts = group.artifact.facts | {"finite": [seed not in seeds for seed in range(2)]}
        manifest = group.artifact.manifest | {"facts": facts}
        return dataclasses.replace(group, artifact=dataclasses.replace(group.artifact, manifest=manifest))

    return spoiled


SPOILED: dict[str, Callable[[Sequence[int]], tuple[str, Any]]] = {
    "scores": lambda seeds: ("proxy_scores", with_nan(Simulation.proxy_scores, seeds)),
    "training": lambda seeds: ("proxies", without_finite_training(Simulation.proxies, seeds)),
    "recalibration": lambda seeds: ("recalibration", fixed_factors(*(np.nan if s in seeds else 1.0 for s in (0, 1)))),
}


@pytest.mark.parametrize("what", SPOILED)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_seed_that_is_not_finite_is_marked_and_the_other_goes_on(
    made: Made, tables_with: TablesWith, what: str, seed: int
) -> None:
    tables = tables_with(*SPOILED[what]([seed]))
    proxies = of_stage(tables, "proxy").set_index("proxy_seed")["status"]
    assert proxies.to_dict() == {seed: "nonfinite", 1 - seed: "ok"}
    assert of_stage(tables, "best_of_n")["proxy_seed"].tolist() == [1 - seed]
    assert set(tables.records["proxy_seed"]) == set(tables.samples["proxy_seed"]) == {1 - seed}
    own = made.tables.records[made.tables.records["proxy_seed"] == 1 - seed].reset_index(drop=True)
    for name in ("run", "gold", "gold_se", "proxy_native", "kl"):
        pd.testing.assert_series_equal(tables.records[name], own[name])
    assert np.isfinite(tables.curves["proxy"]).all() and len(tables.curves["run"]) == 1


@pytest.mark.parametrize("what", SPOILED)
def test_where_nothing_is_finite_every_run_is_still_listed(tables_with: TablesWith, tmp_path: Path, what: str) -> None:
    tables = tables_with(*SPOILED[what]([0, 1]))
    assert tables.records.empty and tables.samples.empty and len(tables.curves["run"]) == 0
    assert of_stage(tables, "proxy")["status"].tolist() == ["nonfinite"] * 2
    left = tmp_path / "left"
    left.mkdir()
    write_tables(tables, left)
    assert {path.name for path in left.iterdir()} == {"runs.csv", "environment.json"}
    assert (pd.read_csv(left / "runs.csv")["status"] == "nonfinite").sum() == 2


def test_gold_scores_that_are_not_finite_leave_no_curve(made: Made, tables_with: TablesWith) -> None:
    scoring = simulation(made).gold_scoring
    spoiled = dataclasses.replace(scoring, manifest=scoring.manifest | {"facts": {"finite": [False]}})
    tables = tables_with("gold_scoring", property(lambda self: spoiled))
    assert tables.records.empty
    assert set(of_stage(tables, "scores")["status"]) == {"nonfinite"}
    assert of_stage(tables, "best_of_n")["status"].tolist() == ["nonfinite"] * 2
    assert of_stage(tables, "proxy")["status"].tolist() == ["ok"] * 2


def test_curves_that_a_failure_leaves_are_not_measured_again(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy that was measured before it is kept; what is whole is only read, by best of n and by RL."""
    store, asked_for = without_curves(made, tmp_path / "store", every=0.0), list[int]()
    recalibration = Simulation.recalibration

    def failing(self: Simulation, group: Any, seed: int) -> float:
        asked_for.append(seed)
        if asked_for == [0, 1]:
            raise RuntimeError("off")
        return recalibration(self, group, seed)

    monkeypatch.setattr(Simulation, "recalibration", failing)
    with pytest.raises(RuntimeError, match="off"):
        best_of_n_tables(simulation(made, store=store))
    for _ in range(2):
        tables = best_of_n_tables(simulation(made, store=store))
        pd.testing.assert_frame_equal(tables.records, made.tables.records, check_exact=True)
        pd.testing.assert_frame_equal(tables.samples, made.tables.samples, check_exact=True)
    assert asked_for == [0, 1, 1] and of_stage(tables, "best_of_n")["reused"].all()


def test_every_artifact_is_listed_once(made: Made) -> None:
    """Here reference, gold and backbone start from one and the same language model."""
    assert len(made.world.stages) > len({stage.key for stage in made.world.stages})
    runs = made.tables.runs
    assert runs["run"].is_unique and len(of_stage(made.tables, "backbone")) == 1
    stages = runs[~runs["stage"].isin(["proxy", "best_of_n"])]
    assert stages["config_hash"].is_unique
    assert set(stages["config_hash"]) >= {stage.key for stage in made.world.stages}


def test_of_several_that_are_one_the_first_is_kept() -> None:
    names = "abacb"
    found = each_once([Artifact(Path(str(place)), key, {}, False) for place, key in enumerate(names)])
    assert [(artifact.key, str(artifact.path)) for artifact in found] == [("a", "0"), ("b", "1"), ("c", "3")]


def curve_hashes(tables: Tables) -> list[str]:
    return of_stage(tables, "best_of_n")["config_hash"].tolist()


DETERMINING: list[dict[str, Any]] = [
    {"best_of_n.points": 4},
    {"best_of_n.max_n": 20},
    {"best_of_n.seed": 1},
    {"comparisons.labels": "human"},
    {"proxy.learning_rate": 0.01},
]


@pytest.mark.parametrize("changes", DETERMINING, ids=str)
def test_a_curve_is_known_by_all_that_determines_it(made: Made, changes: dict[str, Any]) -> None:
    ours, others = curve_hashes(made.tables), curve_hashes(best_of_n_tables(simulation(made, changes)))
    assert len(set(ours) | set(others)) == 4  # two seeds, two settings
    assert set(ours).isdisjoint(made.tables.runs.loc[made.tables.runs["stage"] != "best_of_n", "config_hash"])


def test_what_determines_no_curve_leaves_its_hash_and_its_run(made: Made) -> None:
    same = best_of_n_tables(simulation(made, {"best_of_n.table_prompts": 1, "fit.resamples": 300}))
    assert curve_hashes(same) == curve_hashes(made.tables)
    assert same.records["run"].tolist() == made.tables.records["run"].tolist()


def test_a_curves_row_says_where_when_and_how_long(made: Made) -> None:
    rows = of_stage(made.tables, "best_of_n")
    told = ["run", "status", "config_hash", "commit", "device", "seconds", "params", "recalibration", "proxy_seed"]
    assert not rows[[*told, "reused", "params_nonembedding"]].isna().to_numpy().any()
    assert (rows["commit"] == ORIGIN["commit"]).all() and (rows["device"] == ORIGIN["device"]).all()
    asked = simulation(made)
    group = asked.proxies(SIZE)
    spent = [stage.manifest["seconds"] for stage in (asked.proxy_scoring(group), curves_of(asked, group).artifact)]
    assert (
        min(spent) > 0 and rows["seconds"].tolist() == pytest.approx([sum(spent) / 2] * 2) and not rows["reused"].any()
    )
    for run, hash in zip(rows["run"], rows["config_hash"], strict=True):
        assert run.endswith(hash[:8])
    assert set(made.tables.records["run"]) == set(rows["run"]) == set(made.tables.curves["run"])


def test_a_curves_row_tells_the_tail_of_its_proxy(made: Made) -> None:
    """From the proxy's own scores, whatever the displayed scale."""
    found, run = of_stage(made.tables, "best_of_n"), simulation(made)
    scores = run.proxy_scores(run.proxies(SIZE))
    for seed, row in found.iterrows():
        expected = pool_tail(np.asarray(scores[seed], np.float64))
        assert row[list(expected)].tolist() == pytest.approx(list(expected.values()), rel=1e-6)
    assert (found["hill"] > 0).all() and found["hill"].nunique() == len(found)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_release_is_known_by_all_of_its_files(made: Made, place: int) -> None:
    """Two golds with one tokenizer are two releases, wherever the file that differs stands."""

    def row(keys: list[str]) -> dict[str, Any]:
        asked = simulation(made, {"environment.release": "reviews-v1", "environment.data": None})
        asked.__dict__["world"] = dataclasses.replace(made.world, keys=tuple(keys), stages=())
        return release_row(asked)

    keys = ["name", "gold", "tokenizer"]
    other = [key + "!" if i == place else key for i, key in enumerate(keys)]
    assert row(keys) == row(list(keys))
    assert row(keys)["config_hash"] != row(other)["config_hash"]


def test_the_largest_n_is_told_while_curves_are_measured(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    notes: list[str] = []
    monkeypatch.setattr(Bar, "advance", lambda self, amount, note="", **others: notes.append(note))
    asked = simulation(made, store=without_curves(made, tmp_path / "store"))
    said: list[str] = []
    monkeypatch.setattr(asked.reporter, "say", said.append)
    tables = best_of_n_tables(asked)
    last = tables.records[tables.records["pressure"] == 48]
    assert len(notes) == len(last) == 2
    for note, (_, row) in zip(notes, last.iterrows(), strict=True):
        assert note == f"n 48, KL {row['kl']:.2f}, proxy {row['proxy']:.2f}, gold {row['gold']:.2f}"
    assert any(f"gold {last['gold'].mean():.2f} (mean of 2 seeds)" in line for line in said)
    assert capsys.readouterr() == ("", "")
