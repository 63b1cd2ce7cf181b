"""What samples say of a trained world, against sums over all its responses, to within their own standard errors."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from scipy import stats

from synthetic_rm.divergences import best_of_n_kl
from synthetic_rm.environments.tiny_language import TinyLanguage
from synthetic_rm.estimators import best_of_n_curve
from synthetic_rm.finite_support import expected, kl_divergence, kl_optimum
from synthetic_rm.learned_world import LearnedWorld, LearnedWorldSettings, build, log_probabilities
from synthetic_rm.measuring import standard_error
from synthetic_rm.optimizers.best_of_n import draw_pool, measure, response_identity, score_pool, support_kl
from synthetic_rm.optimizers.exact import best_of_n, exact_curve, exact_policies
from synthetic_rm.optimizers.measure_rl import Measurement, measure_policy
from synthetic_rm.optimizers.ppo import PPO
from synthetic_rm.optimizers.rl import Hyper, Metrics, Program
from synthetic_rm.optimizers.rl_run import Course, Lane, optimize
from synthetic_rm.rewards.neural import init_reward
from synthetic_rm.types import Params

SEEDS, ROWS, SAMPLES = 100, 40, 8
"""repetitions of a measurement, prompts of each, responses to a prompt"""
POOL = 32
NS = np.array([1, 2, 8, 32])
KL_COEF = 0.2
PPO_RUNS = 16


@pytest.fixture(scope="module")
def world() -> LearnedWorld:
    return build(LearnedWorldSettings(gold_width=8))  # one shape of everything that is compiled


@pytest.fixture(scope="module")
def proxy(world: LearnedWorld) -> Any:
    return jax.tree.map(lambda x: x[0], world.proxies)


class Trained(NamedTuple):
    history: Metrics
    shown: list[tuple[int, Params]]


@pytest.fixture(scope="module")
def runs(world: LearnedWorld, proxy: Any) -> list[Trained]:
    """PPO against the first proxy from several keys, all prompts in every iteration."""
    sizes = {"prompts": world.language.num_prompts, "samples": SAMPLES, "max_tokens": 4, "epochs": 2, "minibatches": 2}
    program = Program(PPO, world.network, world.network, **sizes)
    value = init_reward(world.network, jax.random.key(5), world.reference_params)
    numbers = Hyper(learning_rate=0.01, value_learning_rate=0.01, kl_coef=KL_COEF)
    lanes = [Lane(proxy, value, jax.random.key(60 + key), numbers) for key in range(PPO_RUNS)]
    shown: list[list[tuple[int, Params]]] = [[] for _ in lanes]
    results = optimize(
        program,
        world.reference_params,
        world.language.prompts(),
        lanes,
        Course(spacing=0.1, kl_budget=50.0, max_steps=80, show_every=20),
        on_point=lambda lane, step, params: shown[lane].append((step, params)),
    )
    return [Trained(result.history, points) for result, points in zip(results, shown, strict=True)]


@pytest.fixture(scope="module")
def trained(runs: list[Trained]) -> Trained:
    return runs[0]


def coverage(found: np.ndarray, error: np.ndarray, exact: float) -> float:
    """Share of the 95% intervals of repeated measurements [seeds] that hold the exact value."""
    return float(np.mean(np.abs(found - exact) < stats.t.ppf(0.975, ROWS - 1) * error))


def covers(found: np.ndarray, error: np.ndarray, exact: float) -> None:
    """The intervals are as wide as they should be, no wider, and centred."""
    z = (found - exact) / error
    assert abs(z.mean()) < 4.5 / np.sqrt(z.size)
    assert coverage(found, error, exact) >= 0.86
    assert 0.75 < z.std() < 1.35
    assert error.mean() < 0.5 * max(abs(exact), 1.0)  # the check can fail


def test_language_and_models_are_enumerated_whole(world: LearnedWorld) -> None:
    told = np.exp(log_probabilities(world.network, world.reference_params, world.language))
    np.testing.assert_allclose(told.sum(1), 1, atol=1e-5)  # every response is there, and none twice
    np.testing.assert_allclose(world.language.speakers.sum(1), 1, rtol=1e-9)
    assert float(expected(world.reference, world.gold_scores).mean()) == pytest.approx(0, abs=1e-5)
    # the reference has learnt from the demonstrations, and the proxies from gold's labels
    uniform = np.full(world.reference.shape, 1 / world.language.num_responses)
    learnt, guess = (np.mean(np.sum(world.language.speakers * np.log(x), 1)) for x in (world.reference, uniform))
    assert learnt > guess + 0.5
    law = world.reference
    for scores in world.proxy_scores:
        agreed = np.sign(scores[:, :, None] - scores[:, None]) == np.sign(
            world.gold_scores[:, :, None] - world.gold_scores[:, None]
        )
        assert np.einsum("pi,pj,pij->", law, law, agreed) / len(law) > 0.7
    assert np.abs(world.proxy_scores[0] - world.proxy_scores[1]).max() > 0.1


def test_demonstrations_are_drawn_from_the_speakers_and_splits_differ() -> None:
    language = TinyLanguage(num_prompts=2, response_tokens=2, num_demonstrations=20_000)
    shown = language.demonstrations("train")
    number = language.reward(np.tile(np.arange(language.num_responses), (2, 1)))
    said = np.asarray(number(shown)).astype(int)
    for prompt in range(2):
        mine = said[shown.prompt[:, 1] == prompt]
        shares = np.bincount(mine, minlength=language.num_responses) / len(mine)
        error = np.sqrt(language.speakers[prompt] / len(mine))
        assert (np.abs(shares - language.speakers[prompt]) < 4.5 * error + 1e-4).all()
    assert (language.demonstrations("test").tokens != shown.tokens).any()
    assert language.name == "tiny_language"


def test_sampled_best_of_n_covers_the_enumerated_curve(world: LearnedWorld, proxy: Any, tmp_path: Path) -> None:
    """100 experiments of 40 prompts with pools of 32: gains and standard errors are those that records.csv tells."""
    prompts, pools = world.language.num_prompts, SEEDS * ROWS // world.language.num_prompts
    options = {"samples": pools * POOL, "max_tokens": 4, "prompts_at_once": prompts, "samples_at_once": 600}
    key = jax.random.key(7)
    pool = draw_pool(world.network, world.reference_params, world.language.prompts(), key, tmp_path, **options)
    scores = {}
    for name, model in (("proxy", proxy), ("gold", world.gold)):
        members = jax.tree.map(lambda x: x[None], model)
        scored = score_pool(members, pool, response_identity(pool), tmp_path / f"{name}.npy")
        scores[name] = np.array(scored[0], np.float64)
    law = world.reference
    exact = exact_curve(exact_policies(best_of_n, law, world.proxy_scores[0], NS), law, world.proxy_scores[0],
                        world.gold_scores, NS)  # fmt: skip
    order = np.random.default_rng(8).permutation(prompts * pools)
    small = {name: values.reshape(-1, POOL)[order] for name, values in scores.items()}
    curve = measure(small["proxy"], small["gold"], NS)
    for name in ("proxy", "gold"):
        told = getattr(curve, name).reshape(SEEDS, ROWS, len(NS))
        gains = np.stack([seed - seed[:, :1] for seed in told]).mean(1)
        errors = np.stack([standard_error(seed) for seed in told])
        wanted = (getattr(exact, name) - getattr(exact, name)[:, :1]).mean(0)
        for column in (1, 2, 3):
            covers(gains[:, column], errors[:, column], float(wanted[column]))
    # its KL: the closed form bounds the exact one, and the pool's own support comes near it
    assert (exact.kl <= best_of_n_kl(NS) + 1e-12).all() and exact.kl[-1] < best_of_n_kl(32) - 0.005
    np.testing.assert_allclose(support_kl(scores["proxy"], response_identity(pool), NS), exact.kl, rtol=0.01, atol=1e-9)
    whole = best_of_n_curve(scores["proxy"], scores["gold"], NS)
    np.testing.assert_allclose(whole[0].mean(0), exact.proxy.mean(0), atol=0.05)
    np.testing.assert_allclose(whole[1].mean(0), exact.gold.mean(0), atol=0.05)


def measured(world: LearnedWorld, proxy: Any, params: Params) -> tuple[Measurement, dict[str, float]]:
    """A policy measured 100 times over, on 40 random prompts each; and the exact value of every figure."""
    prompts = world.language.prompts()[np.random.default_rng(9).integers(16, size=SEEDS * ROWS)]
    options: Any = {"samples": SAMPLES, "max_tokens": 4, "proxy": proxy, "gold": world.gold}
    found = measure_policy(world.network, params, world.reference_params, prompts, jax.random.key(10), **options)
    law = world.law(params)
    log_ratio = np.log(law / world.reference)
    of_responses = {
        "kl": log_ratio,
        "k1": log_ratio,
        "k3": log_ratio,
        "length": world.language.responses().length,
        "proxy": world.proxy_scores[0],
        "gold": world.gold_scores,
    }
    return found, {name: float((law * values).sum(1).mean()) for name, values in of_responses.items()}


def repeated(found: Measurement, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Values of 100 measurements and their standard errors over prompts."""
    values = getattr(found, name) if hasattr(found, name) else getattr(found.summary, name)
    told = np.asarray(values, np.float64).reshape(SEEDS, ROWS)
    return told.mean(1), told.std(1, ddof=1) / np.sqrt(ROWS)


