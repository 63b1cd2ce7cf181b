"""`make figures`: every folder of results drawn anew from its tables, without jax."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
from analysis.synthetic_folder import SIZES, write_folder

from synthetic_rm.analysis.index import write_index
from synthetic_rm.analysis.page import Page
from synthetic_rm.analysis.tables import Markup

ROOT = Path(__file__).resolve().parents[1]
WITHOUT_JAX = """
import runpy, sys
class Nowhere:
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] in ("jax", "jaxlib"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Nowhere)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def figures(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """The command in a process where `import jax` fails."""
    command = [sys.executable, "-c", WITHOUT_JAX, str(ROOT / "experiments" / "figures.py"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def targets(page: Path) -> set[str]:
    """The anchors of a page, each of which it must have once."""
    found = re.findall(r'\bid="([^"]+)"', page.read_text(encoding="utf-8"))
    assert len(found) == len(set(found))
    return set(found)


def test_every_folder_is_redrawn_where_jax_cannot_be_imported(tmp_path: Path) -> None:
    folders = [
        write_folder(tmp_path / name, sizes=SIZES[:1], seeds=2, prompts=4, points=8, failed=0) for name in ("a", "b/c")
    ]
    shutil.copytree(
        ROOT / "results" / "oracle", tmp_path / "oracle", ignore=shutil.ignore_patterns("figure_*", "*.html")
    )
    done = figures("--results", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "oracle" / "figure_tabular.svg").exists() and (tmp_path / "oracle" / "report.html").exists()
    told = (tmp_path / "verdicts.md").read_text(encoding="utf-8")
    assert "[a](a/figure_gold.png)" in told and "[b/c](b/c/figure_gold.png)" in told and "[oracle]" not in told
    for folder in folders:
        assert f"{folder / 'report.html'} (" in done.stdout
        assert (folder / "figure_1a.svg").exists() and (folder / "figure_1a.png").exists()
    the_index_tells_all_of_it(tmp_path)


def the_index_tells_all_of_it(root: Path) -> None:
    """Every figure, measured verdict and run, and every link leads somewhere."""
    text, here = (root / "index.html").read_text(encoding="utf-8"), targets(root / "index.html")
    reports = {name: targets(root / name / "report.html") for name in ("a", "b/c", "oracle")}
    for name, anchors in reports.items():
        figures = {anchor for anchor in anchors if anchor.startswith("figure_")}
        assert figures and {f"{name}-{figure}" for figure in figures} <= here
        rows = [anchor for anchor in anchors if anchor.startswith("run-")]
        assert all(f'href="{name}/report.html#{row}"' in text for row in rows) and len(rows) > 3
        command = json.loads((root / name / "provenance.json").read_text())["command"]
        assert command in text
    links = re.findall(r'\bhref="([^"]+)"', text)
    for link in set(links) - {"data:,"}:
        page, _, anchor = link.partition("#")
        known = reports[page.removesuffix("/report.html")] if page else here
        assert not anchor or anchor in known, link
    for name in ("a", "b/c"):
        measured = pd.read_csv(root / name / "verdicts.csv").query("verdict != 'not measured'")
        assert len([link for link in links if link.startswith(f"#{name}-figure")]) == measured["figure"].count() > 0


def test_the_index_leads_from_the_papers_figures_to_ours(tmp_path: Path) -> None:
    html = Markup('<figure id="figure_both"></figure>')
    runs = pd.DataFrame({"run": ["r"], "stage": "ppo", "status": "ok", "config_hash": "c", "commit": "d"})
    page = Page(tmp_path, "t", "s", [], {"Any": html, "Make it again": Markup("")}, runs)
    for folder in ("speed", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "figure_ratios.png").write_bytes(b"pixels")
    text = write_index({"figure1": page, "other": page}, {}, tmp_path).read_text(encoding="utf-8")
    assert re.findall(r'<a href="([^"#]+png)">([^<]+)</a>', text) == [
        ("speed/figure_ratios.png", "speed/figure_ratios")
    ]
    assert re.findall(r'<a href="(#[^"]+)">figure1/figure_both</a>', text) == ["#figure1-figure_both"]
    assert 'id="figure1-figure_both"' in text and 'id="other-figure_both"' in text


def test_a_process_without_jax_is_one(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import jax")
    done = subprocess.run([sys.executable, "-c", WITHOUT_JAX, script], capture_output=True, text=True)
    assert done.returncode != 0 and "jax" in done.stderr


def test_a_place_without_records_is_told_on_one_line(tmp_path: Path) -> None:
    done = figures("--results", tmp_path)
    assert (done.returncode, done.stderr) == (2, f"error: --results={tmp_path}: no folder there holds records.csv\n")
