"""Every claim's statistic says reproduced where it holds, not reproduced where it does not, and owns up to noise."""

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from synthetic_rm.analysis.claims.judging import (
    NOT_IDENTIFIED,
    NOT_REPRODUCED,
    REPRODUCED,
    Verdict,
    both,
    negative,
    positive,
    within,
)
from synthetic_rm.analysis.claims.methods import exponents, h7, h8, h9, pairs_by_size
from synthetic_rm.analysis.claims.shape import RIVALS, cautious, forecasts, h1, h2, rise_and_fall
from synthetic_rm.analysis.claims.size import bend_and_change, h3
from synthetic_rm.analysis.curves import SettingCurves, overoptimization
from synthetic_rm.analysis.fitting import held_out_error
from synthetic_rm.analysis.forms import bon, quadratic, rl
from synthetic_rm.analysis.scaling import Estimate

from analysis.simulated_curves import KL, crossed_gold, run_tables  # isort: skip

Floats = NDArray[np.float64]
SIZES = (2000, 6000, 20000, 60000)
D = np.linspace(0, 3.2, 30)
FAR = np.linspace(0, 9, 30)


def curves(
    size: int,
    gold: Floats,
    proxy: Floats | None = None,
    *,
    distance: Floats = D,
    noise: float = 0.02,
    seeds: int = 3,
    **setting: object,
) -> SettingCurves:
    """Mean curves [K] with noise that grows along them, other for every seed and prompt."""
    rng = np.random.default_rng(size)
    walk = noise * rng.normal(size=(seeds, 1, 24)) * distance[None, :, None]
    wobble = noise * np.cumsum(rng.normal(size=(seeds, distance.size, 24)), axis=1) * (distance > 0)[None, :, None]
    means = [gold, distance if proxy is None else proxy]
    made = [mean[None, :, None] + walk + wobble for mean in means]
    named = {"proxy_params": size, **setting}
    return SettingCurves(named, np.arange(distance.size, dtype=float), np.square(distance), made[1], made[0])


def told(verdicts: Iterable[Verdict]) -> dict[str, str]:
    return {verdict.claim: verdict.verdict for verdict in verdicts}


@given(st.floats(-5, 5), st.floats(0, 3), st.floats(0, 2))
def test_verdicts_on_signs(middle: float, half: float, negligible: float) -> None:
    estimate = Estimate(middle, middle - half, middle + half)
    word = positive(estimate, negligible=negligible)
    assert (word == REPRODUCED) == (estimate.lo > 0)
    assert (word == NOT_REPRODUCED) == (estimate.lo <= 0 and estimate.hi < negligible)
    turned = Estimate(-middle, -estimate.hi, -estimate.lo)
    assert negative(turned) == positive(estimate)
    if half > 0 and word == NOT_IDENTIFIED:
        assert estimate.lo <= 0 <= estimate.hi


@given(st.floats(-5, 5), st.floats(0, 3))
def test_verdicts_on_ranges(middle: float, half: float) -> None:
    word = within(Estimate(middle, middle - half, middle + half), -1, 1)
    assert (word == REPRODUCED) == (abs(middle - half) <= 1 and abs(middle + half) <= 1)
    assert (word == NOT_REPRODUCED) == (middle - half > 1 or middle + half < -1)


def test_an_unknown_interval_identifies_nothing_and_parts_are_joined_by_the_worst() -> None:
    unknown = Estimate(1.0, float("nan"), float("nan"))
    assert positive(unknown) == within(unknown, 0, 2) == NOT_IDENTIFIED
    assert both(REPRODUCED, REPRODUCED) == REPRODUCED
    assert both(REPRODUCED, NOT_IDENTIFIED) == NOT_IDENTIFIED
    assert both(NOT_IDENTIFIED, NOT_REPRODUCED) == NOT_REPRODUCED


