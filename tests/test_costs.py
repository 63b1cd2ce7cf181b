"""What a run costs, against the programs it is made of; what does not fit is refused; what points share counts once."""

from pathlib import Path

import jax
import numpy as np
import pytest
from programs import drawing, optimizing, reward_training, text_training
from scripts import load_script

from synthetic_rm.capacity import check_memory, costs_of, stages_of
from synthetic_rm.cost_stages import Machine, Stage
from synthetic_rm.costs import Costs
from synthetic_rm.errors import InputError
from synthetic_rm.experiments import checker
from synthetic_rm.ladder import shape_for_budget
from synthetic_rm.settings import Settings, points_of, varied
from synthetic_rm.types import Shape

RL = "RL against proxies 80,000"
LARGE = Machine(memory=10**11)
PLAIN = varied(Settings(), {"proxy.sizes": [80_000], "proxy.seeds": 2, "rl.proxy_seeds": 1, "runtime.mesh": None})


def costs(machine: Machine = LARGE, **changes: object) -> Costs:
    """Keys with __ for the dot."""
    settings = varied(PLAIN, {key.replace("__", "."): value for key, value in changes.items()})
    return costs_of(settings, machine)


def stage(name: str, machine: Machine = LARGE, **changes: object) -> Stage:
    (found,) = (stage for stage in costs(machine, **changes).stages() if stage.name == name)
    return found


def shape(size: int) -> Shape:
    return shape_for_budget(size, 1_024)


def near(counted: int, programs: int) -> bool:
    """What the formula leaves out on purpose (rotary turn, running sums, heads) is a few percent."""
    return 0.97 < programs / counted < 1.15


def test_operations_of_proxies_are_those_of_their_programs() -> None:
    longer, once = stage("proxies 80,000", proxy__epochs=2.0), stage("proxies 80,000")
    steps = 27_000 // 64
    batches = (longer.flops - once.flops) / (2 * steps)
    assert near(int(batches), reward_training(shape(80_000), 64, 5, 27).products())


def test_operations_of_language_models_are_those_of_their_programs() -> None:
    build = {"environment__release": None, "environment__build__backbone_sizes": [80_000]}
    more = stage("language model 80,000", **build, environment__build__backbone_steps=1_100)
    batches = (more.flops - stage("language model 80,000", **build).flops) / 100
    assert near(int(batches), text_training(shape(80_000), 96, 32).products())


def test_operations_of_the_pool_are_those_of_its_program() -> None:
    pool = stage("pool", best_of_n__prompts=8, best_of_n__samples=32)
    assert near(pool.flops, drawing(shape(166_000), 8, 32, 5, 27).products())


