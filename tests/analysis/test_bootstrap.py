"""The intervals hold what they promise: coverage over simulated experiments of known coefficients."""

import numpy as np
import pytest
from analysis.simulated_curves import DISTANCE, KL, crossed_gold

from synthetic_rm.analysis.bootstrap import bootstrap_fits, crossed_bootstrap, interval
from synthetic_rm.analysis.fitting import fit_curve
from synthetic_rm.analysis.forms import FORMS
from synthetic_rm.errors import InputError

ALPHA, BETA = 0.5, 0.12
SPREADS = {
    "seeds": {"seed_effect": 0.3, "prompt_effect": 0.1, "noise": 0.1},
    "prompts": {"seed_effect": 0.01, "prompt_effect": 1.0, "noise": 0.3},
    "noise": {"seed_effect": 0.0, "prompt_effect": 0.0, "noise": 1.0},
    "all": {"seed_effect": 0.15, "prompt_effect": 1.0, "noise": 1.0},
}


@pytest.mark.parametrize(("seeds", "prompts"), [(2, 16), (4, 64), (8, 64)])
@pytest.mark.parametrize("spread", SPREADS)
def test_nominal_coverage_whatever_the_spread_comes_from(spread: str, seeds: int, prompts: int) -> None:
    rng = np.random.default_rng(0)
    peak, top = FORMS["bon"].peak(ALPHA, BETA)
    truth = {"alpha": ALPHA, "beta": BETA, "peak_kl": float(peak) ** 2, "peak_gold": float(top)}
    covered = dict.fromkeys(truth, 0)
    mean = FORMS["bon"].curve(DISTANCE, ALPHA, BETA)
    for _ in range(300):
        gold = crossed_gold(rng, mean, seeds=seeds, prompts=prompts, **SPREADS[spread])
        fit = bootstrap_fits(KL, gold, "bon", num_resamples=500, rng=rng)
        for name, true in truth.items():
            covered[name] += getattr(fit, f"{name}_lo") <= true <= getattr(fit, f"{name}_hi")
    assert all(count / 300 >= 0.92 for count in covered.values()), covered
    if spread in ("seeds", "prompts") and seeds > 2:  # where one effect is all there is, not too wide either
        assert all(count / 300 <= 0.985 for count in covered.values()), covered


SETS = 600
COMPONENTS = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.3, 0, 1), (0, 0.5, 1), (0.1, 0.3, 1), (0.3, 1, 1), (0.25, 1, 0.3)]
"""deviations of the effects of seeds and prompts, and of the noise of cells"""


def crossed_tables(
    rng: np.random.Generator, deviations: tuple[float, float, float], seeds: int, prompts: int
) -> np.ndarray:
    """[seeds, prompts, SETS] independent tables of true mean 0."""
    shapes = ((seeds, 1), (1, prompts), (seeds, prompts))
    effects = [d * rng.normal(size=(*shape, SETS)) for d, shape in zip(deviations, shapes, strict=True)]
    return np.asarray(effects[0] + effects[1] + effects[2])


@pytest.mark.parametrize("deviations", COMPONENTS)
@pytest.mark.parametrize("prompts", [16, 64])
@pytest.mark.parametrize("seeds", [1, 2, 3, 4])
def test_coverage_with_few_seeds_for_every_ratio_of_variances(
    seeds: int, prompts: int, deviations: tuple[float, float, float]
) -> None:
    if seeds == 1 and deviations[0] > 0:
        return  # what one seed does not show
    rng = np.random.default_rng(seeds)
    tables = crossed_tables(rng, deviations, seeds, prompts)
    _, draws = crossed_bootstrap(tables, num_resamples=2000, rng=rng)
    lo, hi = interval(draws, 0.95)
    covered = (lo <= 0) & (hi >= 0)
    assert covered.mean() >= 0.95 - 4 * np.sqrt(0.95 * 0.05 / SETS)
    if seeds > 1:  # what the noise of the cells says of the mean bounds every interval from below
        rest = tables - tables.mean(axis=0) - tables.mean(axis=1, keepdims=True) + tables.mean(axis=(0, 1))
        noise = np.square(rest).sum(axis=(0, 1)) / ((seeds - 1) * (prompts - 1))
        assert ((hi - lo) > 0.85 * 2 * 1.96 * np.sqrt(noise / (seeds * prompts))).all()
    agreeing = np.ptp(tables.mean(axis=1), axis=0) <= np.quantile(np.ptp(tables.mean(axis=1), axis=0), 0.25)
    if deviations[0] == 0:
        assert covered[agreeing].mean() >= 0.90


def test_seeds_that_agree_by_chance_do_not_make_an_interval_collapse() -> None:
    """Noise whose seed and prompt means happen to be all equal: the mean is still as uncertain as noise makes it."""
    rng = np.random.default_rng(8)
    noise = rng.normal(size=(2, 16))
    noise -= noise.mean(axis=0)
    noise -= noise.mean(axis=1, keepdims=True)
    _, draws = crossed_bootstrap(noise + 0.3, num_resamples=4000, rng=rng)
    lo, hi = interval(draws, 0.95)
    assert hi - lo > 2 * 1.96 * np.sqrt(np.square(noise).sum() / 15 / 32)


