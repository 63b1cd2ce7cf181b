"""A study: its points are what they say, their tables are joined without loss, and few comparisons are among many."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
import yaml
from tiny_world import TRAINING, Made, simulation, tiny_world

from synthetic_rm.analysis.claims.judging import NOT_MEASURED
from synthetic_rm.analysis.run_folder import load_run_folder
from synthetic_rm.errors import InputError
from synthetic_rm.experiment import run
from synthetic_rm.results import Tables, best_of_n_tables
from synthetic_rm.settings import Settings, flatten, points_of, varied
from synthetic_rm.settings_checks import validate
from synthetic_rm.study import check_study, joined

FEW = 40


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return tiny_world(tmp_path_factory)


@pytest.fixture(scope="module")
def few(made: Made) -> Tables:
    return best_of_n_tables(simulation(made, {"proxy.num_comparisons": FEW}))


def test_points_differ_from_the_settings_in_what_they_say_alone() -> None:
    study: list[dict[str, Any]] = [{}, {"proxy.epochs": 4.0, "comparisons.num": 500}, {"rl.method": None}]
    settings = Settings(study=study, output="here")
    base = flatten(Settings(output="here"))
    assert [flatten(point) for point in points_of(settings)] == [base | point for point in study]
    assert points_of(Settings(output="here")) == [Settings(output="here")]
    assert varied(settings, {"environment.build.seed": 3}).environment.build.seed == 3
    check_study(settings, validate)
    check_study(Settings(study=[{"proxy.epochs": 2, "proxy.learning_rate": 1e-3, "proxy.sizes": [2_000]}]), validate)


BAD: list[tuple[list[dict[str, Any]], str]] = [
    ([{"proxy.num": 500}], r"study\[0\]: proxy.num: no such key"),
    ([{}, {"best_of_n.seed": 1}], r"study\[1\]: best_of_n.seed: no such key"),
    ([{"output": "x"}], r"study\[0\]: output"),
    ([{"proxy.seeds": 2.5}], r"study\[0\]: proxy.seeds=2.5: allowed is int"),
    ([{"proxy.seeds": True}], r"proxy.seeds=True: allowed is int"),
    ([{"proxy.num_comparisons": "all"}], r"proxy.num_comparisons='all'"),
    ([{"proxy.sizes": [2_000, "big"]}], r"proxy.sizes=\[2000, 'big'\]"),
    ([{}, {"proxy.epochs": 0.0}], r"study\[1\]: proxy.epochs=0.0"),
    ([{"proxy.epochs": 2.0}, {"proxy.epochs": 2.0}], r"study\[1\]: is the same as study\[0\]"),
]


@pytest.mark.parametrize(("study", "message"), BAD, ids=[message for _, message in BAD])
def test_a_point_that_cannot_be_is_told_before_any_is_run(study: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        check_study(Settings(study=study), validate)
    assert "\n" not in str(error.value)


def test_without_a_study_what_is_wrong_is_told_as_ever() -> None:
    with pytest.raises(InputError, match=r"^proxy.seeds=0"):
        check_study(varied(Settings(), {"proxy.seeds": 0}), validate)


def test_few_comparisons_are_the_first_of_many_and_validated_alike(made: Made) -> None:
    all_of_them, few = simulation(made), simulation(made, {"proxy.num_comparisons": FEW})
    (much, held_out), (little, same) = all_of_them.comparison_parts(), few.comparison_parts()
    assert little.target.shape[0] == FEW < much.target.shape[0] == TRAINING
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x[:FEW], y), much, little)
    jax.tree.map(np.testing.assert_array_equal, held_out, same)
    assert few.comparisons.key == all_of_them.comparisons.key


def test_records_tell_how_many_comparisons_and_epochs_there_were(made: Made, few: Tables) -> None:
    assert set(few.records["num_comparisons"]) == {FEW} and set(made.tables.records["num_comparisons"]) == {TRAINING}
    assert set(few.records["proxy_epochs"]) == {1.0}
    assert not set(few.records["run"]) & set(made.tables.records["run"])


def test_every_curve_names_its_proxy(few: Tables) -> None:
    proxies = few.runs[few.runs["stage"] == "proxy"].set_index("run")
    curves = few.runs[few.runs["stage"] == "best_of_n"]
    assert proxies.loc[curves["proxy_run"], "proxy_seed"].tolist() == curves["proxy_seed"].tolist()


def test_joined_tables_hold_every_run_once_and_nothing_else(made: Made, few: Tables) -> None:
    whole = joined([made.tables, few])
    for name in ("records", "runs"):
        tables = [getattr(part, name) for part in (whole, made.tables, few)]
        assert set(tables[0]["run"]) == {*tables[1]["run"], *tables[2]["run"]}
    assert len(whole.records) == len(made.tables.records) + len(few.records)
    assert whole.runs["run"].is_unique and (whole.runs["stage"] == "pool").sum() == 1
    for part in (made.tables, few):
        for place, name in enumerate(part.curves["run"]):
            where = list(whole.curves["run"]).index(name)
            np.testing.assert_array_equal(whole.curves["gold"][where], part.curves["gold"][place])
    assert whole.rl_curves is None and whole.history is None and whole.samples is made.tables.samples
    assert joined([few]) is few


def test_runs_of_rl_are_padded_to_the_longest_of_all(few: Tables) -> None:
    def part(run: str, points: int) -> Tables:
        scores = np.ones((1, points, 4), np.float32)
        arrays = {"run": np.array([run]), "pressure": np.arange(points)[None], "proxy": scores, "gold": 2 * scores}
        return few._replace(rl_curves=arrays, history=pd.DataFrame({"run": [run]}))

    whole = joined([part("a", 3), part("b", 5)])
    assert whole.rl_curves is not None and whole.history is not None
    np.testing.assert_array_equal(whole.rl_curves["pressure"], [[0, 1, 2, -1, -1], [0, 1, 2, 3, 4]])
    assert whole.rl_curves["gold"][0, :, 0].tolist() == [2, 2, 2, 0, 0] and list(whole.history["run"]) == ["a", "b"]


def test_a_study_leaves_one_folder_with_every_point_and_its_verdicts(made: Made, few: Tables, tmp_path: Path) -> None:
    study: list[dict[str, Any]] = [{"proxy.num_comparisons": TRAINING}, {"proxy.num_comparisons": FEW}]
    places = {"output": str(tmp_path / "study"), "store": str(made.store), "runtime.progress": False}
    folder = run(varied(made.settings, {**places, "study": study}))
    told = load_run_folder(folder)
    assert set(told.records["num_comparisons"]) == set(told.fits["num_comparisons"]) == {FEW, TRAINING}
    assert set(few.records["run"]) < set(told.records["run"]) and len(told.fits) == 2
    assert yaml.safe_load((folder / "config.yaml").read_text())["study"] == study
    gold = few.records.set_index(["run", "pressure"])["gold"]
    mine = told.records.set_index(["run", "pressure"])["gold"]
    pd.testing.assert_series_equal(mine.loc[gold.index], gold)
    assert {path.name for path in folder.glob("figure_data_*.png")} >= {
        "figure_data_gold.png",
        "figure_data_curves.png",
    }
    verdicts = pd.read_csv(folder / "verdicts.csv").set_index("claim")["verdict"]
    assert verdicts["H4a"] == NOT_MEASURED  # no proxies taught by 2,000
