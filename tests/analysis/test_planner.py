"""What the planner says follows from the law, and it is silent where nothing was measured unless asked."""

from pathlib import Path

import numpy as np
import pytest
from analysis.synthetic_folder import SIZES, add_rl, write_folder
from analysis.test_scaling import exact, lines, noisy
from scipy.optimize import brentq

from experiments import plan as command
from synthetic_rm.analysis.planner import best_of_n_at, plan, plan_lines
from synthetic_rm.analysis.scaling import ScalingLaw, fit_scaling_law
from synthetic_rm.errors import InputError


@pytest.fixture(scope="module")
def law() -> ScalingLaw:
    return fit_scaling_law(noisy(np.random.default_rng(0)), "bon", num_resamples=300, rng=np.random.default_rng(0))


@pytest.mark.parametrize("n", [1, 2, 7.5, 64, 4096, 60000])
def test_n_is_the_root_of_the_closed_form(n: float) -> None:
    kl = np.log(n) - (n - 1) / n
    assert best_of_n_at(kl) == pytest.approx(n, rel=1e-6, abs=1e-6)
    if n > 1:
        assert best_of_n_at(kl) == pytest.approx(brentq(lambda m: np.log(m) - (m - 1) / m - kl, 1, 1e6), rel=1e-6)


def test_exact_lines_give_the_exact_peak() -> None:
    law = fit_scaling_law(exact(), "bon", num_resamples=50, rng=np.random.default_rng(0))
    answer = plan(law, 8000)
    alpha, beta = lines(8000)
    assert answer.prediction.peak_kl.value == pytest.approx((alpha / (2 * beta)) ** 2)
    assert answer.cautious_kl == pytest.approx(answer.prediction.peak_kl.value)
    assert answer.cautious_gold.value == pytest.approx(alpha**2 / (4 * beta))
    assert answer.peak_seen and not answer.extended


def test_the_safe_side_lies_below_the_peak_and_within_what_was_measured(law: ScalingLaw) -> None:
    for size in np.geomspace(law.sizes[0], law.sizes[-1], 7):
        answer = plan(law, size)
        assert 0 <= answer.cautious_kl <= min(answer.prediction.peak_kl.value, law.largest_kl)
        assert answer.cautious_gold.lo <= answer.cautious_gold.value <= answer.cautious_gold.hi


@pytest.mark.parametrize("size", [1999, 200001])
def test_sizes_outside_are_refused_unless_asked_for(law: ScalingLaw, size: int) -> None:
    with pytest.raises(InputError, match=f"size={size}: the law was fitted to 2,000 to 200,000 parameters") as error:
        plan(law, size)
    assert "--extrapolate" in str(error.value)
    assert plan(law, size, extrapolate=True).extended
    assert "EXTRAPOLATED" in plan_lines(plan(law, size, extrapolate=True), "best_of_n")[-1]
    assert not any("EXTRAPOLATED" in line for line in plan_lines(plan(law, 2000), "best_of_n"))


def test_a_law_of_one_number_of_comparisons_says_nothing_of_others(law: ScalingLaw) -> None:
    with pytest.raises(InputError, match="comparisons=500: the law was fitted to 0 comparisons alone"):
        plan(law, 5000, 500, extrapolate=True)


@pytest.mark.parametrize("size", [0, -5, float("nan"), float("inf")])
def test_a_size_that_is_none_is_refused(law: ScalingLaw, size: float) -> None:
    with pytest.raises(InputError, match="number of parameters above 0"):
        plan(law, size, extrapolate=True)


def test_peaks_beyond_the_data_are_not_told_as_numbers() -> None:
    law = fit_scaling_law(exact(), "bon", num_resamples=50, rng=np.random.default_rng(0))
    answer = plan(law, 150000)  # peaks at KL 15, measured to 7.3
    text = "\n".join(plan_lines(answer, "best_of_n"))
    assert not answer.peak_seen and answer.cautious_kl == law.largest_kl
    assert "no peak up to KL 7.3 nats, the largest that was measured" in text and "peaks at" not in text
    assert "n = 4,096" in text and "n = " not in "\n".join(plan_lines(answer, "ppo"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_folder(tmp_path_factory.mktemp("run"), sizes=SIZES[:3], prompts=8, points=12)
    add_rl(path)
    return path


@pytest.mark.parametrize("optimizer", ["best_of_n", "ppo"])
def test_the_command_answers(folder: Path, optimizer: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--results", str(folder), "--size", "5000", "--optimizer", optimizer]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"proxy of 5.0k parameters under {optimizer}; law of 3 sizes, 2.1k to 9.0k; 95% intervals\n")
    assert "on the safe side of the peak: KL up to " in told


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--size", "500"], "size=500: the law was fitted to 2,107 to 9,043 parameters"),
        (["--size", "5000", "--optimizer", "dpo"], "--optimizer=dpo: "),
        (["--size", "5000", "--results", "nowhere"], "nowhere is no folder"),
    ],
)
def test_what_cannot_be_answered_gets_one_line(
    folder: Path, words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--results", str(folder), *words]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("error: ") and line in told.err and told.err.count("\n") == 1 and told.out == ""