def test_point_estimate_is_the_fit_of_the_mean_curve() -> None:
    rng = np.random.default_rng(1)
    gold = crossed_gold(rng, FORMS["rl"].curve(DISTANCE, 0.4, 0.2), seeds=3, prompts=10, **SPREADS["all"])
    fit = bootstrap_fits(KL, gold, "rl", num_resamples=200, rng=rng)
    plain = fit_curve(KL, gold.mean(axis=(0, 2)), "rl")
    for name in ("alpha", "beta", "peak_gold", "r2"):
        assert getattr(fit, name) == pytest.approx(getattr(plain, name), rel=1e-9)
    assert fit.peak_kl == pytest.approx(plain.peak_distance**2, rel=1e-9)
    for name in ("alpha", "beta", "peak_kl", "peak_gold"):
        assert getattr(fit, f"{name}_lo") < getattr(fit, name) < getattr(fit, f"{name}_hi")
    assert (fit.num_seeds, fit.num_prompts, fit.draws.shape) == (3, 10, (200, 2))


def test_variance_counts_seeds_prompts_and_noise_once() -> None:
    # over many tables, the mean of the bootstrap variance against the true variance of the mean
    rng = np.random.default_rng(2)
    seeds, prompts = 12, 20
    for scale_a, scale_b, scale_e, most in ((1, 0, 0, 1.5), (0, 1, 0, 1.5), (0, 0, 3, 2), (0.5, 0.5, 1, 1.5)):
        tables = (
            scale_a * rng.normal(size=(seeds, 1, 400))
            + scale_b * rng.normal(size=(1, prompts, 400))
            + scale_e * rng.normal(size=(seeds, prompts, 400))
        )
        _, draws = crossed_bootstrap(tables, num_resamples=1000, rng=rng)
        true = scale_a**2 / seeds + scale_b**2 / prompts + scale_e**2 / (seeds * prompts)
        # Student's tails add (L - 1) / (L - 3) to the variance of the draws; counting noise thrice would give 3
        assert 0.9 < draws.var(axis=0).mean() / true < most


def test_a_factor_of_one_level_adds_no_spread() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(1, 40))
    mean, draws = crossed_bootstrap(values, num_resamples=4000, rng=rng)
    assert mean == pytest.approx(values.mean())
    assert draws.std() == pytest.approx(values.std(ddof=1) / np.sqrt(40), rel=0.1)
    _, still = crossed_bootstrap(np.ones((1, 1, 3)), num_resamples=5, rng=rng)
    assert (still == 1).all()


@pytest.mark.parametrize(
    ("alpha", "beta", "identified"),
    [(0.5, 0.12, True), (0.5, 0.0, False), (0.5, -0.1, False), (0.5, 0.07, False), (0.5, 0.3, True)],
)
def test_identified_needs_a_bend_and_a_peak_within_the_data(alpha: float, beta: float, identified: bool) -> None:
    rng = np.random.default_rng(4)
    gold = FORMS["bon"].curve(DISTANCE, alpha, beta)[None, :, None] + 1e-3 * rng.normal(size=(4, KL.size, 8))
    fit = bootstrap_fits(KL, gold, "bon", num_resamples=300, rng=rng)
    assert fit.identified is identified
    if beta == 0.07:  # a clear bend, its peak beyond the data
        assert fit.beta_lo > 0
        assert fit.peak_kl > KL.max()
    if beta < 0:
        assert fit.peak_kl == fit.peak_kl_lo == fit.peak_gold_hi == np.inf


def test_a_bend_that_the_seeds_do_not_share_is_not_identified() -> None:
    curves = [FORMS["bon"].curve(DISTANCE, 0.5, beta) for beta in (0.02, 0.12, 0.22)]
    gold = np.stack(curves)[:, :, None] + np.zeros(8)
    fit = bootstrap_fits(KL, gold, "bon", num_resamples=2000, rng=np.random.default_rng(7))
    assert fit.beta_lo < 0 < fit.beta_hi
    assert fit.peak_kl < KL.max()
    assert not fit.identified
    # Student's interval of three seeds: 4.30 standard errors, where the percentile one would have at most 1.7
    assert (fit.beta_hi - fit.beta_lo) / 2 == pytest.approx(4.30 * 0.1 / np.sqrt(3), rel=0.2)


def test_the_same_generator_gives_the_same_intervals() -> None:
    gold = np.random.default_rng(5).normal(size=(4, KL.size, 8))
    one, two = (bootstrap_fits(KL, gold, "bon", num_resamples=50, rng=np.random.default_rng(6)) for _ in range(2))
    assert one == two
    np.testing.assert_array_equal(one.draws, two.draws)


def test_interval_of_draws_that_are_partly_infinite() -> None:
    draws = np.concatenate([np.arange(95.0), np.full(5, np.inf)])
    lo, hi = interval(draws, 0.9)
    assert (lo, hi) == (4, np.inf)
    with pytest.raises(InputError, match="level must be between 0 and 1, got 95"):
        interval(draws, 95)


@pytest.mark.parametrize(
    ("kl", "gold", "form", "message"),
    [
        (KL, np.zeros((4, 3, 8)), "bon", r"gold \[seeds, K, prompts\]"),
        (KL, np.full((4, KL.size, 8), np.nan), "bon", "gold must be finite"),
        (-KL, np.zeros((4, KL.size, 8)), "bon", "non-negative"),
        (0 * KL, np.zeros((4, KL.size, 8)), "bon", "distinct distances"),
        (KL, np.zeros((4, KL.size, 8)), "power", "not linear"),
    ],
)
def test_bad_input_is_named(kl: np.ndarray, gold: np.ndarray, form: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        bootstrap_fits(kl, gold, form, num_resamples=10, rng=np.random.default_rng(0))
