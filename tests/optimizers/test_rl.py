"""The loop of policy gradient on a policy that is a table: what it must not change, and what must not change it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optimizers.tabular import (
    NETWORK,
    PROMPTS,
    TOKENS,
    hyper,
    program,
    reference,
    reward,
    token_reward,
    token_scores,
    value_start,
)

from synthetic_rm.errors import InputError
from synthetic_rm.networks import transformer
from synthetic_rm.optimizers.grpo import DR_GRPO, GRPO
from synthetic_rm.optimizers.measure_rl import Measurement, measure_policy
from synthetic_rm.optimizers.ppo import PPO
from synthetic_rm.optimizers.reinforce import RLOO
from synthetic_rm.optimizers.rl import Hyper, Method
from synthetic_rm.optimizers.rl_run import COLLAPSED, Course, Lane, LaneResult, optimize
from synthetic_rm.optimizers.rl_step import init_state, run_chunk
from synthetic_rm.rewards.neural import init_reward, neural_reward
from synthetic_rm.training.supervised import TokenRows
from synthetic_rm.types import Params, RewardModel, Shape

METHODS = (PPO, RLOO, GRPO, DR_GRPO)
COURSE = Course(spacing=0.3, kl_budget=50.0, max_steps=12, show_every=4)


class Run(NamedTuple):
    results: list[LaneResult]
    shown: list[list[tuple[int, Params]]]
    """of every lane: (updates, policy)"""


def lane(seed: int, method: Method = PPO, proxy: RewardModel | None = None, **changes: float) -> Lane:
    value = value_start(20 + seed) if method.has_value else None
    return Lane(proxy or reward(seed), value, jax.random.key(seed), hyper(**changes))


def run(lanes: list[Lane], method: Method = PPO, course: Course = COURSE, **options: Any) -> Run:
    shown: list[list[tuple[int, Params]]] = [[] for _ in lanes]
    sizes = {key: options.pop(key) for key in ("ptx_rows", "epochs") if key in options}
    made = program(method, **sizes)

    def on_point(index: int, step: int, params: Params) -> None:
        shown[index].append((step, jax.tree.map(np.asarray, params)))

    return Run(optimize(made, reference(), PROMPTS, lanes, course, on_point=on_point, **options), shown)


def assert_equal(ours: Any, theirs: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_the_first_rollout_is_the_references_and_its_first_update_has_ratio_one(method: Method) -> None:
    made = run([lane(0, method)], method)
    history = made.results[0].history
    for name in ("kl", "k1", "k2", "k3"):
        assert getattr(history, name)[0] == 0
    assert np.abs(history.first_ratio).max() < 1e-5
    assert history.kl[1:].min() > 0 and len(history.kl) == COURSE.max_steps
    assert made.shown[0][0][0] == 0
    assert_equal(made.shown[0][0][1], reference())


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_a_learning_rate_of_zero_changes_nothing(method: Method) -> None:
    made = run([lane(0, method, learning_rate=0.0, kl_coef=0.1)], method)
    assert_equal(made.results[0].params, reference())
    history = made.results[0].history
    assert (history.kl == 0).all() and (history.clip_fraction == 0).all()
    assert made.results[0].status == "max_steps"
    assert len(np.unique(history.proxy)) == COURSE.max_steps  # every iteration draws anew


def test_the_proxy_score_rises() -> None:
    for method in METHODS:
        history = run([lane(0, method)], method, COURSE._replace(max_steps=40)).results[0].history
        assert history.proxy[-5:].mean() > history.proxy[:5].mean() + 0.3


def test_gold_cannot_reach_the_policy() -> None:
    """Two golds, the same keys: the policies, proxy scores and KL are identical, and gold is not."""

    def measured(gold: RewardModel) -> tuple[list[LaneResult], list[Measurement]]:
        found = []

        def on_point(index: int, step: int, params: Params) -> None:
            key = jax.random.fold_in(jax.random.key(5), step)
            options: Any = {"samples": 8, "max_tokens": TOKENS, "proxy": reward(0), "gold": gold}
            found.append(measure_policy(NETWORK, params, reference(), PROMPTS, key, **options))

        return optimize(program(PPO), reference(), PROMPTS, [lane(0)], COURSE, on_point=on_point), found

    (ours, our_points), (theirs, their_points) = (measured(reward(seed)) for seed in (100, 101))
    assert_equal(ours[0].params, theirs[0].params)
    assert_equal(ours[0].history, theirs[0].history)
    assert len(our_points) >= 4
    for a, b in zip(our_points, their_points, strict=True):
        assert_equal((a.summary, a.proxy, a.first), (b.summary, b.proxy, b.first))
        assert (a.gold != b.gold).any()


def test_mapped_lanes_equal_looped_ones() -> None:
    """Three lanes, two at a time: the last group has an idle place."""
    lanes = [lane(seed, learning_rate=0.01 * (1 + seed)) for seed in range(3)]
    alone, mapped = run(lanes), run(lanes, width=2)
    for ours, theirs in zip(alone.results, mapped.results, strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), ours.params, theirs.params)
        np.testing.assert_allclose(ours.history.kl, theirs.history.kl, rtol=1e-3, atol=1e-5)
        assert ours.status == theirs.status
    assert [[s for s, _ in x] for x in alone.shown] == [[s for s, _ in x] for x in mapped.shown]


@pytest.mark.parametrize("broken", ["proxy", "step"])
def test_a_lane_that_is_not_finite_touches_no_neighbour(broken: str) -> None:
    sound = [lane(seed) for seed in range(3)]
    bad = list(sound)
    if broken == "proxy":
        scores = token_scores(1)
        scores[4, 1] = np.nan
        bad[1] = sound[1]._replace(proxy=token_reward(scores))
    else:
        bad[1] = lane(1, learning_rate=jnp.inf)
    before, after = run(sound, width=3), run(bad, width=3)
    assert [r.status for r in after.results] == ["max_steps", "nonfinite", "max_steps"]
    for i in (0, 2):
        assert_equal(before.results[i].params, after.results[i].params)
        assert_equal(before.results[i].history, after.results[i].history)
        assert_equal(before.shown[i], after.shown[i])
    assert np.isfinite(after.results[1].params["table"]).all()
    assert len(after.results[1].history.kl) < COURSE.max_steps


def test_a_collapsed_lane_is_ended_and_said() -> None:
    peaked = token_reward(50.0 * (np.arange(5) == 2)[:, None] * np.ones(6))
    result = run([lane(0, proxy=peaked, learning_rate=0.5)], course=Course(100.0, 1e4, 300, 10)).results[0]
    assert result.status == "collapsed" and result.history.entropy[-1] < COLLAPSED < result.history.entropy[0]
    assert len(result.history.kl) < 300


def test_a_sweep_of_numbers_compiles_once() -> None:
    course = COURSE._replace(max_steps=7, show_every=7)
    run([lane(0)], course=course)
    count = run_chunk._cache_size()
    numbers = Hyper(0.03, 0.01, 0.2, 1.0, 0.1, 0.5, 0.9, 0.99, 0.0, 4.0, 0.7)
    run([lane(1)._replace(hyper=numbers), lane(2)._replace(hyper=numbers._replace(clip=0.3))], course=course)
    run([lane(3, kl_coef=0.3)], course=course._replace(spacing=0.1, kl_budget=1.0))
    assert run_chunk._cache_size() == count


def test_lanes_are_shown_wherever_they_pass_another_multiple_of_the_spacing() -> None:
    course = Course(spacing=0.2, kl_budget=1.0, max_steps=200, show_every=200)
    made = run([lane(0, RLOO)], RLOO, course)
    result, distance = made.results[0], np.sqrt(made.results[0].history.kl)
    assert result.status == "kl_budget"
    assert result.history.kl[-1] >= course.kl_budget and (result.history.kl[:-1] < course.kl_budget).all()
    expected, passed = [0], 0
    for step, d in enumerate(distance):
        if d >= 0.2 * (passed + 1) - 1e-6:
            expected.append(step)
            passed = int(d / 0.2 + 1e-6)
    assert [step for step, _ in made.shown[0]] == expected
    assert len(expected) >= 5
    assert_equal(made.shown[0][-1][1], result.params)


def test_a_lane_that_gets_nowhere_is_shown_all_the_same() -> None:
    made = run([lane(0, learning_rate=0.0)])
    assert [step for step, _ in made.shown[0]] == [0, 3, 7, 11]


def test_how_often_a_lane_is_shown_changes_nothing_else() -> None:
    often, rarely = (run([lane(0)], course=COURSE._replace(show_every=n)) for n in (1, 12))
    np.testing.assert_allclose(often.results[0].history.kl, rarely.results[0].history.kl, rtol=1e-4, atol=1e-7)


def test_a_step_too_far_is_undone_and_taken_again_at_half_the_rate() -> None:
    wild, limit = COURSE._replace(max_steps=30), 0.3
    free, held = (
        run([lane(0, learning_rate=0.4, max_jump=jump)], course=wild).results[0].history for jump in (np.inf, limit)
    )
    assert np.diff(np.sqrt(free.kl)).max() > limit and (free.undone == 0).all() and (free.rate == 1).all()
    assert held.undone.sum() >= 1
    np.testing.assert_array_equal(held.rate, 0.5 ** np.concatenate([[0], held.undone.cumsum()[:-1]]))
    distance = np.sqrt(held.kl)
    for step in np.flatnonzero(held.undone):
        assert distance[step] - distance[step - 1] > limit
        assert abs(distance[step + 1] - distance[step - 1]) < 0.15  # the same policy, drawn from anew


def test_the_adaptive_coefficient_steers_to_its_target() -> None:
    course = COURSE._replace(max_steps=300, show_every=4)
    fixed, steered = (
        run([lane(0, RLOO, kl_coef=0.05, kl_target=target)], RLOO, course).results[0].history for target in (0.0, 0.3)
    )
    assert (fixed.kl_coef == np.float32(0.05)).all() and fixed.kl[-100:].mean() > 0.6
    assert steered.kl_coef.max() > 0.2
    assert steered.kl[-100:].mean() == pytest.approx(0.3, abs=0.1)


def test_the_language_model_term_pulls_to_its_text() -> None:
    rows = TokenRows(jnp.array([[1, 4, 2]] * 3), jnp.array([[0.0, 1.0, 1.0]] * 3))
    flat = reward(0, scale=0.0)
    moved, still = (
        run([lane(0, RLOO, flat, ptx_coef=c)], RLOO, COURSE._replace(max_steps=40), ptx=rows, ptx_rows=2).results[0]
        for c in (1.0, 0.0)
    )
    assert_equal(still.params, reference())
    said = jax.nn.softmax(moved.params["table"][0])
    start = jax.nn.softmax(reference()["table"][0])
    assert said[0, 4] > start[0, 4] + 0.1 and said[5, 2] > start[5, 2] + 0.1


def test_the_value_function_learns_what_will_come() -> None:
    """The first token decides the score: once it is said, the value is certain."""
    decided = token_reward(np.broadcast_to([[-1.0], [1.0], [2.0], [-2.0], [3.0]], (5, 6)))
    lanes = [lane(0, proxy=decided, learning_rate=0.0, value_learning_rate=rate) for rate in (0.05, 0.0)]
    learnt, not_learnt = (
        r.history.explained_variance for r in run(lanes, course=COURSE._replace(max_steps=80)).results
    )
    assert learnt[-5:].mean() > 0.35 > 0.0 > not_learnt.mean()


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_without_a_value_function_its_explained_variance_is_no_number(method: Method) -> None:
    history = run([lane(0, method)], method, COURSE._replace(max_steps=2)).results[0].history
    assert (np.isfinite(history.explained_variance) == method.has_value).all()
    assert (history.value_loss != 0).all() if method.has_value else (history.value_loss == 0).all()


def test_warm_up_begins_at_its_share_of_the_rate() -> None:
    """Adam's first updates are in proportion to the rate, which is so small here that they add up."""
    course = COURSE._replace(max_steps=2)
    whole, quarter = (
        run([lane(0, RLOO, learning_rate=1e-5, warmup=warmup)], RLOO, course).results[0].params["table"] - start
        for start in (reference()["table"],)
        for warmup in (0.0, 4.0)
    )
    assert np.abs(whole).max() > 1e-6
    np.testing.assert_allclose(4 * quarter, whole, atol=0.05 * np.abs(whole).max())


