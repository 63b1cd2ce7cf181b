"""The notebooks run from the first cell to the last, and are saved with what they showed."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from analysis.synthetic_folder import SIZES, add_rl, write_folder
from nbclient import NotebookClient

from synthetic_rm.analysis.paper import PAPER, beside
from synthetic_rm.analysis.report import figures_of
from synthetic_rm.analysis.verdicts import CLAIMS

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LARGEST = 2_000_000
"""bytes of a notebook that a code host still shows"""
TINY = {
    "comparisons.num": 320,
    "proxy.sizes": [2_000],
    "proxy.seeds": 2,
    "best_of_n.prompts": 8,
    "best_of_n.samples": 64,
    "best_of_n.points": 9,
}


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook: Any, kind: str) -> list[Any]:
    """What the cells show of a MIME type."""
    shown = [output.get("data", {}) for cell in code_cells(notebook) for output in cell.outputs]
    return [data[kind] for data in shown if kind in data]


def executed(path: Path, parameters: dict[str, str]) -> Any:
    """The notebook, run anew with other values of its parameters, each of which it must have."""
    notebook = read(path)
    (cell,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    assert set(re.findall(r"^(\w+) = ", cell.source, re.MULTILINE)) == set(parameters)
    cell.source = "\n".join(f"{name} = {value}" for name, value in parameters.items())
    place = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place).execute()
    return notebook


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where notebooks keep stages in the tests; the second finds what the first made."""
    return f"Path({str(tmp_path_factory.mktemp('store'))!r})"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("results")
    folder = add_rl(write_folder(root / "figure1", sizes=SIZES[:2], seeds=3, prompts=6, points=8))
    for name in figures_of(folder):
        (folder / f"{name}.svg").touch()
    return root


def test_there_are_three() -> None:
    assert [path.stem[:2] for path in NOTEBOOKS] == ["01", "02", "03"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_a_notebook_showed_is_saved_with_it(path: Path) -> None:
    notebook = read(path)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert {output.output_type for cell in cells for output in cell.outputs} <= {"display_data", "execute_result"}
    assert len(outputs(notebook, "image/png")) >= 1
    assert path.stat().st_size < LARGEST
    assert max(len(cell.source.splitlines()) for cell in cells) <= 25


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_lead_somewhere(path: Path) -> None:
    words = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", words) if not link.startswith("http")]
    assert links or path.stem.startswith("03")
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_tour_runs(store: str) -> None:
    notebook = executed(NOTEBOOKS[0], {"SCALE": repr(TINY), "STORE": store})
    assert len(outputs(notebook, "image/png")) == 2


def test_an_own_experiment_runs_and_shares_stages(store: str) -> None:
    notebook = executed(NOTEBOOKS[2], {"SCALE": repr(TINY), "STORE": store, "NOISE": "[0.0, 0.4]"})
    assert len(outputs(notebook, "image/png")) == 1
    reused = next(text for text in outputs(notebook, "text/plain") if "noise 0.4" in text)
    told = {line.split()[0]: line.split()[1:] for line in reused.splitlines()[2:]}
    assert told["pool"][-1] == "True" and told["comparisons"][-1] == told["proxy"][-1] == "False"


def test_the_papers_figures_are_drawn_beside_what_the_paper_says(results: Path) -> None:
    notebook = executed(NOTEBOOKS[1], {"RESULTS": f"Path({str(results)!r})"})
    told = outputs(notebook, "text/markdown")
    assert len(told) == len(PAPER) and all(figure.says in text for figure, text in zip(PAPER, told, strict=True))
    ours = [name for figure in PAPER for name in figure.ours if name.startswith("figure1/")]
    drawn = [name for name in ours if (results / f"{name}.svg").exists()]
    assert len(outputs(notebook, "image/png")) == len(drawn) > 5
    assert sum("No result of ours shows it yet." in text for text in told) > 5


def test_figures_of_the_paper_are_each_told_once_and_with_the_verdicts_on_them(results: Path) -> None:
    numbers = [number for figure in PAPER for number in figure.number.split(", ")]
    assert len(numbers) == len(set(numbers))
    assert {int(number.rstrip("ab")) for number in numbers} == set(range(1, 27))
    row = {"claim": "H3a", "says": CLAIMS["H3a"][0], "optimizer": "best_of_n", "statistic": "slope", "value": 0.5}
    row |= {"lo": 0.25, "hi": 0.75, "level": 0.95, "verdict": "reproduced", "figure": "figure_gold", "note": ""}
    told = {text.splitlines()[0]: text for text, _ in beside(results, {"figure1": pd.DataFrame([row])})}
    assert "slope 0.500 [0.250, 0.750], **reproduced**" in told["## Figure 1a"]
    assert "no verdict is taken from it" in told["## Figure 8"]
