"""Points of a sweep: their names, how they end, and what is told of them."""

import json
import string
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from synthetic_rm.entry import TRACEBACK
from synthetic_rm.errors import InputError, RunError
from synthetic_rm.settings import Settings
from synthetic_rm.sweep import (
    LONGEST,
    STATUS,
    begin,
    finish,
    for_each,
    outcomes,
    point_name,
    run_point,
    settings_of_point,
)


def points_below(folder: Path, *names: str) -> dict[str, Settings]:
    return {name: settings_of_point(Settings(output=str(folder)), name) for name in names}


def test_a_point_is_called_by_what_is_swept() -> None:
    assert point_name(["proxy.sizes=[2000, 4000]", "+experiment=figure1"]) == "proxy.sizes=2000,4000,experiment=figure1"
    assert point_name([]) == "point"
    long = [point_name([f"environment.data={'x' * 300}{i}"]) for i in range(2)]
    assert len(set(long)) == 2 and all(len(name) == LONGEST for name in long)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), min_size=1, max_size=4))
def test_no_name_leaves_the_folder_and_no_two_values_share_one(values: list[str]) -> None:
    """Whatever is swept: separators, dots, unprintable and non-Latin characters."""
    names = [point_name([f"environment.data={value}"]) for value in values]
    allowed = {*string.ascii_letters, *string.digits, *"_.=,+-"}
    assert all(set(name) <= allowed and 0 < len(name) <= LONGEST for name in names)
    assert all((Path("sweep") / name).resolve().parent == Path("sweep").resolve() for name in names)
    bare = {value.translate(str.maketrans("", "", "[]'\" ")) for value in values}
    assert len(set(names)) >= len(bare)


def test_a_check_that_fails_names_the_point() -> None:
    points = points_below(Path("out"), "a", "b")

    def check(settings: Settings) -> str:
        if settings.output.endswith("b"):
            raise InputError("proxy.seeds=0: allowed is 1 or more")
        return settings.output

    assert for_each({"a": points["a"]}, check) == {"a": str(Path("out/a"))}
    with pytest.raises(InputError, match=r"^point b: proxy\.seeds=0: allowed is 1 or more$"):
        for_each(points, check)


def raising(error: BaseException | None) -> Any:
    def run(settings: Settings) -> None:
        if error is not None:
            raise error

    return run


ENDS = [
    (None, "ok", ""),
    (InputError("environment.data=x:\n no"), "failed", "environment.data=x: no"),
    (RunError("no curve"), "failed", "no curve"),
    (ZeroDivisionError("by 0"), "failed", "unforeseen ZeroDivisionError: by 0"),
    (MemoryError(), "failed", "memory: not enough"),
]


@pytest.mark.parametrize(("error", "status", "told"), ENDS, ids=[type(error).__name__ for error, *_ in ENDS])
def test_how_a_point_ends_is_told_in_its_folder(
    tmp_path: Path, error: BaseException | None, status: str, told: str
) -> None:
    points = points_below(tmp_path, "a")
    outcome = run_point(points["a"], "a", raising(error))
    assert outcome.status == status and outcome.error.startswith(told) and outcome.seconds is not None
    assert outcomes(points) == [outcome]
    traceback = tmp_path / "a" / TRACEBACK
    unforeseen = told.startswith("unforeseen")
    assert traceback.exists() == unforeseen
    if unforeseen:
        assert "Traceback" in traceback.read_text() and str(traceback) in outcome.error
    assert run_point(points["a"], "a", raising(None)).status == "ok" and not traceback.exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_what_ends_the_process_goes_on_and_is_told(tmp_path: Path, error: BaseException) -> None:
    points = points_below(tmp_path, "a", "b")
    with pytest.raises(type(error)):
        run_point(points["a"], "a", raising(error))
    assert [outcome.status for outcome in outcomes(points)] == ["interrupted", "not run"]


def test_a_point_whose_process_died_is_lost(tmp_path: Path) -> None:
    points = points_below(tmp_path, "a", "b")

    def die(settings: Settings) -> None:
        status = Path(settings.output) / STATUS
        left.append(status.read_bytes())

    left: list[bytes] = []
    run_point(points["a"], "a", die)
    (tmp_path / "a" / STATUS).write_bytes(left[0])  # as it was while the point ran
    run_point(points["b"], "b", raising(None))
    (tmp_path / "b" / STATUS).write_text("[")
    found = outcomes(points)
    assert [outcome.status for outcome in found] == ["lost", "lost"]
    assert "its process" in found[0].error and STATUS in found[1].error
    begin(points)
    assert [outcome.status for outcome in outcomes(points)] == ["not run", "not run"]


@pytest.mark.parametrize("fail_fast", [False, True])
def test_the_first_failure_stops_the_others_if_asked_to(tmp_path: Path, fail_fast: bool) -> None:
    points = {
        name: replace(settings, fail_fast=fail_fast)
        for name, settings in points_below(tmp_path, "a", "b", "c", "d").items()
    }
    for _ in range(2):  # the second time, what was left of the first counts for nothing
        begin(points)
        for name, settings in points.items():
            run_point(settings, name, raising(RunError("no") if name == "b" else None))
        found = [outcome.status for outcome in outcomes(points)]
        assert found == ["ok", "failed", *(["skipped"] * 2 if fail_fast else ["ok"] * 2)]


def test_the_table_and_the_index_tell_every_point(tmp_path: Path) -> None:
    points = points_below(tmp_path, "a", "b", "c")
    run_point(points["a"], "a", raising(None))
    assert not finish(points)[1]
    run_point(points["b"], "b", raising(RunError("no [red]curve")))
    table, good = finish(points)
    with (console := Console(width=300)).capture() as captured:
        console.print(table)
    lines = {name: line for line in captured.get().splitlines() for name in points if str(tmp_path / name) in line}
    assert not good and [lines[name].split()[1:2] for name in "abc"] == [["ok"], ["failed"], ["not"]]
    assert "no [red]curve" in lines["b"]
    index = pd.read_csv(tmp_path / "sweep.csv")
    assert list(index["point"]) == ["a", "b", "c"] and list(index["status"]) == ["ok", "failed", "not run"]
    assert list(index["output"]) == [str(tmp_path / name) for name in "abc"]
    assert index["seconds"].notna().tolist() == [True, True, False] and index["error"][1] == "no [red]curve"
    assert json.loads((tmp_path / "a" / STATUS).read_text())["status"] == "ok"
    assert finish({"a": points["a"]})[1]


def test_the_results_of_a_single_run_are_not_taken_for_a_sweeps(tmp_path: Path) -> None:
    (tmp_path / "records.csv").write_text("run\n")
    with pytest.raises(InputError, match=r"output=.*single run"):
        begin(points_below(tmp_path, "a"))
    assert [path.name for path in tmp_path.iterdir()] == ["records.csv"]
