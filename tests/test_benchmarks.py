"""The benchmark's arithmetic, its command without PyTorch, what it refuses. About 25 seconds, nearly all compiling."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from jax.extend.core import jaxprs_in_params

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.benchmarks import measure, throughput  # noqa: E402

WITHOUT_TORCH = (
    "import runpy, sys; sys.modules['torch'] = None; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
)
COMPILE_FAST = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmarks")
    script = ROOT / "experiments" / "benchmarks" / "throughput.py"
    asked = [str(script), "--quick", "--rounds", "3", "--threads", "1", "--output", str(folder / "new")]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *asked],
        cwd=folder,
        env={**os.environ, "XLA_FLAGS": COMPILE_FAST},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "reward training step" in done.stdout
    return folder / "new"


def test_the_table_without_torch_holds_our_speeds_alone(output: Path) -> None:
    table = pd.read_csv(output / "throughput.csv")
    assert list(table.work) == ["sampling", "scoring", "reward training", "language-model training"]
    np.testing.assert_allclose(table.ours_tokens_per_s, table.tokens / table.ours_seconds)
    np.testing.assert_allclose(table.gflops, table.flops / table.ours_seconds / 1e9)
    np.testing.assert_allclose(table.matmul_fraction, table.gflops / table.matmul_gflops)
    assert (table.ours_seconds > 0).all()
    assert table.filter(regex="torch|ratio").isna().to_numpy().all()


def test_the_report_says_what_machine_it_was_and_what_is_missing(output: Path) -> None:
    text = (output / "throughput.md").read_text(encoding="utf-8")
    assert {path.name for path in output.iterdir()} == {"throughput.csv", "throughput.md"}
    for part in ("torch is not installed", ", 1 threads", f"jax {jax.__version__}", "load average", "3 rounds"):
        assert part in text
    assert "nan" not in text


@pytest.mark.parametrize(
    "words",
    [
        ["--rounds", "0"],
        ["--rounds", "many"],
        ["--threads", "0"],
        ["--threads", "100000"],
        ["--surprise"],
        ["--output", str(Path(__file__))],
    ],
    ids=" ".join,
)
def test_bad_input_is_refused_in_one_line(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    allowed = os.sched_getaffinity(0)
    folder = [] if "--output" in words else ["--output", str(tmp_path / "out")]
    assert throughput.main([*words, *folder]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert words[0] in captured.err
    assert not (tmp_path / "out").exists()
    assert os.sched_getaffinity(0) == allowed


def test_two_calls_take_turns_after_one_that_is_not_timed() -> None:
    order: list[str] = []
    ours, theirs = measure.interleaved(lambda: order.append("ours"), lambda: order.append("theirs"), 3)
    assert order == ["ours", "theirs"] * 4
    assert theirs is not None and ours.shape == theirs.shape == (3,)
    assert measure.interleaved(lambda: None, None, 2)[1] is None


def test_the_ratio_is_of_medians_and_its_range_of_rounds() -> None:
    work = measure.Work("scoring", 100, 4_000_000_000, lambda: None)
    row = throughput.summary(work, 64, 2, np.array([1.0, 2.0, 4.0]), np.array([1.5, 6.0, 16.0]))
    assert (row["ours_tokens_per_s"], row["ratio"], row["gflops"]) == (50.0, 3.0, 2.0)
    assert (row["ratio_low"], row["ratio_high"]) == (1.5, 4.0)


def products(jaxpr: Any, times: int = 1) -> Iterator[int]:
    """2 m n k of every matrix product of a program, those of its loops as often as they run."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            yield times * 2 * equation.outvars[0].aval.size * int(np.prod([left[i] for i in contracted]))
        for inner in jaxprs_in_params(equation.params):
            yield from products(inner, times * equation.params.get("length", 1))


def test_counted_operations_are_those_of_the_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    # What the formula leaves out on purpose (rotary turn, running sums, mean and head) is a few percent.
    monkeypatch.setattr(measure, "_side_by_side", lambda call: call)
    size = measure.Size(prompts=2, samples=8)
    for work in measure.works(32, size)[:2]:
        program = jax.make_jaxpr(work.call)()
        assert 1.0 <= sum(products(program.jaxpr)) / work.flops < 1.15, work.name