H1_WORLDS: dict[str, tuple[Callable[[Floats], Floats], float, str]] = {
    "rises and falls": (lambda d: bon(d, 0.6, 0.15), 0.02, REPRODUCED),
    "only rises": (lambda d: bon(d, 0.6, 0.0), 0.02, NOT_REPRODUCED),
    "only falls": (lambda d: bon(d, -0.6, 0.0), 0.02, NOT_REPRODUCED),
    "falls a little, in much noise": (lambda d: bon(d, 0.6, 0.11), 0.4, NOT_IDENTIFIED),
}


@pytest.mark.parametrize(("gold", "noise", "verdict"), H1_WORLDS.values(), ids=H1_WORLDS)
def test_h1_gold(gold: Callable[[Floats], Floats], noise: float, verdict: str) -> None:
    assert told(h1([curves(2000, gold(D), noise=noise)], "best_of_n", level=0.95))["H1a"] == verdict


@pytest.mark.parametrize(("late", "verdict"), [(1.0, REPRODUCED), (-0.5, NOT_REPRODUCED), (0.0, NOT_IDENTIFIED)])
def test_h1_proxy(late: float, verdict: str) -> None:
    proxy = np.minimum(D, 1.6) + late * np.maximum(D - 1.6, 0)
    assert told(h1([curves(2000, D, proxy)], "best_of_n", level=0.95))["H1b"] == verdict


def test_h1_asks_every_size_and_none_decides_by_being_run_or_not() -> None:
    falling, rising = bon(D, 0.6, 0.15), bon(D, 0.6, 0.0)
    entries = [curves(size, gold) for size, gold in zip(SIZES, (rising, rising, rising, falling), strict=True)]
    gold, proxy = h1(entries[::-1], "best_of_n", level=0.95)
    assert gold.verdict == proxy.verdict == REPRODUCED and gold.statistic.endswith("60k parameters")
    assert "2.0k highest at the end; 6.0k highest" in gold.note and "60k 0." in gold.note
    assert told(h1(entries[2:], "best_of_n", level=0.95))["H1a"] == REPRODUCED
    none, _ = h1(entries[:3], "best_of_n", level=0.95)
    assert none.verdict == NOT_REPRODUCED and np.isnan([none.estimate.lo, none.estimate.hi]).all()


def test_a_fall_among_many_sizes_must_be_clearer_than_one_alone() -> None:
    """Of worlds where no gold falls, a fall is seen in few of them, however many sizes are looked at."""
    flat = np.minimum(D, 1.0)

    def fell(sizes: range) -> int:
        return told(h1([curves(size, flat, noise=0.1) for size in sizes], "best_of_n", level=0.8))["H1a"] == REPRODUCED

    worlds = [range(1000 + 10 * start, 1004 + 10 * start) for start in range(15)]
    assert sum(map(fell, worlds)) <= 5  # 1.5 of 15 by chance at (1 - level) / 2 for all sizes of a world together


def test_the_verdict_on_the_fall_does_not_depend_on_the_draws() -> None:
    entry = curves(2000, bon(D, 0.6, 0.15), noise=0.2)
    ends = [rise_and_fall([entry], rng=np.random.default_rng(seed), level=0.99)[1] for seed in range(6)]
    width = np.mean([end.hi - end.lo for end in ends])
    assert np.std([end.lo for end in ends]) < 0.03 * width


def test_rise_and_fall_of_one_size_are_those_of_the_overoptimization_table() -> None:
    rng = np.random.default_rng(0)
    mean = bon(np.sqrt(KL), 0.6, 0.15)
    gold = crossed_gold(rng, mean, seeds=4, prompts=16, seed_effect=0.2, prompt_effect=0.3, noise=0.3)
    arrays, records = run_tables({1000: gold})
    row = overoptimization(arrays, records, rng=rng).iloc[0]
    entry = SettingCurves({"proxy_params": 1000}, KL, KL, gold, gold - gold[:, :1])
    rise, fall, _ = rise_and_fall([entry], rng=rng, level=0.95)
    assert (rise.value, fall.value) == pytest.approx((row["rise"], row["fall"]), abs=1e-5)
    assert (fall.lo, fall.hi) == pytest.approx((row["fall_lo"], row["fall_hi"]), abs=0.15)


