"""Gold plus error: closed forms, quadrature and drawn responses agree; heavy tails end the rise of gold."""

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

from synthetic_rm.environments.analytic.error_laws import (
    BLIND_AT_THE_BOTTOM,
    BLIND_IN_THE_MIDDLE,
    TAILS,
    bounded,
    lognormal,
    normal,
    pareto,
    student_t,
)
from synthetic_rm.environments.analytic.proxy_error import ProxyError
from synthetic_rm.errors import InputError
from synthetic_rm.estimators import best_of_n_curve
from synthetic_rm.finite_support import expected, kl_divergence, kl_optimum

NS = np.array([1, 2, 5, 30, 200])
FAR = np.exp(np.linspace(0, 25, 51))
WORLDS = {
    **{name: ProxyError(tail()) for name, tail in TAILS.items()},
    "correlated": ProxyError(normal(), slope=0.5),
    "anticorrelated": ProxyError(student_t(4), slope=-0.3, scale=0.5),
    "blind in the middle": ProxyError(normal(), spread=BLIND_IN_THE_MIDDLE),
    "blind at the bottom": ProxyError(bounded(), spread=BLIND_AT_THE_BOTTOM),
}


@pytest.fixture(params=sorted(WORLDS))
def world(request: pytest.FixtureRequest) -> ProxyError:
    return WORLDS[str(request.param)]


def test_every_tail_has_mean_0_and_variance_1_where_it_has_them() -> None:
    for tail in (normal(), bounded(), student_t(3), student_t(9), lognormal(0.5), pareto(3)):
        assert float(tail.law.mean()) == pytest.approx(0, abs=1e-12)
        assert float(tail.law.var()) == pytest.approx(0.75 if tail.name == "pareto(3)" else 1)


def test_drawn_responses_agree_with_best_of_n(world: ProxyError) -> None:
    proxy, gold = best_of_n_curve(*world.sample(np.random.default_rng(0), (300, 400)), NS)
    exact = world.best_of_n(NS)
    for found, wanted in ((proxy, exact.proxy), (gold, exact.gold)):
        error = found.std(0) / np.sqrt(len(found))
        assert (np.abs(found.mean(0) - wanted[0]) < 4 * error).all()
    assert exact.gold[0, 0] == pytest.approx(0, abs=1e-9)
    assert np.abs(exact.gold).max() > 8 * (gold.std(0) / np.sqrt(len(gold))).max()


def test_drawn_responses_agree_with_conditioning(world: ProxyError) -> None:
    proxy, gold = world.sample(np.random.default_rng(1), 400_000)
    for cut in np.quantile(proxy, [0.3, 0.9, 0.99]):
        mass, total = (float(x[0]) for x in world.above([cut]))
        chosen = gold[proxy >= cut]
        assert chosen.size / gold.size == pytest.approx(mass, abs=4.5 * np.sqrt(mass / gold.size))
        assert abs(chosen.mean() - total / mass) < 4.5 * chosen.std() / np.sqrt(chosen.size)


@pytest.mark.parametrize(("scale", "slope"), [(1.0, 1.0), (0.4, 1.0), (1.0, 0.5)])
def test_of_normal_error_gold_is_the_regression_on_the_proxy(scale: float, slope: float) -> None:
    """E[X | U = c] = c slope / (slope^2 + scale^2), and E X_n that share of the mean of the largest of n normals."""
    world = ProxyError(normal(), slope=slope, scale=scale)
    deviation = np.hypot(slope, scale)
    density, given = world.at([-2.0, 0.0, 1.0, 4.0])
    np.testing.assert_allclose(given, np.array([-2, 0, 1, 4]) * slope / deviation**2, atol=1e-9)
    np.testing.assert_allclose(density, stats.norm.pdf([-2, 0, 1, 4], scale=deviation), rtol=1e-9)
    largest = [quad(lambda z, n=n: z * n * stats.norm.cdf(z) ** (n - 1) * stats.norm.pdf(z), -9, 9)[0] for n in (2, 10)]
    curve = world.best_of_n([2, 10, 1000])
    np.testing.assert_allclose(curve.gold[0], np.array([*largest, 3.24144]) * slope / deviation, atol=2e-4)
    np.testing.assert_allclose(curve.proxy[0], np.array([*largest, 3.24144]) * deviation, atol=3e-4)


@pytest.mark.parametrize("name", sorted(TAILS))
def test_of_independent_error_gold_is_bought_at_the_hazard_rate(name: str) -> None:
    """E[X | U >= t] = f_U(t) / P(U >= t) and E[X | U = c] = -f_U'(c) / f_U(c)."""
    world = WORLDS[name]
    cuts = np.array([-1.0, 0.3, 2.0, 6.0])
    (mass, gold), (density, given) = world.above(cuts), world.at(cuts)
    np.testing.assert_allclose(gold / mass, density / mass, rtol=2e-5)
    h = 1e-4
    (later, _), (earlier, _) = world.at(cuts + h), world.at(cuts - h)
    np.testing.assert_allclose(given, -(later - earlier) / (2 * h) / density, rtol=1e-5, atol=1e-7)