def standard_deviation(law: np.ndarray, values: np.ndarray) -> float:
    """Of the mean of `SAMPLES` responses to a random prompt: law and values [prompts, responses]."""
    mean = (law * values).sum(1)
    within = (law * (values - mean[:, None]) ** 2).sum(1)
    return float(np.sqrt(mean.var() + within.mean() / SAMPLES))


def test_measured_kl_and_scores_cover_the_enumerated_ones(world: LearnedWorld, proxy: Any, trained: Trained) -> None:
    near = next(params for step, params in trained.shown if trained.history.kl[step] > 0.4)
    found, exact = measured(world, proxy, near)
    assert 0.3 < exact["kl"] < 1.0
    for name, wanted in exact.items():
        covers(*repeated(found, name), wanted)
    law = world.law(near)
    spread = {"kl": world.token_kl(near), "k1": np.log(law / world.reference)}
    enumerated = {name: standard_deviation(law, values) for name, values in spread.items()}
    for name, wanted in enumerated.items():
        assert np.std(getattr(found.summary, name)) == pytest.approx(wanted, rel=0.05)
    assert enumerated["kl"] < enumerated["k1"]


def test_far_from_the_reference_only_the_exact_kl_can_be_trusted(
    world: LearnedWorld, proxy: Any, trained: Trained
) -> None:
    """k3 is unbiased there too, but its mean is made by responses that are hardly ever drawn."""
    found, exact = measured(world, proxy, trained.shown[-1][1])
    assert exact["kl"] > 3
    for name in ("kl", "k1", "proxy", "gold"):
        covers(*repeated(found, name), exact[name])
    assert coverage(*repeated(found, "k3"), exact["k3"]) < 0.85