@pytest.mark.parametrize(
    ("optimizer", "gold", "better", "holds"),
    [
        ("best_of_n", bon(D, 0.8, 0.16), REPRODUCED, REPRODUCED),
        ("best_of_n", quadratic(D, 0.3, 0.02), NOT_REPRODUCED, NOT_REPRODUCED),
        ("ppo", rl(FAR, 0.6, 0.25), REPRODUCED, REPRODUCED),
        ("ppo", bon(FAR, 0.6, 0.06), NOT_REPRODUCED, NOT_REPRODUCED),
    ],
)
def test_h2(optimizer: str, gold: Floats, better: str, holds: str) -> None:
    distance, cut = (D, 5.0) if optimizer == "best_of_n" else (FAR, 30.0)
    entries = [curves(size, gold, distance=distance, noise=0.002) for size in SIZES]
    assert told(h2(entries, optimizer, level=0.95, cut=cut)) == {"H2a": better, "H2b": holds}


def test_forecasts_are_those_of_the_fits_and_nothing_is_said_where_nothing_lies_beyond() -> None:
    entries = [curves(size, bon(D, 0.8, 0.16), noise=0.1) for size in SIZES[:2]]
    found = forecasts(entries, "bon", 4.0)
    assert found is not None
    for form in RIVALS:
        relative = []
        for entry in entries:
            mean = entry.gold.mean(axis=(0, 2))
            relative.append((held_out_error(entry.kl, mean, form, 4.0) / mean.max()) ** 2)
        assert found.errors[form] == pytest.approx(np.mean(relative))
    assert forecasts(entries, "bon", 99.0) is None and list(h2(entries, "best_of_n", level=0.9, cut=99.0)) == []


def test_an_exact_form_is_not_refuted_by_noise() -> None:
    """At level 0.9, of 40 worlds whose form is exact: the interval of its squared error reaches 0 in nearly all."""
    reached = 0
    for seed in range(40):
        found = forecasts([curves(2000 + seed, bon(D, 0.8, 0.16), noise=0.1)], "bon", 4.0)
        assert found is not None
        told = cautious(found.errors["bon"], found.draws["bon"], 0.9)
        reached += told.lo <= 0 < told.hi
    assert reached >= 36


def sized(
    alpha: Iterable[float], beta: Iterable[float], optimizer: str = "best_of_n", noise: float = 0.004
) -> dict[str, str]:
    form, distance = (bon, D) if optimizer == "best_of_n" else (rl, FAR)
    entries = [
        curves(size, form(distance, a, b), distance=distance, noise=noise)
        for size, a, b in zip(SIZES, alpha, beta, strict=True)
    ]
    return told(h3(entries[::-1], optimizer, level=0.95))


def test_h3_of_best_of_n() -> None:
    line, falling = (0.4, 0.5, 0.6, 0.7), (0.16, 0.13, 0.10, 0.07)
    assert sized(line, falling) == {"H3a": REPRODUCED, "H3b": REPRODUCED, "H3c": REPRODUCED}
    assert sized(line[::-1], falling[::-1]) == {"H3a": NOT_REPRODUCED, "H3b": NOT_REPRODUCED, "H3c": REPRODUCED}
    assert sized((0.4, 0.68, 0.7, 0.7), falling)["H3c"] == NOT_REPRODUCED
    assert set(sized(line, falling, noise=1.0).values()) == {NOT_IDENTIFIED}
    assert list(h3([curves(size, D) for size in SIZES[:2]], "best_of_n", level=0.95)) == []


def test_h3_of_rl() -> None:
    falling = (0.25, 0.23, 0.21, 0.19)
    one = sized((0.6,) * 4, falling, "ppo")
    assert one == {"H3b": REPRODUCED, "H3c": REPRODUCED, "H3d": REPRODUCED}
    assert sized((0.4, 0.5, 0.6, 0.7), falling, "ppo")["H3d"] == NOT_REPRODUCED


