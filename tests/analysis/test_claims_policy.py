"""H6 says what holds of policies of two sizes, and what the same proxies do to both is not taken for noise."""

import numpy as np
from numpy.typing import NDArray

from synthetic_rm.analysis.claims.judging import NOT_IDENTIFIED, NOT_REPRODUCED, REPRODUCED
from synthetic_rm.analysis.claims.methods import compared, higher_peak, joint_draws
from synthetic_rm.analysis.claims.policy import h6, peak_ratio, policy_pairs
from synthetic_rm.analysis.curves import SettingCurves
from synthetic_rm.analysis.forms import bon

Floats = NDArray[np.float64]
D = np.linspace(0, 3, 25)
SMALL, LARGE = 40_000, 300_000
SEEDS = (0, 1, 2, 3)


def curves(gold: Floats, proxy: Floats, policy: int, *, proxies: int = 2000, noise: float = 0.02, own: float = 0.0,
           told: bool = True, distance: Floats = D) -> SettingCurves:  # fmt: skip
    """Means [K]; `noise` is of the proxies (the same for every policy), `own` of every curve by itself."""
    shared, mine = np.random.default_rng(proxies), np.random.default_rng([proxies, policy])
    slopes = noise * shared.normal(size=(4, 1, 16)) + noise * shared.normal(size=(4, 1, 1))
    slopes = (slopes + own * mine.normal(size=(4, 1, 16))) * distance[None, :, None]
    scores = [mean[None, :, None] + slopes for mean in (proxy, gold)]
    setting: dict[str, object] = {"proxy_params": proxies, "policy_params": policy, "kl_coef": np.nan}
    return SettingCurves(setting, np.arange(distance.size) + 1.0, np.square(distance), *scores, SEEDS if told else ())


def verdicts(large: Floats, gap: float = 0.0, **options: float) -> dict[str, str]:
    small = bon(D, 0.8, 0.2)
    entries = [curves(small, D, SMALL, **options), curves(large, large + (D - small) + gap * D, LARGE, **options)]  # type: ignore[arg-type]
    return {told.claim: told.verdict for told in h6(entries, "best_of_n", level=0.95)}


def test_a_larger_policy_with_the_papers_traits() -> None:
    assert verdicts(bon(D, 0.7, 0.175)) == dict.fromkeys(("H6a", "H6b", "H6c"), REPRODUCED)


def test_a_larger_policy_without_them() -> None:
    assert verdicts(bon(D, 0.9, 0.2))["H6a"] == NOT_REPRODUCED
    assert verdicts(bon(D, 0.7, 0.35))["H6b"] == NOT_REPRODUCED
    assert verdicts(bon(D, 0.7, 0.175), gap=0.5)["H6c"] == NOT_REPRODUCED


def test_a_peak_at_the_end_of_the_data_is_none() -> None:
    rising = curves(bon(D, 0.8, 0.1), D, SMALL), curves(bon(D, 0.7, 0.1), D, LARGE)
    assert not peak_ratio([rising], level=0.95)[1]
    assert verdicts(bon(D, 0.7, 0.05))["H6b"] == NOT_IDENTIFIED


def test_noise_of_every_curve_by_itself_identifies_nothing() -> None:
    assert verdicts(bon(D, 0.7, 0.175), own=2.0)["H6a"] == NOT_IDENTIFIED


def test_one_policy_or_other_proxies_tell_nothing() -> None:
    one = curves(bon(D, 0.8, 0.2), D, SMALL)
    assert list(h6([one], "ppo", level=0.95)) == []
    assert list(h6([one, curves(bon(D, 0.8, 0.2), D, LARGE, proxies=9000)], "ppo", level=0.95)) == []


def test_the_smallest_and_the_largest_are_compared_as_far_as_both_went() -> None:
    far = curves(bon(2 * D, 0.8, 0.2), D, LARGE, distance=2 * D)
    middle, near = curves(bon(D, 0.8, 0.2), D, 100_000), curves(bon(D, 0.8, 0.2), D, SMALL)
    ((first, second),) = policy_pairs([middle, far, near])
    assert first.setting == near.setting and second.setting == far.setting
    assert first.kl[-1] == 9.0 and second.kl[-1] <= 9.0 and second.gold.shape[1] == second.kl.size == 13


def test_what_a_proxy_does_to_both_policies_is_not_taken_for_noise() -> None:
    widths = []
    for told in (True, False):
        pair = tuple(curves(bon(D, alpha, beta), D, policy, noise=0.3, own=1e-3, told=told)
                     for alpha, beta, policy in ((0.8, 0.2, SMALL), (0.7, 0.175, LARGE)))  # fmt: skip
        first, second = pair
        both = [higher_peak([(first, second)], level=0.95), compared([(first, second)], level=0.95)["gold_at_kl"]]
        assert all(found.lo < found.value < found.hi for found in both)
        widths.append([found.hi - found.lo for found in both])
        for scores, entry in zip(joint_draws(pair), pair, strict=True):
            np.testing.assert_allclose(scores[1][0], entry.gold.mean(axis=(0, 2)))
    assert all(paired < 0.3 * apart for paired, apart in zip(*widths, strict=True))
