"""The report holds what the tables say, needs nothing but itself, and takes no text for markup."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from analysis.synthetic_folder import HOSTILE, PROVENANCE, SIZES, write_folder

from synthetic_rm.analysis.curves import overoptimization
from synthetic_rm.analysis.report import headline, redraw, write_report
from synthetic_rm.analysis.run_folder import load_run_folder
from synthetic_rm.analysis.tables import with_interval
from synthetic_rm.errors import InputError

VOID = {"meta", "link", "br", "img", "input"}
FIGURES = (
    *("figure_1a", "figure_gold", "figure_extrapolation", "figure_coefficients", "figure_proxy_vs_gold"),
    *("figure_proxy_scores", "figure_scaling"),
)


class Page(HTMLParser):
    """The elements of a page, checked to be well nested, and the texts within each."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.rows: dict[str, str] = {}
        self.row = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "tr":
            self.row = dict(attrs).get("id") or ""
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self.row:
            self.rows[self.row] = self.rows.get(self.row, "") + " " + data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def values(self, attribute: str) -> list[str]:
        return [attributes[attribute] or "" for _, attributes in self.elements if attribute in attributes]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_folder(tmp_path_factory.mktemp("run"), sizes=SIZES[:3], prompts=16, points=12)
    redraw(path)
    return path


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


@pytest.fixture
def bare(folder: Path, tmp_path: Path) -> Path:
    """A copy of the folder with its tables alone."""
    for path in folder.iterdir():
        if not path.name.startswith(("figure_", "report")):
            shutil.copy(path, tmp_path)
    return tmp_path


def test_the_page_needs_nothing_but_itself(page: Page, folder: Path) -> None:
    assert all(value.startswith(("data:", "#")) for name in ("src", "href") for value in page.values(name))
    text = (folder / "report.html").read_text(encoding="utf-8")
    shell = re.sub(r'"data:[^"]*"', "", text)
    assert re.findall(r"@import|url\(|fetch\(|XMLHttpRequest|<iframe|<object", shell) == []
    assert "default-src 'none'" in text
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")


def test_every_link_has_one_target(page: Page) -> None:
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in page.values("href") if link.startswith("#")} <= set(ids)
    assert set(page.values("for")) <= set(ids)


def test_every_figure_is_there_and_described(page: Page) -> None:
    images = page.all("img")
    assert [attributes["id"] for attributes in page.all("figure")] == list(FIGURES)
    assert len(images) == len(FIGURES)
    assert all(len(image["alt"] or "") > 30 for image in images)
    assert "9.0k parameters: gold peaks at" in (images[0]["alt"] or "")


def test_hostile_responses_stay_text(page: Page) -> None:
    assert len(page.all("script")) == 1
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert {image["alt"] for image in page.all("img")}.isdisjoint({None, ""})
    visible = HOSTILE.replace("\x1b", r"\x1b")
    assert page.texts.count(visible) == 2  # once for each of the two prompts
    assert any(visible in text and text.startswith("“") for text in page.texts)  # and the second prompt itself


def test_the_script_finds_what_it_filters(page: Page) -> None:
    script = next(text for text in page.texts if "addEventListener" in text)
    named = re.findall(r'getElementById\("(\w+)"\)', script) + re.findall(r'querySelectorAll\("#(\w+)', script)
    assert set(named) == {"filter", "shown", "runs"} <= set(page.values("id"))
    assert "#runs" in page.values("href") and len(page.values("data-filter")) == 3


def test_every_run_is_listed_and_every_series_links_to_its_runs(page: Page, folder: Path) -> None:
    run = load_run_folder(folder)
    rows = {name: text for name, text in page.rows.items() if name.startswith("run-")}
    assert len(rows) == len(run.runs)
    linked = [link[1:] for link in page.values("href") if link.startswith("#run-")]
    for size in SIZES[:3]:
        mine = run.runs.index[run.runs["params"] == size]
        assert sorted(name for name in linked if f"-{size}-" in rows[name]) == sorted(f"run-{place}" for place in mine)
    assert sum("nonfinite" in text for text in rows.values()) == 1
    assert "1 run failed or not finite, left out." in page.texts