def test_bend_and_change_are_those_of_a_parabola() -> None:
    sizes = [10, 40, 90, 1000]
    x = np.log10(sizes)
    values = 3 + 2 * x + 0.5 * x**2
    middle = (x[0] + x[-1]) / 2
    bend, change = bend_and_change(sizes) @ values
    chord = (values[0] + values[-1]) / 2
    assert bend == pytest.approx(3 + 2 * middle + 0.5 * middle**2 - chord)
    assert change == pytest.approx(values[-1] - values[0])


def method_pairs(stretch: float, *, shift: float = 0.0, top: float = 1.0, gain: float = 1.0) -> dict[str, str]:
    """RL that needs `stretch` times the distance for a proxy score, there has `gain` times the gold and `shift` more a
    proxy score, and goes to `top` times it."""

    def gold(proxy: Floats) -> Floats:
        return 0.6 * proxy - 0.12 * proxy**2

    best = [curves(size, gold(D), D, noise=0.005) for size in SIZES]
    far = D * top
    gained = [gain * gold(far) + shift * far for _ in SIZES]
    rl_runs = [
        curves(size, own, far, distance=stretch * far, noise=0.002) for size, own in zip(SIZES, gained, strict=True)
    ]
    return told(h7(best, rl_runs, "ppo", level=0.95))


def test_h7() -> None:
    assert method_pairs(3, gain=1.1) == dict.fromkeys(("H7a", "H7b", "H7c"), REPRODUCED)
    assert method_pairs(0.5)["H7a"] == NOT_REPRODUCED
    assert method_pairs(3, gain=0.8)["H7b"] == NOT_REPRODUCED
    assert method_pairs(3, top=0.7)["H7b"] == NOT_IDENTIFIED  # still rising at its end
    assert method_pairs(3, shift=-0.3)["H7c"] == NOT_REPRODUCED
    assert list(h7([curves(2000, D)], [curves(6000, D)], "ppo", level=0.95)) == []


def test_pairs_need_the_same_prompts() -> None:
    one, other = curves(2000, D), curves(2000, D)
    fewer = SettingCurves(other.setting, other.pressure, other.kl, other.proxy[..., :5], other.gold[..., :5])
    assert pairs_by_size([one], [other]) == [(one, other)] and pairs_by_size([one], [fewer]) == []


def penalized(gold: float, proxy: float) -> dict[str, str]:
    base = rl(FAR, 0.6, 0.25)
    entries = [
        curves(2000, base, 0.8 * FAR, distance=FAR, noise=0.002, kl_coef=0.0),
        curves(2000, base + gold * FAR, (0.8 + proxy) * FAR, distance=FAR, noise=0.002, kl_coef=0.1),
    ]
    return told(h8(entries, "ppo", level=0.95))


def test_h8() -> None:
    assert penalized(0.0, 0.1) == {"H8a": REPRODUCED, "H8b": REPRODUCED}
    assert penalized(0.1, 0.0) == {"H8a": NOT_REPRODUCED, "H8b": NOT_REPRODUCED}
    assert list(h8([curves(2000, D, kl_coef=0.0), curves(6000, D, kl_coef=0.1)], "ppo", level=0.95)) == []
    assert list(h8([curves(2000, D), curves(6000, D, kl_coef="")], "ppo", level=0.95)) == []


def walks(power: float, *, spread: float = 0.05, coef: float = 0.0) -> pd.DataFrame:
    steps = np.arange(0, 40, 4)
    rng = np.random.default_rng(0)
    runs = [
        {"run": f"r{i}", "pressure": steps, "kl": 0.01 * steps ** (power + spread * rng.normal())} for i in range(4)
    ]
    return pd.concat([pd.DataFrame(run | {"kl_coef": coef}) for run in runs])


def test_h9() -> None:
    np.testing.assert_allclose(exponents(walks(1.7, spread=0)), 1.7)
    assert told(h9(walks(2.0), "ppo", level=0.95)) == {"H9": REPRODUCED}
    assert told(h9(walks(1.0), "ppo", level=0.95)) == {"H9": NOT_REPRODUCED}
    assert told(h9(walks(2.0, spread=2.0), "ppo", level=0.95)) == {"H9": NOT_IDENTIFIED}
    assert told(h9(walks(2.0, coef=0.1), "ppo", level=0.95)) == {}
