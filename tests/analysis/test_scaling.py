"""Laws over size are found where they are put in, with intervals that hold, and predict what they have not seen."""

from dataclasses import replace

import numpy as np
import pytest
from analysis.simulated_curves import DISTANCE, KL, NS, crossed_gold
from numpy.typing import NDArray

from synthetic_rm.analysis.curves import SettingCurves
from synthetic_rm.analysis.fitting import fit_curve, fit_shared
from synthetic_rm.analysis.forms import find_form
from synthetic_rm.analysis.left_out import leave_one_out, prediction_errors
from synthetic_rm.analysis.scaling import ScalingLaw, coefficient_blocks, fit_scaling_law, proxy_size
from synthetic_rm.errors import InputError

SIZES = (2000, 6000, 20000, 60000, 200000)
LOGS = np.log10(SIZES)
ALPHA, BETA = (0.5, 0.12), (0.11, -0.02)
"""at the mean of the logarithms, and per tenfold"""


def lines(size: float) -> tuple[float, float]:
    x = np.log10(size) - LOGS.mean()
    return ALPHA[0] + ALPHA[1] * x, BETA[0] + BETA[1] * x


def entry(size: int, gold: NDArray[np.float64]) -> SettingCurves:
    return SettingCurves({"proxy_params": size}, NS.astype(float), KL, gold, gold)


def exact(form: str = "bon", sizes: tuple[int, ...] = SIZES) -> list[SettingCurves]:
    """Noiseless curves whose coefficients lie on the lines ("rl": with one alpha)."""
    made = []
    for size in sizes:
        alpha, beta = lines(size)
        mean = find_form(form).curve(DISTANCE, ALPHA[0] if form == "rl" else alpha, beta)
        made.append(entry(size, np.broadcast_to(mean[None, :, None], (2, KL.size, 5)).copy()))
    return made


def noisy(rng: np.random.Generator, *, prompt_effect: float = 0.4) -> list[SettingCurves]:
    """Sizes with seeds of their own and the prompts, with their effects, in common."""
    common = crossed_gold(rng, 0 * KL, seeds=1, prompts=20, seed_effect=0, prompt_effect=prompt_effect, noise=0)
    made = []
    for size in SIZES:
        mean = find_form("bon").curve(DISTANCE, *lines(size))
        own = crossed_gold(rng, mean, seeds=4, prompts=20, seed_effect=0.1, prompt_effect=0.1, noise=0.2)
        made.append(entry(size, own + common))
    return made


def law_of(entries: list[SettingCurves], form: str = "bon", seed: int = 0) -> ScalingLaw:
    return fit_scaling_law(entries, form, num_resamples=400, rng=np.random.default_rng(seed))


@pytest.mark.parametrize("form", ["bon", "rl", "log1p"])
def test_lines_that_are_there_are_found_exactly(form: str) -> None:
    law = law_of(exact(form)[::-1], form)
    alpha_slope = 0.0 if form == "rl" else ALPHA[1]
    np.testing.assert_allclose(law.line, [[ALPHA[0], BETA[0]], [alpha_slope, BETA[1]]], atol=1e-10)
    np.testing.assert_allclose(law.scatter, 0, atol=1e-9)
    told = law.at(10000)
    alpha, beta = (ALPHA[0] if form == "rl" else lines(10000)[0]), lines(10000)[1]
    assert told.alpha.value == pytest.approx(alpha) and told.beta.lo == pytest.approx(beta)
    distance, top = find_form(form).peak(alpha, beta)
    assert told.peak_kl.value == pytest.approx(distance**2) and told.peak_gold.hi == pytest.approx(top)


@pytest.mark.parametrize("form", ["bon", "rl"])
def test_blocks_add_up_to_the_fits_of_the_mean_curves(form: str) -> None:
    entries = noisy(np.random.default_rng(1))
    total = sum(block.mean(axis=(0, 1)) for block in coefficient_blocks(entries, form))
    means = {proxy_size(one): (one.kl, one.gold.mean(axis=(0, 2))) for one in entries}
    fits = fit_shared(means, "rl").fits if form == "rl" else {k: fit_curve(*v, form) for k, v in means.items()}
    np.testing.assert_allclose(total, [[fit.alpha, fit.beta] for fit in fits.values()])


def test_slopes_lie_in_their_intervals_as_often_as_said() -> None:
    """80 worlds at level 0.9: fewer than 62 within would be below 0.9 by more than three deviations."""
    rng, inside = np.random.default_rng(5), np.zeros(2)
    for _ in range(80):
        law = fit_scaling_law(noisy(rng), "bon", num_resamples=300, rng=rng, level=0.9)
        for place, (name, truth) in enumerate((("alpha", ALPHA[1]), ("beta", BETA[1]))):
            slope = law.slope(name)
            inside[place] += slope.lo <= truth <= slope.hi
    assert (inside >= 62).all(), inside
    assert (inside < 80).any()


def test_what_prompts_do_to_all_sizes_alike_widens_the_level_of_a_line_but_not_its_slope() -> None:
    calm, common = (law_of(noisy(np.random.default_rng(2), prompt_effect=e)) for e in (0.0, 5.0))
    level, slope = (common.draws[:, i, 0].std() / calm.draws[:, i, 0].std() for i in (0, 1))
    assert level > 5 and slope == pytest.approx(1, abs=0.3)