def test_provenance_configuration_and_command_are_told(page: Page) -> None:
    text = " ".join(page.texts)
    for fact in (PROVENANCE["command"], PROVENANCE["data_sha256"], "versions · numpy", "2.4.6", "samples: 60000"):
        assert str(fact) in text
    assert "72.5%" in text and "81.0%" in text and "4321" in text
    assert "16 prompts, 60,000 samples per prompt, 3–4 proxy seeds per size." in text


def test_the_headline_is_that_of_the_data(page: Page, folder: Path) -> None:
    run = load_run_folder(folder)
    verdicts = overoptimization(run.curves, run.records, rng=np.random.default_rng(0))
    assert headline(verdicts) in page.texts


def verdict_table(fell: list[bool], rose: bool = True) -> pd.DataFrame:
    rows = [
        {"proxy_params": 1000 * 10**rank, "rose": rose, "verdict": "fell" if seen else "not seen"}
        | {"peak_gold": 0.5, "peak_kl": 4.04, "last_gold": 0.125, "last_kl": 10.0, "last_pressure": 60000}
        | {"fall": 0.375, "fall_lo": 0.25, "fall_hi": 0.5}
        for rank, seen in enumerate(fell)
    ]
    return pd.DataFrame(rows)


def test_headline_says_goodhart_only_where_all_the_smallest_rise_and_fall() -> None:
    text = headline(verdict_table([True, True, False, True]).sample(frac=1, random_state=3))
    assert text == (
        "Gold of the smallest proxies (1.0k and 10k parameters) rises and then falls: Goodhart’s law. "
        "Among the larger ones it rises and falls for 1.0M. "
        "At 1.0k parameters gold peaks at 0.50 SDs of the reference (KL 4.0 nats) and ends at 0.12 "
        "(KL 10.0 nats, n = 60,000): a fall of 0.38 [0.25, 0.50]."
    )


def test_headline_says_it_where_only_some_fall() -> None:
    text = headline(verdict_table([False, True, False, False, False]))
    assert text.startswith("Of the smallest proxies, gold of 10k parameters rises and then falls; of 1.0k it is not")
    assert "Goodhart" not in text and "At 10k parameters" in text


@pytest.mark.parametrize("table", [verdict_table([False, False]), verdict_table([True, True], rose=False)])
def test_headline_says_plainly_that_it_is_not_seen(table: pd.DataFrame) -> None:
    text = headline(table)
    assert text.startswith("Gold of the smallest proxy (1.0k parameters) is not seen to rise and then fall")
    assert "KL 10.0 nats (n = 60,000)" in text and "Goodhart" not in text


def test_a_folder_whose_gold_only_rises_is_reported_so(tmp_path: Path) -> None:
    never = dict.fromkeys(SIZES, 0.0)
    write_folder(tmp_path, sizes=SIZES[:2], prompts=16, points=10, beta=never, noise=0.1, failed=0)
    text = write_report(tmp_path).path.read_text(encoding="utf-8")
    assert "(2.1k parameters) is not seen to rise and then fall" in text
    assert "No run failed" in text


def test_redrawing_from_the_tables_alone_gives_the_same_bytes(folder: Path, bare: Path) -> None:
    redraw(bare)
    for path in folder.iterdir():
        assert (bare / path.name).read_bytes() == path.read_bytes(), path.name
    assert len(list(bare.iterdir())) == len(list(folder.iterdir()))


def test_a_report_without_figures_samples_or_environment_says_so(bare: Path) -> None:
    (bare / "environment.json").unlink()
    (bare / "samples.csv").unlink()
    text = write_report(bare).path.read_text(encoding="utf-8")
    for missing in ("No figure was drawn.", "No sample responses were recorded.", "was not recorded with this run"):
        assert missing in text