def test_the_state_is_given_away_to_a_chunk() -> None:
    """Its buffers become those of the next state: a run holds one state and not two."""
    made, one = program(RLOO), lane(0, RLOO)
    state, numbers, proxies = jax.tree.map(
        lambda x: jnp.asarray(x)[None], (init_state(reference(), None, one.key, 0.0), one.hyper, one.proxy)
    )
    limits = (jnp.ones(1, bool), jnp.full(1, jnp.inf), jnp.int32(1))
    run_chunk(state, numbers, proxies, *limits, reference(), jnp.asarray(PROMPTS), None, program=made, size=1)
    assert all(x.is_deleted() for x in jax.tree.leaves(state))


def test_a_proxy_of_another_vocabulary_is_refused_on_one_line() -> None:
    network = transformer(Shape(vocab=7, width=4, layers=1, heads=1, hidden=4))
    other = neural_reward(network, init_reward(network, jax.random.key(0)))
    with pytest.raises(InputError, match="vocabulary 7: the policy's is 5") as caught:
        run([lane(0, proxy=other)])
    assert "\n" not in str(caught.value)


def test_too_few_prompts_are_refused_on_one_line() -> None:
    made = program(PPO, prompts=13)
    with pytest.raises(InputError, match=r"rl\.prompts=13: allowed is up to the 12"):
        optimize(made, reference(), PROMPTS, [lane(0)], COURSE, on_point=lambda *_: None)
