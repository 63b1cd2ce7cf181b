"""The benchmark's arithmetic, its command without PyTorch, what it refuses. About 40 seconds, nearly all compiling."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
from programs import products

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.benchmarks import measure, padding, ppo, report, resume, throughput  # noqa: E402
from synthetic_rm.errors import InputError  # noqa: E402
from synthetic_rm.ladder import shape_of_width  # noqa: E402
from synthetic_rm.optimizers.rl_step import iteration  # noqa: E402
from synthetic_rm.store import Store  # noqa: E402

WITHOUT_TORCH = (
    "import runpy, sys; sys.modules['torch'] = None; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
)
COMPILE_FAST = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmarks")
    script = ROOT / "experiments" / "benchmarks" / "throughput.py"
    asked = [str(script), "--quick", "--rounds", "1", "--threads", "1", "--output", str(folder / "new")]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *asked],
        cwd=folder,
        env={**os.environ, "XLA_FLAGS": COMPILE_FAST},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "PPO iteration" in done.stdout
    return folder / "new"


def test_the_table_without_torch_holds_our_speeds_alone(output: Path) -> None:
    table = pd.read_csv(output / "throughput.csv")
    assert list(table.work) == ["sampling", "scoring", "reward training", "language-model training"]
    np.testing.assert_allclose(table.ours_tokens_per_s, table.tokens / table.ours_seconds)
    np.testing.assert_allclose(table.gflops, table.flops / table.ours_seconds / 1e9)
    np.testing.assert_allclose(table.matmul_fraction, table.gflops / table.matmul_gflops)
    assert (table.ours_seconds > 0).all()
    assert table.filter(regex="torch|ratio").isna().to_numpy().all()


def test_iterations_without_trl_are_ours_alone(output: Path) -> None:
    table, ratios = pd.read_csv(output / "ppo.csv"), pd.read_csv(output / "ratios.csv")
    assert list(table.lanes) == [1, 1, 1, 1] and "TRL" not in " ".join(table.way)
    np.testing.assert_allclose(table.tokens_per_s, table.lanes * 2 * 4 * 4 / table.seconds)
    np.testing.assert_allclose(table.gflops, table.lanes * table.flops / table.seconds / 1e9)
    assert (table.seconds_low <= table.seconds).all() and (table.seconds <= table.seconds_high).all()
    assert set(ratios.against) == {"itself"} and (ratios.ratio > 0).all()


def test_what_the_parts_of_a_work_leave_is_the_rest(output: Path) -> None:
    table = pd.read_csv(output / "pieces.csv")
    assert table.work.nunique() == 3
    for _, parts in table.groupby("work"):
        whole = parts.seconds[parts.part == "whole"].item()
        np.testing.assert_allclose(parts.seconds.sum(), 2 * whole)
        np.testing.assert_allclose(parts.share, parts.seconds / whole)


def test_the_report_says_what_machine_it_was_and_what_is_missing(output: Path) -> None:
    text = (output / "README.md").read_text(encoding="utf-8")
    tables = {"throughput.csv", "ppo.csv", "ratios.csv", "pieces.csv", "padding.csv"}
    assert {path.name for path in output.iterdir()} == tables | {"README.md"}
    for part in ("torch is not installed", ", 1 threads", f"jax {jax.__version__}", "load average", "1 rounds"):
        assert part in text
    assert "nan" not in text and "figure_ratios" not in text


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


def test_calls_take_turns_after_one_of_each_that_is_not_timed() -> None:
    order: list[str] = []
    seconds = measure.in_turns([lambda: order.append("ours"), lambda: order.append("theirs")], 3)
    assert order == ["ours", "theirs"] * 4
    assert seconds.shape == (3, 2) and (seconds >= 0).all()
    order.clear()
    measure.repeated(lambda: order.append("theirs"), 3)()
    assert order == ["theirs"] * 3


def test_the_ratio_is_of_medians_and_its_range_of_rounds() -> None:
    ours, theirs = np.array([1.0, 2.0, 4.0]), np.array([1.5, 6.0, 16.0])
    row = throughput.summary(measure.Work("scoring", 100, 4_000_000_000, lambda: None), 64, 2, ours, theirs)
    assert (row["ours_tokens_per_s"], row["ratio"], row["gflops"]) == (50.0, 3.0, 2.0)
    assert (row["ratio_low"], row["ratio_high"]) == (1.5, 4.0)
    again = throughput.ratio_row(ppo.Ratio("a / b", "TRL", theirs, ours, 2.0))
    assert again == {"name": "a / b", "against": "TRL", "ratio": 3.0, "low": 1.5, "high": 4.0, "aim": 2.0}


def test_counted_operations_are_those_of_the_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    # What the formula leaves out on purpose (rotary turn, running sums, mean and head) is a few percent.
    monkeypatch.setattr(measure, "side_by_side", lambda call, each: call)
    size = measure.Size(prompts=2, samples=8)
    for work in measure.works(32, size)[:2]:
        program = jax.make_jaxpr(work.call)()
        assert 1.0 <= sum(products(program.jaxpr)) / work.flops < 1.15, work.name


def test_counted_operations_of_a_ppo_iteration_are_those_of_its_program() -> None:
    size = measure.Size(prompts=2, samples=8)
    shape = shape_of_width(32, size.vocab)
    lane = ppo.Lanes(shape, size)
    hyper, proxy, active, state = jax.tree.map(lambda x: x[0], (*lane.lanes, lane.state))
    program = jax.make_jaxpr(
        lambda state: iteration(lane.program, lane.reference, lane.prompts, None, proxy, hyper, active, state)
    )(state)
    assert 1.0 <= sum(products(program.jaxpr)) / ppo.iteration_flops(shape, size) < 1.15


def test_padding_is_what_rows_hold_beyond_their_texts() -> None:
    rng = np.random.default_rng(0)
    length = rng.integers(1, 13, (24, 2))
    held = np.arange(12) < length.reshape(-1, 1)
    assert padding.padded(length, 12) == pytest.approx(1 - held.mean())
    texts = positions = 0
    for batch in np.split(length, 3):
        for part in np.split(batch[np.argsort(batch.max(1), kind="stable")], 2):
            texts, positions = texts + part.sum(), positions + part.max() * part.size
    assert padding.cut(length, 8, 4) == pytest.approx(1 - texts / positions)
    assert padding.cut(length, 8, 1) <= padding.cut(length, 8, 4) <= padding.padded(length, 12)
    assert padding.cut(length[:, :1], 8, 1) == 0
    assert padding.packed(np.array([9, 3, 6, 6, 12]), 12) == 0
    assert padding.packed(np.array([7, 7]), 12) == pytest.approx(1 - 14 / 24)


def test_the_report_sets_ratios_beside_their_aims_and_draws_them(output: Path, tmp_path: Path) -> None:
    tables = {path.stem: pd.read_csv(path) for path in output.glob("*.csv")}
    ratios = [
        ppo.Ratio("TRL / ours", "TRL", np.array([7.0]), np.array([2.0]), 3.0),
        ppo.Ratio("TRL / another", "TRL", np.array([5.0]), np.array([2.0])),
    ]
    tables["ratios"] = pd.DataFrame([*map(throughput.ratio_row, ratios), *tables["ratios"].to_dict("records")])
    facts = {"missing": [], "started": "now", "commit": "abc", "dirty": True, "versions": {"jax": "1"}, "command": "c"}
    facts |= dict.fromkeys(("load_before", "load_after", "rate", "busy", "nice", "threads", "square"), 1)
    facts |= dict.fromkeys(("cpu", "rounds", "difference", "headline"), "x")
    report.write(tmp_path, tables, facts, measure.Size(), measure.Size())
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    aims = text.split("## Beside the aims")[1].split("##")[0]
    assert "| TRL / ours | 3.50 | 3.50 to 3.50 | 3 |" in aims and "another" not in aims
    assert "commit abc with changes" in text and "(figure_ratios.png)" in aims
    figure = report.figure_ratios(report.of_others(tables["ratios"]))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["TRL / ours", "TRL / another"]
    assert (tmp_path / "figure_ratios.svg").stat().st_size > 0


def test_the_tests_that_the_report_names_are_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", report.TEMPLATE.read_text(encoding="utf-8"))
    assert len(named) >= 5
    assert [f"{file}::{name}" for file, name in named if f"def {name}(" not in (ROOT / file).read_text()] == []


def test_the_committed_report_holds_the_ratios_of_its_table() -> None:
    folder = ROOT / "results" / "benchmarks"
    ratios, text = pd.read_csv(folder / "ratios.csv"), (folder / "README.md").read_text(encoding="utf-8")
    assert {"PyTorch", "TRL", "itself"} == set(ratios.against)
    for row in ratios[ratios.aim.notna()].to_dict("records"):
        assert f"| {row['name']} | {row['ratio']:.2f} | {row['low']:.2f} to {row['high']:.2f} |" in text


def test_interruptions_cost_what_all_parts_take_beyond_the_whole() -> None:
    parts = [
        resume.Part("whole", "done", 100.0, 200.0),
        resume.Part("interrupted", "SIGKILL", 40.0, 70.0),
        resume.Part("interrupted", "SIGTERM", 40.0, 70.0),
        resume.Part("interrupted", "done", 40.0, 76.0),
        resume.Part("from a full store", "done", 9.0, 9.0),
    ]
    stages = pd.DataFrame({"stage": ["pool", "pool"], "bytes": [10, 2_000_000], "seconds": [0.001, 0.004]})
    text = resume.page(pd.DataFrame(parts), stages, ["scale=smoke"], (0.0, 0.0))
    assert "interrupted 2 times took **+8.0%**" in text and "+4.0% for each" in text
    assert "2.5 ms in the median and **4.0 ms** at most" in text and "| pool | 2 | 2.0 | 2.5 | 4.0 |" in text


def test_a_run_that_ends_otherwise_than_it_should_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="whole: ended with 2 after"):
        resume.run_part("whole", ["nosuchkey=1"], tmp_path)
    with pytest.raises(InputError, match="cut: ended with 0 after"):  # before the signal came
        resume.run_part("cut", ["--help"], tmp_path, 1e9, 9)


def test_every_stage_of_a_store_is_found_again(tmp_path: Path) -> None:
    store = Store(tmp_path, {})
    for seed in (0, 1):
        store.get("pool", {"seed": seed}, [], lambda folder, _: {"written": (folder / "x").write_bytes(b"abc")})
    table = resume.reuse(tmp_path)
    assert list(table.stage) == ["pool", "pool"] and (table.bytes > 3).all() and (table.seconds > 0).all()
