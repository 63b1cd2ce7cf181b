"""The training loop against Adam written out in float64, and what must not change its result."""

from collections import Counter
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synthetic_rm.errors import InputError
from synthetic_rm.training.loop import TrainResult, batch_plan, learning_rate_at, train
from synthetic_rm.types import Array, Params

ROWS, FEATURES, BATCH, STEPS, SEEDS = 24, 3, 4, 22, 3
Data = dict[str, Array]


def squared_error(params: Params, data: Data, rows: Array) -> tuple[Array, Array]:
    """Least squares; a row whose flag is 0 has a finite loss and a gradient that is not."""
    error = data["x"][rows] @ params["w"] + params["b"] - data["y"][rows]
    size = jnp.sqrt(data["flag"][rows] * jnp.sum(params["w"] ** 2))
    return jnp.sum(error**2) + 0.1 * jnp.sum(size), jnp.float32(len(rows))


def slope_until_a_wall(params: Params, data: Data, rows: Array) -> tuple[Array, Array]:
    """-w, and nan beyond the wall."""
    return (jnp.where(params["w"] > data["wall"], jnp.nan, -params["w"]) + 0.0 * rows[0]), jnp.float32(1.0)


@pytest.fixture(scope="module")
def data() -> Data:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, FEATURES))
    y = x @ rng.normal(size=FEATURES) * 2 + 0.3
    return {"x": jnp.float32(x), "y": jnp.float32(y), "flag": jnp.ones(ROWS)}


@pytest.fixture(scope="module")
def start() -> Params:
    rng = np.random.default_rng(1)
    return {"w": jnp.float32(rng.normal(size=(SEEDS, FEATURES))), "b": jnp.float32(rng.normal(size=SEEDS))}


@pytest.fixture(scope="module")
def plan() -> np.ndarray:
    """[SEEDS, STEPS, BATCH]; rows 0 and 1 are never used."""
    return np.stack([2 + batch_plan(np.random.default_rng(s), ROWS - 2, BATCH, STEPS) for s in range(SEEDS)])


run = partial(train, squared_error)
PEAK = 0.1


@pytest.fixture(scope="module")
def plain(start: Params, data: Data, plan: np.ndarray) -> TrainResult:
    return run(start, data, plan, PEAK, width=SEEDS)


def one(params: Params, seed: int) -> list[np.ndarray]:
    return [np.asarray(x[seed]) for x in jax.tree.leaves(params)]


