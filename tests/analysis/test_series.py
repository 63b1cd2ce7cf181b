"""Every point of the records belongs to one series, and every series leads to its own runs, proxies and failures."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from analysis.synthetic_folder import SIZES, add_rl, write_folder

from synthetic_rm.analysis.figures.style import size_colors
from synthetic_rm.analysis.gallery import embedded, figure_block
from synthetic_rm.analysis.index import relocated
from synthetic_rm.analysis.run_folder import RunFolder, load_run_folder
from synthetic_rm.analysis.series import drawn_of, grouped, proxy_series, runs_behind
from synthetic_rm.analysis.tables import Markup


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = write_folder(tmp_path_factory.mktemp("run"), sizes=SIZES[:2], seeds=3, prompts=4, points=6)
    return load_run_folder(add_rl(folder))


def test_series_divide_the_runs_and_have_the_colours_of_their_sizes(run: RunFolder) -> None:
    for part in run.parts():
        series = proxy_series(part, SIZES)
        told = [name for entry in series for name in entry.runs]
        assert sorted(told) == sorted(part.records["run"].unique())
        assert [(entry.label, entry.color) for entry in series] == [
            (label, size_colors(SIZES)[size]) for label, size in (("2.1k", SIZES[0]), ("4.4k", SIZES[1]))
        ]


def test_series_of_one_size_are_named_by_what_tells_them_apart(run: RunFolder) -> None:
    best_of_n = run.parts()[0]
    few = best_of_n.records.assign(num_comparisons=2000)
    few["run"] += "-few"
    series = proxy_series(replace(best_of_n, records=pd.concat([best_of_n.records, few])), SIZES)
    assert {entry.label for entry in series} == {
        f"{size}, num comparisons {count}" for size in ("2.1k", "4.4k") for count in ("2,000", "28,672")
    }
    assert len({entry.anchor for entry in series}) == 4
    assert drawn_of(series, few) == [entry for entry in series if "2,000" in entry.label]


def test_behind_a_series_lie_its_runs_their_proxies_and_what_failed_of_its_size(run: RunFolder) -> None:
    best_of_n, rl = run.parts()
    first, last = proxy_series(best_of_n, SIZES)[0], proxy_series(rl, SIZES)[-1]
    behind = runs_behind(best_of_n.runs, first)
    assert behind["stage"].value_counts().to_dict() == {"proxy": 3, "best_of_n": 2}
    assert behind["status"].value_counts().to_dict() == {"ok": 4, "nonfinite": 1}
    behind = runs_behind(rl.runs, last)
    assert behind["stage"].value_counts().to_dict() == {"proxy": 3, "ppo": 3}
    assert behind.loc[behind["stage"] == "ppo", "status"].tolist() == ["ok", "ok", "failed"]
    assert (run.runs.loc[behind.index, "run"] == behind["run"]).all()


def test_a_run_that_names_its_proxy_has_that_one_alone_behind_it(run: RunFolder) -> None:
    best_of_n = run.parts()[0]
    named = best_of_n.runs.assign(proxy_run=best_of_n.runs["run"].str.replace("best_of_n-", "proxy-").str[:-7])
    series = grouped(best_of_n.records[best_of_n.records["proxy_seed"] == 1], ("proxy_params",), lambda row: "")
    behind = runs_behind(named, series[1])
    assert behind["run"].tolist() == [f"proxy-{SIZES[1]}-s1", f"best_of_n-{SIZES[1]}-s1-1a2b3c"]


def test_a_figure_is_held_by_the_page_and_told_in_words(tmp_path: Path) -> None:
    svg = '<svg width="504pt" height="9pt">\n<text>50% "α" #1 & more</text></svg>'
    (tmp_path / "f.svg").write_text(svg, encoding="utf-8")
    block = figure_block(tmp_path / "f", "a < b", spoken='"peak"')
    assert 'alt="a &lt; b &quot;peak&quot;"' in block and '<figure id="f"><div class="wide"' in block
    assert not {'"', "#", "\n"} & set(embedded(tmp_path / "f.svg"))
    (tmp_path / "f.svg").write_text(svg.replace("504", "252"), encoding="utf-8")
    assert "wide" not in figure_block(tmp_path / "f", "a")
    assert figure_block(tmp_path / "none", "a") == ""


def test_a_section_is_moved_with_its_anchors_and_links() -> None:
    html = Markup('<h3>t</h3><p id="x">id=&quot;y&quot; <a href="#run-1">r</a><a href="data:,">d</a></p>')
    assert relocated(html, "a/b") == (
        '<h4>t</h4><p id="a/b-x">id=&quot;y&quot; <a href="a/b/report.html#run-1">r</a><a href="data:,">d</a></p>'
    )