def test_a_new_size_is_less_certain_than_the_line_where_sizes_lie_off_it() -> None:
    entries = exact()
    entries[2] = replace(entries[2], gold=entries[2].gold + 0.2 * DISTANCE[None, :, None])
    law = law_of(entries)
    line, new = law.at(9000, new=False), law.at(9000)
    assert line.alpha.value == new.alpha.value
    assert new.alpha.hi - new.alpha.lo > 0.2 > line.alpha.hi - line.alpha.lo


def test_the_unit_of_size_does_not_matter() -> None:
    entries = noisy(np.random.default_rng(3))
    thousand = [replace(one, setting={"proxy_params": 1000 * proxy_size(one)}) for one in entries]
    small, large = law_of(entries), law_of(thousand)
    for one, other in ((small.slope("beta"), large.slope("beta")), (small.at(7000).peak_kl, large.at(7e6).peak_kl)):
        np.testing.assert_allclose([one.value, one.lo, one.hi], [other.value, other.lo, other.hi])


def test_curve_is_that_of_the_predicted_coefficients() -> None:
    law = law_of(noisy(np.random.default_rng(4)))
    told, table = law.at(30000), law.curve(30000, KL)
    np.testing.assert_allclose(table["gold"], DISTANCE * (told.alpha.value - told.beta.value * DISTANCE))
    inner = table.iloc[1:]
    assert ((inner["gold_lo"] < inner["gold"]) & (inner["gold"] < inner["gold_hi"])).all()


def test_a_size_left_out_has_no_part_in_its_prediction_and_is_predicted_where_the_law_holds() -> None:
    entries = exact()
    whole = leave_one_out(entries, "bon", num_resamples=50, rng=np.random.default_rng(0))
    np.testing.assert_allclose(whole["gold"], whole["measured"], atol=1e-9)
    entries[1] = replace(entries[1], gold=entries[1].gold + 7.0)
    other = leave_one_out(entries, "bon", num_resamples=50, rng=np.random.default_rng(0))
    mine = whole["proxy_params"] == SIZES[1]
    np.testing.assert_allclose(other.loc[mine, "gold"], whole.loc[mine, "gold"], atol=1e-9)
    np.testing.assert_allclose(other.loc[mine, "measured"], whole.loc[mine, "measured"] + 7.0)
    assert not np.allclose(other.loc[~mine, "gold"], whole.loc[~mine, "gold"], atol=1e-2)
    assert list(whole.groupby("proxy_params")["outside"].first()) == [True, False, False, False, True]


def test_errors_of_prediction_against_a_loop() -> None:
    entries = noisy(np.random.default_rng(6))
    entries[0] = replace(entries[0], kl=KL[:12], gold=entries[0].gold[:, :12])
    table = leave_one_out(entries, "bon", num_resamples=50, rng=np.random.default_rng(0))
    errors = prediction_errors(table).set_index("proxy_params")
    first = table[table["proxy_params"] == SIZES[1]]
    assert first["nearest"].isna().sum() == KL.size - 12  # the nearest size was measured up to there
    near = entries[0].gold.mean(axis=(0, 2))
    np.testing.assert_allclose(first["nearest"].to_numpy()[:12], near)
    squares, within = [], []
    for _, row in first.iterrows():
        if row["kl"] > 0 and not np.isnan(row["nearest"]):
            squares.append((row["gold"] - row["measured"]) ** 2)
            within.append(row["gold_lo"] <= row["measured"] <= row["gold_hi"])
    assert errors.loc[SIZES[1], "rmse"] == pytest.approx(np.sqrt(np.mean(squares)))
    assert errors.loc[SIZES[1], "covered"] == pytest.approx(np.mean(within))
    assert errors.loc[SIZES[1], "highest"] == pytest.approx(entries[1].gold.mean(axis=(0, 2)).max())
    exact_errors = prediction_errors(leave_one_out(exact(), "bon", num_resamples=9, rng=np.random.default_rng(0)))
    assert (exact_errors["rmse"] < 1e-8).all() and (exact_errors["rmse_nearest"] > 0.1).all()


def test_what_cannot_be_a_law_is_refused() -> None:
    entries = exact()
    rng = np.random.default_rng(0)
    other = replace(entries[0], gold=entries[0].gold[..., :3])
    for bad, line in (
        (entries[:2], "needs 3 or more proxy sizes, got 2"),
        ([*entries, entries[0]], "one setting per proxy size"),
        ([other, *entries[1:]], "the same prompts"),
    ):
        with pytest.raises(InputError, match=line):
            fit_scaling_law(bad, "bon", rng=rng)
    for form in ("power", "linear"):
        with pytest.raises(InputError, match="no line in alpha and beta"):
            fit_scaling_law(entries, form, rng=rng)
    with pytest.raises(InputError, match="4 or more"):
        leave_one_out(entries[:3], "bon", rng=rng)
    with pytest.raises(InputError, match="above 0"):
        law_of(entries).at(0)
