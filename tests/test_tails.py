"""Tail indices of laws whose index is known, their coverage over many seeds, and means of maxima."""

import numpy as np
import pytest
from scipy.special import gamma, gammaln

from synthetic_rm.errors import InputError
from synthetic_rm.tails import maxima_index, normal_maxima, pool_tail, tail_index


@pytest.mark.parametrize("index", [0.8, 1.5, 4.0])
def test_hill_covers_the_index_of_a_power_tail_in_19_of_20_samples(index: float) -> None:
    draws = np.random.default_rng(0).pareto(index, (1000, 2000)) + 1
    found = tail_index(draws, 100)
    np.testing.assert_allclose(found.hill.mean(), 1 / index, rtol=0.01)
    covered = np.abs(found.hill - 1 / index) < 1.96 * found.hill_se
    assert 0.93 < covered.mean() < 0.97
    assert found.moment.mean() == pytest.approx(1 / index, abs=0.05)


def test_hill_is_the_mean_log_excess_of_the_largest_written_out() -> None:
    scores = np.random.default_rng(1).normal(size=(2, 3, 50))
    found = tail_index(scores, 5)
    assert found.hill.shape == (2, 3)
    for at in np.ndindex(2, 3):
        top = sorted(scores[at])[-6:]
        logs = [np.log(x / top[0]) for x in top[1:]]
        first, second = np.mean(logs), np.mean(np.square(logs))
        assert found.hill[at] == pytest.approx(first) and found.hill_se[at] == pytest.approx(first / np.sqrt(5))
        assert found.moment[at] == pytest.approx(first + 1 - 0.5 / (1 - first**2 / second))


def test_light_and_bounded_tails_are_told_from_heavy_ones() -> None:
    rng = np.random.default_rng(2)
    size = (40, 50_000)
    laws = {"uniform": rng.uniform(0, 1, size), "normal": rng.normal(size=size), "t3": rng.standard_t(3, size)}
    index = {name: float(tail_index(draws, 500).moment.mean()) for name, draws in laws.items()}
    assert index["uniform"] == pytest.approx(-1, abs=0.1)
    assert -0.25 < index["normal"] < 0.1
    assert index["t3"] == pytest.approx(1 / 3, abs=0.08)
    few, many = (float(tail_index(laws["normal"], k).hill.mean()) for k in (100, 5000))
    assert 0 < few < many  # of a light tail, Hill's index goes on falling as fewer scores are used


def test_scale_and_order_of_the_scores_do_not_matter() -> None:
    draws = np.random.default_rng(3).standard_t(3, 1000)
    for same in (7 * draws, draws[::-1]):
        np.testing.assert_allclose(tail_index(same, 50), tail_index(draws, 50), rtol=1e-12)


def test_the_tail_of_a_pool_is_that_of_its_prompts_whatever_their_level() -> None:
    rng = np.random.default_rng(5)
    draws = rng.pareto(2.0, (64, 4096)) + 10 * rng.normal(size=(64, 1))
    found = pool_tail(draws)
    centred = draws - np.median(draws, axis=1, keepdims=True)
    by_prompt = [float(tail_index(row, 81).hill) for row in centred]
    assert found["tail_k"] == 81 and found["hill"] == pytest.approx(np.mean(by_prompt))
    assert found["hill_se"] == pytest.approx(np.std(by_prompt, ddof=1) / 8)
    assert abs(found["hill"] - 0.5) < 0.1 and abs(found["tail_moment"] - 0.5) < 0.1
    light = pool_tail(rng.normal(size=(64, 4096)))
    assert light["hill"] < 0.25 and light["tail_moment"] < 0.05


def test_a_pool_without_a_tail_has_none() -> None:
    for flat in (np.ones((3, 50)), np.zeros((2, 2))):
        assert np.isnan(pool_tail(flat)["hill"])
    one = np.ones((2, 50))
    one[0] = np.arange(50)
    assert np.isfinite(pool_tail(one)["hill"]) and np.isnan(pool_tail(one)["hill_se"])


def test_means_of_normal_maxima_are_the_tabulated_ones() -> None:
    """And those of drawn samples."""
    np.testing.assert_allclose(
        normal_maxima([1, 2, 3, 10, 100, 1000, 60_000]),
        [0, np.pi**-0.5, 1.5 * np.pi**-0.5, 1.53875, 2.50759, 3.24144, 4.271],
        atol=1e-3,
    )
    drawn = np.random.default_rng(4).normal(size=(20_000, 30)).max(1)
    assert abs(drawn.mean() - normal_maxima([30])[0]) < 4.5 * drawn.std() / np.sqrt(20_000)


NS = np.array([100, 1000, 10_000])


@pytest.mark.parametrize(
    ("means", "index"),
    [
        (gamma(1 - 1 / 3) * np.exp(gammaln(NS + 1) - gammaln(NS + 1 - 1 / 3)), 1 / 3),  # Pareto(3)
        (np.log(NS) + np.euler_gamma + 0.5 / NS, 0.0),  # exponential: harmonic numbers
        (NS / (NS + 1), -1.0),  # uniform
    ],
    ids=["pareto", "exponential", "uniform"],
)
def test_means_of_maxima_grow_by_the_index(means: np.ndarray, index: float) -> None:
    assert maxima_index(NS, means) == pytest.approx(index, abs=0.02)
    assert maxima_index(NS, 5 * means - 3) == pytest.approx(maxima_index(NS, means), abs=1e-6)
    assert maxima_index(NS[[0, 1, 2]] * np.array([1, 1, 1]), means) == pytest.approx(index, abs=0.02)


def test_uneven_steps_and_curves_that_do_not_rise() -> None:
    ns = np.array([10, 300, 2000])
    assert maxima_index(ns, ns**0.4) == pytest.approx(0.4)
    assert maxima_index(ns, -(ns**-0.4)) == pytest.approx(-0.4)
    assert np.isnan(maxima_index(ns, [1.0, 2.0, 1.5]))
    assert np.isnan(maxima_index(ns, [1.0, 2.0, 1e30]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tail_index([1.0, 2.0, 3.0], 3), "k=3: allowed is 2 to 2"),
        (lambda: tail_index([-1.0, 2.0, 3.0, 4.0], 3), "above 0"),
        (lambda: tail_index([1.0, np.inf, 3.0, 4.0], 2), "finite"),
        (lambda: maxima_index([1, 2], [1, 2]), "three rising"),
        (lambda: maxima_index([3, 2, 1], [1, 2, 3]), "three rising"),
    ],
)
def test_what_cannot_be_is_refused_on_one_line(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