@pytest.mark.parametrize("cut", [2.5, 4])
def test_the_held_out_bound_told_is_that_of_the_run(bare: Path, cut: float) -> None:
    (bare / "config.yaml").write_text(yaml.safe_dump({"fit": {"held_out_kl": cut}}))
    redraw(bare)
    page, drawn = ((bare / name).read_text(encoding="utf-8") for name in ("report.html", "figure_extrapolation.svg"))
    assert set(re.findall(r"KL ≤ ([\d.]+)", page)) == set(re.findall(r"KL ≤ ([\d.]+)", drawn)) == {f"{cut:g}"}


def test_the_level_told_is_that_of_the_run_and_of_its_intervals(bare: Path) -> None:
    """Narrower intervals everywhere, and no other level is spoken of."""
    wide = load_run_folder(bare)
    (bare / "config.yaml").write_text(yaml.safe_dump({"fit": {"level": 0.6}}))
    redraw(bare)
    drawn = [path.read_text(encoding="utf-8") for path in sorted(bare.glob("figure_*.svg"))]
    told = [re.findall(r"([\d.]+)% interval", text) for text in [(bare / "report.html").read_text("utf-8"), *drawn]]
    assert {level for found in told for level in found} == {"60"}
    assert len(told[0]) >= 3 and sum(map(bool, told)) == 7  # every figure but the extrapolation
    narrow = load_run_folder(bare)
    spans = []
    for run in (wide, narrow):
        verdicts = overoptimization(run.curves, run.records, rng=np.random.default_rng(0), level=run.level)
        spans.append((verdicts["fall_hi"] - verdicts["fall_lo"]).to_numpy())
        shown = with_interval(*verdicts.loc[0, ["fall", "fall_lo", "fall_hi"]])
        assert (shown in (bare / "report.html").read_text("utf-8")) == (run is narrow)
    assert (spans[1] < spans[0]).all()


@pytest.mark.parametrize("negative", [0, 1, 3])
def test_proxies_against_gold_are_told(bare: Path, negative: int) -> None:
    runs = pd.read_csv(bare / "runs.csv")
    proxies = runs.index[runs["stage"] == "proxy"]
    runs.loc[runs["stage"] != "release", "recalibration"] = 1.5
    runs.loc[proxies[:negative], "recalibration"] = -0.5
    runs.to_csv(bare / "runs.csv", index=False)
    text = write_report(bare).path.read_text(encoding="utf-8")
    told = {0: "", 1: "1 proxy orders held-out pairs against gold", 3: "3 proxies order held-out pairs against gold"}
    assert told[negative] in text and ("pairs against gold" in text) == bool(negative)


def test_png_stands_in_for_a_missing_svg(bare: Path) -> None:
    (bare / "figure_1a.png").write_bytes(b"pixels")
    assert "data:image/png;base64,cGl4ZWxz" in write_report(bare).path.read_text(encoding="utf-8")


def test_a_small_run_without_held_out_points_is_drawn(tmp_path: Path) -> None:
    write_folder(tmp_path, sizes=SIZES[:2], seeds=2, prompts=4, points=5, largest=32, failed=0)
    redraw(tmp_path)
    drawn = {path.stem for path in tmp_path.glob("figure_*.png")}
    assert drawn == set(FIGURES) - {"figure_extrapolation", "figure_scaling"}


@pytest.mark.parametrize("content", ["{broken", json.dumps([1, 2])])
def test_a_damaged_file_is_named_and_the_old_report_kept(bare: Path, content: str) -> None:
    (bare / "report.html").write_text("old")
    (bare / "environment.json").write_text(content)
    with pytest.raises(InputError, match=r"environment\.json"):
        write_report(bare)
    assert (bare / "report.html").read_text() == "old"