def assert_same(ours: Params, theirs: Params) -> None:
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def assert_near(ours: TrainResult, theirs: TrainResult) -> None:
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), ours.params, theirs.params)
    np.testing.assert_allclose(ours.losses, theirs.losses, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(ours.finite, theirs.finite)


def rate_at(step: int, steps: int, peak: float) -> float:
    warm = max(1.0, 0.05 * steps)
    progress = min(max((step - warm) / max(1.0, steps - warm), 0), 1)
    return peak * min((step + 1) / warm, 1) * (0.55 + 0.45 * np.cos(np.pi * progress))


def adam(start: Params, data: Data, plan: np.ndarray, peak: float, stop: int) -> tuple[np.ndarray, list[float]]:
    """The first `stop` steps of one seed in float64: clip to norm 1, then Adam. Parameters (w..., b), losses, norms."""
    x, y = np.asarray(data["x"], np.float64), np.asarray(data["y"], np.float64)
    theta = np.append(np.asarray(start["w"], np.float64), float(start["b"]))
    first, second, losses = np.zeros_like(theta), np.zeros_like(theta), []
    for step, rows in enumerate(plan[:stop]):
        design = np.column_stack([x[rows], np.ones(len(rows))])
        error = design @ theta - y[rows]
        norm = np.linalg.norm(theta[:-1])
        losses.append(np.mean(error**2) + 0.1 * norm)
        gradient = 2 * design.T @ error / len(rows) + 0.1 * np.append(theta[:-1], 0) / norm
        gradient /= max(1.0, np.linalg.norm(gradient))
        first, second = 0.9 * first + 0.1 * gradient, 0.98 * second + 0.02 * gradient**2
        update = first / (1 - 0.9 ** (step + 1)) / (np.sqrt(second / (1 - 0.98 ** (step + 1))) + 1e-8)
        theta = theta - rate_at(step, len(plan), peak) * update
    return theta, losses


def test_every_seed_follows_adam(plain: TrainResult, start: Params, data: Data, plan: np.ndarray) -> None:
    for seed in range(SEEDS):
        theta, losses = adam(jax.tree.map(lambda x, s=seed: x[s], start), data, plan[seed], PEAK, STEPS)
        np.testing.assert_allclose(plain.params["w"][seed], theta[:-1], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(plain.params["b"][seed], theta[-1], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(plain.losses[seed], losses, rtol=1e-3, atol=1e-4)
    assert plain.finite.all()
    assert plain.losses[:, -5:].mean() < 0.8 * plain.losses[:, :5].mean()


def test_a_learning_rate_of_zero_changes_nothing(start: Params, data: Data, plan: np.ndarray) -> None:
    result = run(start, data, plan, 0.0)
    assert_same(result.params, start)  # and the caller's own arrays were not given away
    assert result.finite.all() and result.losses.shape == (SEEDS, STEPS)


@pytest.mark.parametrize("width", [1, 2, 50])
def test_mapped_seeds_equal_looped_ones(
    width: int, plain: TrainResult, start: Params, data: Data, plan: np.ndarray
) -> None:
    assert_near(run(start, data, plan, PEAK, width=width), plain)


@pytest.mark.parametrize(("at_once", "parts"), [(1, 4), (2, 2), (3, 2), (4, 1), (9, 1)])
def test_a_batch_in_parts_is_learned_from_as_whole(
    at_once: int, parts: int, plain: TrainResult, start: Params, data: Data, plan: np.ndarray
) -> None:
    """Also where the parts weigh unequally: rows without a flag do not count."""
    seen = []

    def counted(params: Params, of: Data, rows: Array) -> tuple[Array, Array]:
        seen.append(len(rows))
        return squared_error(params, of, rows)

    def flagged(params: Params, of: Data, rows: Array) -> tuple[Array, Array]:
        error = of["x"][rows] @ params["w"] + params["b"] - of["y"][rows]
        return jnp.sum(of["flag"][rows] * error**2), of["flag"][rows].sum()

    result, again = (train(counted, start, data, plan, PEAK, width=SEEDS, at_once=at_once) for _ in range(2))
    assert set(seen) == {BATCH // parts}
    assert_near(result, plain)
    assert_same(result.params, again.params)
    uneven = {**data, "flag": jnp.float32(np.arange(ROWS) % 3 == 0)}
    whole, split = (train(flagged, start, uneven, plan, PEAK, width=SEEDS, at_once=rows) for rows in (None, at_once))
    assert_near(split, whole)


def test_a_sweep_over_learning_rates_is_traced_once(start: Params, data: Data, plan: np.ndarray) -> None:
    """Also when seeds start side by side, and whatever the seeds, the plan and the rates."""
    traces = []

    def counted(params: Params, rows_of: Data, rows: Array) -> tuple[Array, Array]:
        traces.append(1)
        return squared_error(params, rows_of, rows)

    def go(rates: float | np.ndarray, plan: np.ndarray = plan) -> TrainResult:
        return train(counted, start, data, plan, rates, width=1, chunk=STEPS)

    alone, swept = go(0.3), go(np.array([0.02, 0.0, 0.3]))
    go(0.5, plan[::-1])
    assert len(traces) == 1
    for swept_leaf, wanted in zip(
        one(swept.params, 1) + one(swept.params, 2), one(start, 1) + one(alone.params, 2), strict=True
    ):
        np.testing.assert_array_equal(swept_leaf, wanted)


@pytest.mark.parametrize("chunk", [1, 3, 4, 21])
def test_returns_to_the_host_and_the_steps_that_pad_a_chunk_change_nothing(
    chunk: int, plain: TrainResult, start: Params, data: Data, plan: np.ndarray
) -> None:
    calls: list[tuple[range, int, np.ndarray]] = []
    result = run(start, data, plan, PEAK, width=SEEDS, chunk=chunk, on_chunk=lambda *seen: calls.append(seen))
    assert_near(result, plain)
    steps = [step for _, step, _ in calls]
    assert steps == sorted(set(steps)) and steps[-1] == STEPS and len(steps) >= STEPS / chunk
    np.testing.assert_array_equal(np.concatenate([losses for _, _, losses in calls], axis=1), result.losses)
    assert [losses.shape[1] for _, _, losses in calls] == np.diff([0, *steps]).tolist()


def test_every_chunk_says_which_seeds_it_is_of(start: Params, data: Data, plan: np.ndarray) -> None:
    losses: dict[int, list[np.ndarray]] = {seed: [] for seed in range(SEEDS)}

    def hear(members: range, step: int, part: np.ndarray) -> None:
        for member, own in zip(members, part, strict=True):
            losses[member].append(own)

    result = run(start, data, plan, PEAK, width=2, chunk=8, on_chunk=hear)
    for seed in range(SEEDS):
        np.testing.assert_array_equal(np.concatenate(losses[seed]), result.losses[seed])


@pytest.mark.parametrize("field", ["y", "flag"])
@pytest.mark.parametrize("step", [0, 9, STEPS - 1])
def test_a_seed_that_meets_a_value_that_is_not_finite_stops_there_alone(
    field: str, step: int, plain: TrainResult, start: Params, data: Data, plan: np.ndarray
) -> None:
    """A row read by one seed at one step makes its loss (y) or only its gradient (flag) nan."""
    bad = data[field].at[0].set(jnp.nan if field == "y" else 0.0)
    poisoned = plan.copy()
    poisoned[1, step, 0] = 0
    result = run(start, {**data, field: bad}, poisoned, PEAK, width=SEEDS)
    assert result.finite.tolist() == [True, False, True]
    for seed in (0, 2):
        for ours, theirs in zip(one(result.params, seed), one(plain.params, seed), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_array_equal(result.losses[seed], plain.losses[seed])
    kept = adam(jax.tree.map(lambda x: x[1], start), data, plan[1], PEAK, step)[0]
    np.testing.assert_allclose(result.params["w"][1], kept[:-1], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(result.params["b"][1], kept[-1], rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(result.losses[1, :step], plain.losses[1, :step])


@pytest.mark.parametrize("steps", [1, STEPS])
def test_an_update_that_is_not_finite_is_not_taken(steps: int, start: Params, data: Data, plan: np.ndarray) -> None:
    """Loss and gradient are finite and the step is not, at the very last step as well."""
    rates = np.array([PEAK, np.inf, PEAK])
    result = run(start, data, plan[:, :steps], rates, width=SEEDS)
    clean = run(start, data, plan[:, :steps], PEAK, width=SEEDS)
    assert result.finite.tolist() == [True, False, True]
    for ours, theirs in zip(one(result.params, 1), one(start, 1), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for seed in (0, 2):
        for ours, theirs in zip(one(result.params, seed), one(clean.params, seed), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_steps_that_pad_a_chunk_stop_no_seed() -> None:
    """The last real update crosses a wall behind which the loss is nan: only a step too many would see it."""
    steps, peak = 7, 1.0
    rates = [rate_at(t, steps, peak) for t in range(steps)]
    wall = jnp.float32(sum(rates[:-1]) + 0.5 * rates[-1])
    plan = np.zeros((1, steps, 1), np.int32)
    for chunk in (steps, 4):  # the second is padded to 8 steps
        result = train(slope_until_a_wall, {"w": jnp.zeros(1)}, {"wall": wall}, plan, peak, chunk=chunk)
        assert result.finite.tolist() == [True]
        assert float(result.params["w"][0]) == pytest.approx(sum(rates), rel=1e-4)
        assert np.isfinite(result.losses).all()
    further = np.zeros((1, 2 * steps, 1), np.int32)
    stopped = train(slope_until_a_wall, {"w": jnp.zeros(1)}, {"wall": wall}, further, peak)
    assert stopped.finite.tolist() == [False] and np.isfinite(float(stopped.params["w"][0]))


@pytest.mark.parametrize(("rows", "batch", "steps"), [(10, 3, 17), (5, 8, 4), (7, 7, 1), (12, 4, 3)])
def test_a_plan_is_made_of_whole_passes_over_the_data(rows: int, batch: int, steps: int) -> None:
    plan = batch_plan(np.random.default_rng(0), rows, batch, steps)
    assert plan.shape == (steps, batch) and plan.dtype == np.int32
    flat = plan.ravel()
    for at in range(0, len(flat) - rows + 1, rows):
        assert sorted(flat[at : at + rows]) == list(range(rows))
    counts = Counter(flat.tolist())
    assert max(counts.values()) - min(counts[row] for row in range(rows)) <= 1
    np.testing.assert_array_equal(plan, batch_plan(np.random.default_rng(0), rows, batch, steps))
    assert (plan != batch_plan(np.random.default_rng(1), rows, batch, steps)).any()


def test_the_learning_rate_warms_up_and_falls_along_a_cosine() -> None:
    steps, peak = 200.0, 0.3
    rate = np.asarray(jax.jit(learning_rate_at)(jnp.arange(201.0), steps, jnp.full(201, peak)))
    np.testing.assert_allclose(rate[:10], peak * np.arange(1, 11) / 10, rtol=1e-5)
    assert rate.argmax() in (9, 10) and rate.max() == pytest.approx(peak)
    assert np.all(np.diff(rate[10:]) < 0)
    assert rate[105] == pytest.approx(0.55 * peak, rel=1e-4)  # half-way down
    assert rate[200] == pytest.approx(0.1 * peak, rel=1e-4)
    assert float(learning_rate_at(jnp.float32(0), jnp.float32(1), jnp.float32(peak))) == pytest.approx(peak)


def test_no_steps_are_refused_by_name(start: Params, data: Data, plan: np.ndarray) -> None:
    with pytest.raises(InputError, match="steps=0"):
        run(start, data, plan[:, :0], PEAK)
    with pytest.raises(InputError, match="seeds=0"):
        run(start, data, plan[:0], PEAK)
    for batch, steps, named in ((4, 0, "steps=0"), (0, 3, "batch=0")):
        with pytest.raises(InputError, match=named):
            batch_plan(np.random.default_rng(0), ROWS, batch, steps)