def test_light_independent_error_lets_gold_rise_without_end_and_heavy_error_does_not() -> None:
    for name, tail in TAILS.items():
        gold = ProxyError(tail()).best_of_n(FAR).gold[0]
        steps = np.diff(gold)
        if not tail().heavy:
            assert (steps > 0).all() and gold[-1] > 4
            continue
        peak = int(gold.argmax())
        assert 0 < peak < 25 and gold[peak] > 0.3, name
        assert (steps[:peak] > 0).all() and (steps[peak:] < 1e-9).all()
        assert gold[-1] < 0.1 * gold[peak]


def test_the_heavier_the_tail_the_sooner_gold_falls() -> None:
    peaks = [ProxyError(student_t(nu)).best_of_n(FAR).gold[0].argmax() for nu in (1, 2, 3, 5, 10)]
    assert peaks == sorted(peaks) and len(set(peaks)) == 5
    hopeless = ProxyError(pareto(0.2)).best_of_n(FAR)
    assert hopeless.gold.max() < 0.05 and np.isinf(hopeless.proxy).all()


def test_error_that_works_against_gold_never_lets_it_rise() -> None:
    gold = WORLDS["anticorrelated"].best_of_n(FAR).gold[0]
    assert gold.max() < 1e-9 and gold.min() < -0.3


def test_light_error_can_be_catastrophic_where_it_depends_on_gold() -> None:
    gold = ProxyError(normal(), spread=BLIND_AT_THE_BOTTOM).best_of_n(FAR).gold[0]
    assert gold.max() > 0.8 and gold[-1] < -1
    middle = ProxyError(normal(), spread=BLIND_IN_THE_MIDDLE)
    curve = middle.best_of_n(FAR).gold[0]
    peak = int(curve[:10].argmax())
    assert curve[peak] > 0.6 and curve[peak : peak + 10].min() < 0.5
    mass, total = middle.above(np.linspace(6, 14, 5))  # it comes back, to 1: the best of the responses it is blind to
    assert (total / mass < 1).all() and (np.diff(total / mass) > 0).all() and curve[-1] > 0.65


@pytest.mark.parametrize("tail", [normal(), bounded()], ids=lambda tail: tail.name)
def test_tilting_is_that_of_many_drawn_responses(tail) -> None:  # type: ignore[no-untyped-def]
    world = ProxyError(tail, slope=0.8, scale=0.7)
    curve = world.tilted([1e-4, 0.5, 1.5])
    proxy, gold = world.sample(np.random.default_rng(2), 400_000)
    uniform = np.full(proxy.size, 1 / proxy.size)
    for index, lam in ((1, 0.5), (2, 1.5)):
        policy = kl_optimum(uniform, proxy, 1 / lam)
        found = [float(x) for x in (kl_divergence(policy, uniform), expected(policy, proxy), expected(policy, gold))]
        np.testing.assert_allclose(found, [curve.kl[index], curve.proxy[0, index], curve.gold[0, index]], atol=0.02)
    assert curve.kl[0] == pytest.approx(0.5e-8 * world.slope**2 + 0.5e-8 * 0.49, rel=0.01)
    assert curve.gold[0, 2] > world.best_of_n([np.exp(1 + curve.kl[2])]).gold[0, 0]  # more gold for its KL


def test_nothing_can_be_tilted_by_a_heavy_tail() -> None:
    for tail in (student_t(), lognormal(), pareto()):
        with pytest.raises(InputError, match=r"E exp\(lam U\) is infinite"):
            ProxyError(tail).tilted([0.1])
    with pytest.raises(InputError, match="independent"):
        ProxyError(normal(), slope=-1.0).tilted([0.1])


def test_any_proxy_score_is_cheap_where_the_tail_is_heavy() -> None:
    cuts = np.array([5.0, 30.0, 1e3, 1e6, 1e9])
    heavy = ProxyError(student_t(3)).price(1.0, cuts)
    assert (np.diff(heavy) < 0).all() and heavy[-1] < 1e-7
    light = ProxyError(normal()).price(1.0, [2.0, 4.0, 8.0])
    assert (np.diff(light) > 0).all() and light[0] > 0.25 / 2  # never below tilting: KL = gain^2 / (2 var U)


def test_the_price_of_a_proxy_score_is_that_of_many_drawn_responses() -> None:
    world = ProxyError(student_t(3))
    proxy, _ = world.sample(np.random.default_rng(3), 1_000_000)
    proxy = proxy - proxy.mean()
    uniform = np.full(proxy.size, 1 / proxy.size)
    above = proxy >= 3.0
    delta = 1.0 / proxy[above].mean()
    policy = (1 - delta) * uniform + delta * above / above.sum()
    assert float(expected(policy, proxy)) == pytest.approx(1.0)
    assert world.price(1.0, [3.0])[0] == pytest.approx(float(kl_divergence(policy, uniform)), rel=0.01)
    assert np.isnan(world.price(50.0, [0.0])).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: student_t(0), "freedom=0"),
        (lambda: pareto(float("nan")), "index=nan"),
        (lambda: lognormal(-1), "sigma=-1"),
        (lambda: ProxyError(normal(), scale=0), "scale=0"),
        (lambda: ProxyError(normal(), slope=float("inf")), "slope=inf"),
        (lambda: ProxyError(normal()).best_of_n([0.5]), "n must be finite and at least 1"),
        (lambda: ProxyError(normal()).price(-1.0, [1.0]), "gain=-1"),
        (lambda: WORLDS["blind in the middle"].at([0.0]), "above 0 everywhere"),
    ],
)
def test_what_cannot_be_is_refused_on_one_line(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