def test_token_kl_of_all_responses_sums_to_the_kl_of_whole_ones(world: LearnedWorld, trained: Trained) -> None:
    for _, params in trained.shown[1::3]:
        law, start = world.law(params), world.reference
        summed = (law * world.token_kl(params)).sum(1)
        np.testing.assert_allclose(summed, kl_divergence(law, start), rtol=2e-3, atol=2e-5)


def test_ppo_reports_the_kl_and_the_proxy_score_of_its_policy(world: LearnedWorld, runs: list[Trained]) -> None:
    """PPO's own figures of every policy shown are draws about the enumerated ones, spread as enumeration says."""
    scores: dict[str, list[float]] = {"kl": [], "k1": [], "proxy": []}
    for step, params, history in ((*point, run.history) for run in runs for point in run.shown[1:]):
        law = world.law(params)
        values = {
            "kl": world.token_kl(params),
            "k1": np.log(law / world.reference),
            "proxy": world.proxy_scores[0],
        }
        for name, value in values.items():
            mean = (law * value).sum(1)
            error = np.sqrt((law * (value - mean[:, None]) ** 2).sum() / SAMPLES) / len(law)
            scores[name].append((getattr(history, name)[step] - mean.mean()) / error)
    for z in map(np.array, scores.values()):
        assert len(z) >= 160 and np.abs(z).max() < 4.5
        assert 0.9 < (np.abs(z) < 1.96).mean() <= 1 and 0.88 < z.std() < 1.12


def test_no_policy_on_the_way_beats_the_enumerated_optimum_and_ppo_comes_near_it(
    world: LearnedWorld, trained: Trained
) -> None:
    start = world.reference
    best = kl_optimum(start, world.proxy_scores[0], KL_COEF)

    def objective(law: np.ndarray) -> float:
        return float((expected(law, world.proxy_scores[0]) - KL_COEF * kl_divergence(law, start)).mean())

    reached = []
    for _, params in trained.shown:
        reached.append(objective(world.law(params)))
    top, bottom = objective(best), objective(start)
    assert max(reached) < top
    assert max(reached) > bottom + 0.5 * (top - bottom)
