"""The table of verdicts holds every claim, follows from the records alone, and links what it says to a figure."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from analysis.synthetic_folder import PROVENANCE, SIZES, add_rl, write_folder

from synthetic_rm.analysis.claims.judging import NOT_MEASURED
from synthetic_rm.analysis.main_setting import as_the_paper
from synthetic_rm.analysis.report import redraw
from synthetic_rm.analysis.run_folder import load_run_folder
from synthetic_rm.analysis.verdicts import (
    CLAIMS,
    MARKS,
    made_by,
    read_verdicts,
    verdicts,
    verdicts_markdown,
    verdicts_summary,
    with_verdicts,
)

ROOT = Path(__file__).parents[2]

RL_CLAIMS = ("H1a", "H1b", "H2a", "H2b", "H3b", "H3c", "H3d", "H7a", "H7b", "H7c", "H9")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Best-of-n and RL of known coefficients, drawn."""
    folder = write_folder(tmp_path_factory.mktemp("both") / "run", sizes=SIZES, prompts=24, points=16, noise=0.1)
    add_rl(folder)
    redraw(folder)
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("alone") / "run", sizes=SIZES[:2], prompts=12, points=16)


def measured(table: pd.DataFrame) -> set[tuple[str, str]]:
    kept = table[table["verdict"] != NOT_MEASURED]
    return set(zip(kept["claim"], kept["optimizer"], strict=True))


def test_every_claim_has_its_rows_whether_measured_or_not(both: Path, alone: Path) -> None:
    for folder in (both, alone):
        table = verdicts(load_run_folder(folder))
        for claim, (says, optimizers) in CLAIMS.items():
            mine = table[table["claim"] == claim]
            assert len(mine) == len(optimizers) and set(mine["says"]) == {says}
        absent = table["verdict"] == NOT_MEASURED
        assert table.loc[absent, ["value", "lo", "hi"]].isna().all(axis=None)
        assert table.loc[~absent, ["value", "lo", "hi"]].notna().all(axis=None)
        assert (table.loc[~absent, "lo"] <= table.loc[~absent, "hi"]).all()


def test_only_what_the_records_hold_is_measured(both: Path, alone: Path) -> None:
    of_n = {(claim, "best_of_n") for claim in ("H1a", "H1b", "H2a", "H2b")}
    assert measured(verdicts(load_run_folder(alone))) == of_n
    of_n |= {(claim, "best_of_n") for claim in ("H3a", "H3b", "H3c")}
    assert measured(verdicts(load_run_folder(both))) == of_n | {(claim, "ppo") for claim in RL_CLAIMS}


def test_a_world_with_the_claims_in_it_bears_them_out(both: Path) -> None:
    """Put in: both forms, coefficients over size, KL as the square of steps for RL at an offset, far more KL for it."""
    table = verdicts(load_run_folder(both)).set_index(["claim", "optimizer"])["verdict"]
    for found in (("H1a", "ppo"), ("H1b", "ppo"), ("H3a", "best_of_n"), ("H3b", "ppo"), ("H7a", "ppo")):
        assert table[found] == "reproduced", found
    assert table["H1b", "best_of_n"] == "reproduced"


def test_the_folder_holds_the_table_and_every_figure_that_it_names(both: Path) -> None:
    stored = read_verdicts(both.parent)["run"]
    computed = verdicts(load_run_folder(both))
    assert list(stored["verdict"]) == list(computed["verdict"])
    np.testing.assert_allclose(stored["lo"], computed["lo"], rtol=1e-5)
    named = {name for name in stored["figure"] if name}
    assert len(named) >= 6 and all((both / f"{name}.png").exists() for name in named)
    page = (both / "report.html").read_text(encoding="utf-8")
    section = page[page.index('<section id="verdicts">') : page.index('<section id="figures">')]
    assert set(re.findall(r'href="#(figure_\w+)"', section)) == named
    assert section.count("<tr>") == 1 + len(stored)


