"""Tables for people: what is in the data is in the cells, and text from outside stays text."""

import math
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from analysis.synthetic_folder import HOSTILE, SIZES, write_folder
from rich.console import Console
from rich.table import Table

from synthetic_rm.analysis.curves import overoptimization
from synthetic_rm.analysis.run_folder import RunFolder, load_run_folder
from synthetic_rm.analysis.tables import (
    Markup,
    escape,
    html_table,
    number,
    summary_frame,
    summary_table,
    validation_accuracy,
    verdict_text,
    with_interval,
    with_verdicts,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return load_run_folder(write_folder(tmp_path_factory.mktemp("run"), prompts=16, points=10, failed=2))


@pytest.fixture(scope="module")
def verdicts(run: RunFolder) -> pd.DataFrame:
    return overoptimization(run.curves, run.records, rng=np.random.default_rng(0), num_resamples=200)


def printed(table: Table, width: int) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"), color_system=None)  # noqa: SIM115
    console.print(table)
    console.file.close()
    return console.export_text()


NUMBERS = {(1.005, 1): "1.0", (-0.5, 2): "−0.50", (-0.001, 2): "0.00", (math.nan, 2): "–", (None, 2): "–"}
NUMBERS |= {(1.7e19, 1): "1.7e+19", (99_999.4, 0): "99999"}
NUMBERS |= {(math.inf, 2): "∞", (-math.inf, 2): "−∞", (np.float32(2), 0): "2", (np.int64(3), 1): "3.0"}


@pytest.mark.parametrize(("given", "text"), NUMBERS.items())
def test_number(given: tuple[float, int], text: str) -> None:
    assert number(*given) == text


def test_an_unknown_interval_is_left_out() -> None:
    assert with_interval(0.5, 0.25, math.inf) == "0.50 [0.25, ∞]"
    assert with_interval(0.5, math.nan, 0.75) == with_interval(0.5, None, None) == "0.50"


def test_verdict_names_rise_and_fall() -> None:
    texts = {verdict_text(rose, verdict) for rose in (True, False) for verdict in ("fell", "not seen")}
    assert len(texts) == 4
    assert verdict_text(True, "fell") == "rose, then fell"


def test_validation_accuracy_is_that_of_finished_proxies(run: RunFolder) -> None:
    runs = run.runs.copy()
    mine = (runs["stage"] == "proxy") & (runs["params"] == SIZES[0])
    runs.loc[mine & (runs["status"] == "ok"), "validation_accuracy"] = [0.5, 0.7]
    runs.loc[mine & (runs["status"] != "ok"), "validation_accuracy"] = 0.0
    assert validation_accuracy(runs, SIZES[0]) == pytest.approx(0.6)
    assert math.isnan(validation_accuracy(runs[["run", "stage", "status"]], SIZES[0]))


def test_summary_has_a_row_per_size_with_its_own_numbers(run: RunFolder, verdicts: pd.DataFrame) -> None:
    shuffled = run.fits.sample(frac=1, random_state=0), verdicts.sample(frac=1, random_state=1)
    frame = summary_frame(*shuffled, run.runs)
    assert frame["params"].tolist() == ["2.1k", "4.4k", "9.0k", "22k", "71k"]
    assert frame["seeds"].tolist() == ["2", "4", "4", "4", "4"]
    for position, (_, fit) in enumerate(run.fits.iterrows()):
        cells, verdict = frame.iloc[position], verdicts.iloc[position]
        assert cells["alpha"] == with_interval(fit["alpha"], fit["alpha_lo"], fit["alpha_hi"])
        beyond = fit["peak_kl"] > verdict["last_kl"]
        assert cells["peak gold"].startswith("–" if beyond else number(fit["peak_gold"]))
        assert cells["peak KL"].startswith("beyond the data" if beyond else number(fit["peak_kl"], 1))
        assert cells["last gold"] == number(verdict["last_gold"])
        assert cells["verdict"] == verdict_text(verdict["rose"], verdict["verdict"])
        assert cells["peak seen"] == ("yes" if fit["identified"] else "no")


def test_parameters_without_embeddings_stand_beside_the_others(run: RunFolder, verdicts: pd.DataFrame) -> None:
    both = [table.assign(proxy_params_nonembedding=[55, 213, 793, 3_393, 39_921]) for table in (run.fits, verdicts)]
    frame = summary_frame(*both, run.runs)
    assert frame["non-emb."].tolist() == ["55", "213", "793", "3.4k", "40k"]
    text = printed(summary_table(*both, run.runs), 80)
    assert max(map(len, text.splitlines())) <= 80 and all(word in text for word in frame["non-emb."])
    unknown = summary_frame(run.fits.assign(proxy_params_nonembedding=np.nan), verdicts, run.runs)
    assert set(unknown["non-emb."]) == {"–"} and "non-emb." not in summary_frame(run.fits, verdicts, run.runs)


def test_a_peak_far_beyond_the_data_has_no_figure(run: RunFolder, verdicts: pd.DataFrame) -> None:
    for peak in (1.7e19, math.inf, verdicts["last_kl"].iloc[0] + 0.01):
        frame = summary_frame(run.fits.assign(peak_kl=peak, peak_gold=7e7), verdicts, run.runs)
        assert set(frame["peak KL"]) == {"beyond the data"} and set(frame["peak gold"]) == {"–"}
    frame = summary_frame(run.fits.assign(peak_kl=verdicts["last_kl"].iloc[0]), verdicts, run.runs)
    assert not frame["peak KL"].str.contains("beyond").any()


def test_settings_of_one_size_are_not_mixed_up(run: RunFolder, verdicts: pd.DataFrame) -> None:
    soft = verdicts.assign(labels="soft", last_gold=99.0)
    merged = with_verdicts(run.fits.assign(labels="hard"), pd.concat([soft, verdicts]))
    assert merged["last_gold"].tolist() == verdicts["last_gold"].tolist()
    assert merged["peak_gold"].tolist() == run.fits["peak_gold"].tolist()  # of the fit, not the measured one


def test_a_fit_without_verdict_stays_in_the_table(run: RunFolder, verdicts: pd.DataFrame) -> None:
    frame = summary_frame(run.fits, verdicts.iloc[1:], run.runs)
    assert frame["verdict"].iloc[0] == frame["last gold"].iloc[0] == "–"
    assert len(frame) == len(SIZES)


@pytest.mark.parametrize("width", [80, 200])
def test_terminal_table_shows_every_cell(run: RunFolder, verdicts: pd.DataFrame, width: int) -> None:
    text = printed(summary_table(run.fits, verdicts, run.runs), width)
    frame = summary_frame(run.fits, verdicts, run.runs)
    assert max(map(len, text.splitlines())) <= width
    for word in " ".join(frame.to_numpy().ravel()).split():  # brackets are no markup, nothing is cut
        assert word in text
    assert f"2 of {len(run.runs)} runs failed" in " ".join(text.split())


def test_the_level_of_the_intervals_is_told(run: RunFolder, verdicts: pd.DataFrame) -> None:
    assert "80% intervals" in printed(summary_table(run.fits, verdicts, run.runs, level=0.8), 200)


def test_failures_are_not_told_of_where_there_are_none(run: RunFolder, verdicts: pd.DataFrame) -> None:
    text = printed(summary_table(run.fits, verdicts, run.runs[run.runs["status"] == "ok"]), 200)
    assert "failed" not in text


class Reader(HTMLParser):
    """Tags and texts of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.ids: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_html_cells_stay_text_wherever_they_stand() -> None:
    frame = pd.DataFrame({HOSTILE: [HOSTILE, Markup("<b>bold</b>")]})
    reader = Reader(html_table(frame, caption=HOSTILE, row_id="row"))
    assert {"script", "img"}.isdisjoint(reader.tags)
    assert reader.tags.count("b") == 1
    assert reader.texts.count(HOSTILE.replace("\x1b", r"\x1b")) == 3  # caption, heading, cell
    assert reader.ids == ["row-0", "row-1"]


def test_escape_is_applied_once_and_shows_control_characters() -> None:
    assert escape("a<b") == "a&lt;b" and escape(escape("a<b")) == "a&lt;b"
    assert escape("\x00\x1b\x7f\n") == "\\x00\\x1b\\x7f\n"


def test_summary_of_a_folder_on_disk_equals_that_in_memory(tmp_path: Path, run: RunFolder) -> None:
    run.fits.to_csv(tmp_path / "fits.csv", index=False)
    again = pd.read_csv(tmp_path / "fits.csv")
    verdicts = overoptimization(run.curves, run.records, rng=np.random.default_rng(0), num_resamples=50)
    pd.testing.assert_frame_equal(summary_frame(again, verdicts, run.runs), summary_frame(run.fits, verdicts, run.runs))