def test_operations_of_an_iteration_of_rl_are_those_of_its_program() -> None:
    sizes = {"prompts": 8, "samples": 4, "minibatches": 4}
    changes = {f"rl__{key}": value for key, value in sizes.items()} | {"rl__measure_every": 10_000, "rl__spacing": 2.0}
    more, fewer = (stage(RL, **changes, rl__max_steps=steps).flops for steps in (200, 100))
    program = optimizing(shape(166_000), shape(80_000), {**sizes, "max_tokens": 27}, 5)
    assert near((more - fewer) // 100, program.products())


def test_a_run_that_does_not_fit_is_refused_with_its_numbers_and_one_that_fits_is_not() -> None:
    settings = varied(PLAIN, {"environment.release": None, "environment.build.gold_size": 6_000_000_000})
    with pytest.raises(InputError) as refused:
        check_memory(settings, Machine(memory=80 * 10**9, batch=8))
    told = str(refused.value)
    assert told.startswith("runtime.memory_gb=80: language model 6,") and "\n" not in told
    for part in ("parameters 24.5", "moments 49", "gradients 73.4", "into the 72 of a device", "runtime.mesh"):
        assert part in told, told
    check_memory(settings, Machine(memory=80 * 10**9, model=8))
    check_memory(PLAIN, Machine(memory=16 * 10**9, programs=2, rows=32))


def test_this_machine_is_asked_where_the_settings_say_nothing() -> None:
    check_memory(PLAIN)
    with pytest.raises(InputError, match=r"runtime.memory_gb=0.01: comparisons: .* do not fit"):
        check_memory(varied(PLAIN, {"runtime.memory_gb": 0.01}))
    wrong = [3, jax.device_count()]
    with pytest.raises(InputError, match=rf"runtime.mesh=\[3, {wrong[1]}\]: allowed"):
        check_memory(varied(PLAIN, {"runtime.mesh": wrong}))


def test_rows_at_once_shrink_with_memory_until_what_does_not_shrink_is_all() -> None:
    seen = []
    for memory in np.geomspace(5 * 10**6, 10**10, 13):
        found = stage("proxies 80,000", Machine(int(memory)), comparisons__num=3_000)
        seen.append(found.rows)
        assert found.rows % 2 == 0 and 64 * 2 % found.rows == 0
        if found.rows > 2:
            assert found.resident + found.memory.total <= 0.9 * memory
    assert seen == sorted(seen) and seen[0] == 2 and seen[-1] == 128 and len(set(seen)) > 3


def test_devices_that_share_batches_or_parameters_need_less_each() -> None:
    alone, batch, model = (stage(RL, machine) for machine in (LARGE, LARGE._replace(batch=4), LARGE._replace(model=4)))
    assert batch.memory.activations * 4 == alone.memory.activations and batch.memory.moments == alone.memory.moments
    assert model.memory.moments * 4 == alone.memory.moments and model.memory.activations == alone.memory.activations
    assert alone.flops == batch.flops == model.flops


def test_rl_runs_side_by_side_as_memory_allows() -> None:
    """As many sizes and lanes as processors, one size after another where they do not all fit, at last one lane."""
    many = {"proxy__sizes": [2_000, 9_000, 80_000], "proxy__seeds": 8, "rl__proxy_seeds": 8}
    seen = []
    for memory in np.geomspace(10**8, 10**10, 9):
        found = costs(Machine(int(memory), programs=4), **many)
        taken = {s.memory.total + s.resident for s in found.stages() if s.name.startswith("RL")}
        seen.append(found.rl_at_once)
        if seen[-1] != (1, 1):
            assert max(taken) <= found.usable
        if seen[-1][0] == len(found.settings.proxy.sizes):
            assert len(taken) == 1  # all of them together, whichever is asked
    assert seen == sorted(seen) and seen[0] == (1, 1) and seen[-1] == (3, 4) and (1, 4) in seen


def test_presets_fit_the_machines_they_are_for() -> None:
    """A laptop of 2 GB, one accelerator of 80 GB with a quarter left free by the driver, beside 16 processors."""
    laptop, card = Machine(2 * 10**9, programs=16, rows=32), Machine(60 * 10**9, programs=16)
    check_memory(Settings(), laptop)
    script = load_script("cost")
    check_memory(script.composed(["scale=smoke"]), laptop)
    check_memory(script.composed(["scale=gpu"]), card)
    check_memory(script.composed(["scale=pod"]), Machine(76 * 10**9, model=8))


def test_a_grid_for_a_cluster_is_checked_where_there_are_no_devices(tmp_path: Path) -> None:
    """On a login node: everything but what is for the hosts to tell."""
    words = ["scale=pod", f"output={tmp_path / 'o'}", f"store={tmp_path / 's'}"]
    settings = load_script("cost").composed(words)
    checker(here=False)(settings)
    with pytest.raises(InputError, match=r"runtime\.mesh=\[1, 8\]"):
        checker()(settings)


def test_what_the_points_of_a_study_share_counts_once() -> None:
    points = [{"comparisons.noise": 0.0}, {"comparisons.noise": 0.1}, {"rl.kl_coef": 0.1}]
    every = [costs_of(point, LARGE) for point in points_of(varied(PLAIN, {"study": points}))]
    names = [stage.name for stage in stages_of(every)]
    times = {name: names.count(name) for name in names}
    assert times.pop("pool") == times.pop("gold score the pool") == 1
    assert times.pop("RL against proxies 80,000") == 3
    assert set(times.values()) == {2} and len(times) == 3


def test_hours_are_operations_over_the_rate() -> None:
    pool = stage("pool")
    assert pool.hours(pool.flops / 3600) == pytest.approx(1.0)