def test_verdicts_are_those_of_the_records(both: Path, tmp_path: Path) -> None:
    """Gold turned upside down turns the verdicts round."""
    for path in both.glob("*"):
        if path.suffix in (".csv", ".yaml", ".json", ".npz"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    for name in ("curves.npz", "curves_rl.npz"):
        with np.load(tmp_path / name) as archive:
            arrays = dict(archive)
        np.savez(tmp_path / name, **(arrays | {"gold": -arrays["gold"]}))
    before, after = (
        verdicts(load_run_folder(f)).set_index(["claim", "optimizer"])["verdict"] for f in (both, tmp_path)
    )
    for found in (("H1a", "ppo"), ("H3a", "best_of_n"), ("H3b", "ppo")):
        assert (before[found], after[found]) == ("reproduced", "not reproduced")
    assert before["H9", "ppo"] == after["H9", "ppo"]  # no word of gold


def test_markdown_tells_every_measured_claim_once_per_run_and_lists_the_rest(both: Path, alone: Path) -> None:
    tables = {name: verdicts(load_run_folder(folder)) for name, folder in (("big", both), ("sub/small", alone))}
    text = verdicts_markdown(tables)
    rows = [line for line in text.splitlines() if line.startswith("| H")]
    assert len(rows) == sum(len(measured(table)) for table in tables.values())
    assert "[sub/small](sub/small/figure_gold.png)" in text and "95% interval" in text and "| PPO: " in text
    assert all(line.count("|") == 5 for line in rows)
    last = text.strip().splitlines()[-1]
    policies = "; ".join(f"H6{part} (best-of-n, RL)" for part in "abc")
    assert last == f"Not measured: H4a (best-of-n); H4b (best-of-n); H5 (best-of-n); {policies}; H8a (RL); H8b (RL)."
    only = verdicts_markdown({"small": tables["sub/small"]})
    assert "H1a (RL)" in only and "H3a (best-of-n)" in only and "H7a (RL)" in only


def test_the_summary_tells_the_headline_run_and_who_differs(both: Path, alone: Path) -> None:
    tables = {"a/small": verdicts(load_run_folder(alone)), "figure1": verdicts(load_run_folder(both))}
    rows = [line for line in verdicts_summary(tables, "results/").splitlines() if line.startswith("| H")]
    assert [row.split()[1] for row in rows] == list(CLAIMS) and all(row.count("|") == 4 for row in rows)
    differing = 0
    for row, claim in zip(rows, CLAIMS, strict=True):
        for cell, kind in zip(row.split("|")[2:4], ("best_of_n", "RL"), strict=True):
            first, second = (
                [one for one in table[table["claim"] == claim].itertuples() if one.verdict != NOT_MEASURED
                 and (one.optimizer == "best_of_n") == (kind == "best_of_n")]
                for table in (tables["figure1"], tables["a/small"])
            )  # fmt: skip
            if not first + second:
                assert cell.strip() == (NOT_MEASURED if kind in CLAIMS[claim][1] else "–")
                continue
            told = (first or second)[0]
            assert cell.startswith(f" **{told.verdict}** in [{'figure1' if first else 'a/small'}](results/")
            assert f"{told.figure}.png): " in cell and f"{told.value:.3f}".replace("-", "−") in cell
            other = bool(first and second and second[0].verdict != told.verdict)
            assert ("; **" in cell) == other and ("a/small" in cell) == (other or not first)
            differing += other
    assert 0 < differing < len(CLAIMS)


def test_what_made_a_run_is_told(both: Path) -> None:
    told = made_by(both.parent, [both.name])
    for name in ("command", "started"):
        assert str(PROVENANCE[name]) in told
    assert f"| {PROVENANCE['commit'][:12]} |" in told


def test_a_page_holds_the_summary_between_its_marks_alone(alone: Path) -> None:
    tables = {"small": verdicts(load_run_folder(alone))}
    page = "a\n<!-- verdicts:begin -->\nwritten before\n<!-- verdicts:end -->\nb\n"
    told = with_verdicts(page, tables, "r/")
    assert told.startswith("a\n") and told.endswith("-->\nb\n") and "written before" not in told
    assert verdicts_summary(tables, "r/") in told and with_verdicts(told, tables, "r/") == told
    assert with_verdicts("a\n", tables, "r/") == "a\n"


def test_the_readme_tells_the_verdicts_of_the_committed_results() -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    assert page == with_verdicts(page, read_verdicts(ROOT / "results"), "results/") and MARKS[0] in page


def test_claims_are_about_the_papers_own_setting() -> None:
    """Of each optimizer: most comparisons, then least noise, no penalty, first policy; all where nothing differs."""
    best = [{"proxy_params": size, "num_comparisons": 9000, "label_noise": 0.0, "kl_coef": np.nan} for size in (1, 2)]
    others = [best[0] | {"num_comparisons": 900}, best[0] | {"label_noise": 0.25}, best[1] | {"kl_coef": 0.1}]
    records = pd.DataFrame([*others, *best]).assign(optimizer="best_of_n")
    assert as_the_paper(records).index.tolist() == [3, 4]
    assert as_the_paper(records, free="kl_coef").index.tolist() == [2, 3, 4]
    assert len(as_the_paper(records[["optimizer", "proxy_params"]])) == len(records)
    policies = records.assign(policy_params=[5, 5, 5, 5, 3])
    assert as_the_paper(policies).index.tolist() == [3]
    assert as_the_paper(policies, free="policy_params").index.tolist() == [3, 4]


def test_folders_without_verdicts_have_none(tmp_path: Path) -> None:
    assert read_verdicts(tmp_path) == {}


@pytest.mark.parametrize("table", sorted((ROOT / "results").glob("*/verdicts.csv")), ids=lambda path: path.parent.name)
def test_the_figure_of_every_committed_verdict_is_there(table: Path) -> None:
    named = pd.read_csv(table)["figure"].dropna()
    assert len(named) > 0
    assert [name for name in named if not (table.parent / f"{name}.png").is_file()] == []
