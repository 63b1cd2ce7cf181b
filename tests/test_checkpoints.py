"""A loop finds again what it left, byte for byte; damage falls back and is told; another configuration is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synthetic_rm import checkpoints as module
from synthetic_rm import snapshots
from synthetic_rm.checkpoints import Checkpoints
from synthetic_rm.errors import InputError

IDENTITY = {"stage": "proxy", "version": 1, "key": "a1" * 32}


class State(NamedTuple):
    weights: Any
    moments: Any
    key: Any
    step: Any
    nothing: Any = None


def state_at(step: int) -> State:
    rng = np.random.default_rng(step)
    values = rng.normal(size=(3, 4)).astype(np.float32)
    half = {"a.b/c": jnp.asarray(values, jnp.bfloat16), "alive": jnp.asarray([True, False])}
    moments = (jnp.asarray(values[0] * np.float32(1e-40)), np.float64(rng.normal()) + np.zeros(()))
    return State({"w": values, "half": half}, moments, jax.random.split(jax.random.key(step), 2), jnp.int32(step))


def raw(tree: Any) -> list[tuple[Any, Any, bytes]]:
    def data(x: Any) -> np.ndarray:
        return np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)

    return [(data(x).shape, data(x).dtype, data(x).tobytes()) for x in jax.tree.leaves(tree)]


def opened(folder: Path, every: float | None = 0.0, say: Callable[[str], None] | None = None) -> Checkpoints:
    return Checkpoints(folder, IDENTITY, every, say or pytest.fail)


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three snapshots of a loop were written, two are there."""
    folder = tmp_path_factory.mktemp("left") / "key.progress"
    loop = opened(folder).loop("seeds-0")
    for step in (10, 20, 30):
        loop.save(step, state_at(step), {"losses": np.arange(step, dtype=np.float32)})
    assert sorted(path.name for path in (folder / "seeds-0").iterdir()) == ["000001", "000002"]
    return folder


@pytest.fixture
def folder(left: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(left, tmp_path / "key.progress"))


def test_what_was_saved_last_is_found_byte_for_byte(left: Path) -> None:
    told: list[str] = []
    found = opened(left, say=told.append).loop("seeds-0").restore(state_at(0))
    assert found is not None and found.step == 30 and told == ["seeds-0 of proxy a1a1a1a1 goes on from step 30"]
    assert jax.tree.structure(found.state) == jax.tree.structure(state_at(30))
    assert raw(found.state) == raw(state_at(30)) and raw(found.arrays) == raw({"losses": np.arange(30.0, dtype="f4")})
    draws = [jax.random.normal(key, (3,)) for key in (found.state.key[1], state_at(30).key[1])]
    np.testing.assert_array_equal(*draws)
    assert opened(left).loop("seeds-1").restore(state_at(0)) is None


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


def largest(path: Path) -> Path:
    return max((file for file in path.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)


def edit(path: Path, **changes: Any) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | changes))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a bit of the arrays": lambda path: flip(largest(path / "state")),
    "cut arrays": lambda path: largest(path / "state").write_bytes(b"half"),
    "missing arrays": lambda path: largest(path / "state").unlink(),
    "nothing but a manifest": lambda path: shutil.rmtree(path / "state"),
    "a step that was not written": lambda path: edit(path, step=31),
    "another key, not sealed": lambda path: edit(path, key="b2" * 32),
    "cut manifest": lambda path: (path / "manifest.json").write_text('{"key": "a1'),
    "manifest of another kind": lambda path: (path / "manifest.json").write_text("[1]"),
    "missing manifest": lambda path: (path / "manifest.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_falls_back_to_the_one_before(folder: Path, damage: str) -> None:
    DAMAGE[damage](folder / "seeds-0" / "000002")
    told: list[str] = []
    loop = opened(folder, say=told.append).loop("seeds-0")
    found = loop.restore(state_at(0))
    assert found is not None and found.step == 20 and raw(found.state) == raw(state_at(20))
    damaged = "checkpoint 000002 of seeds-0 of proxy a1a1a1a1 is damaged and not used: "
    assert len(told) == 2 and told[0].startswith(damaged)
    loop.save(40, state_at(40))  # what is good stays beside what is new
    assert sorted(path.name for path in (folder / "seeds-0").iterdir()) == ["000001", "000003"]


def test_that_nothing_can_be_read_is_told(folder: Path) -> None:
    for number in ("000001", "000002"):
        flip(largest(folder / "seeds-0" / number / "state"))
    told: list[str] = []
    assert opened(folder, say=told.append).loop("seeds-0").restore(state_at(0)) is None
    assert len(told) == 3 and told[-1] == "no checkpoint of seeds-0 of proxy a1a1a1a1 can be read: it starts anew"


def test_work_of_another_configuration_is_refused(folder: Path, tmp_path: Path) -> None:
    other = IDENTITY | {"key": "b2" * 32}
    with pytest.raises(InputError, match=r"holds the work of key a1a1.*expected b2b2.*; remove") as error:
        Checkpoints(folder, other)
    assert str(folder) in str(error.value) and "\n" not in str(error.value)
    moved = tmp_path / "moved.progress"
    shutil.copytree(folder / "seeds-0", moved / "seeds-0")  # under a roof that does not say whose it is
    with pytest.raises(InputError, match=r"000002 is a checkpoint of key a1a1.*, expected b2b2.*; remove"):
        Checkpoints(moved, other).loop("seeds-0").restore(state_at(0))
    for like, named in (
        (state_at(0)._replace(step=jnp.zeros(2, jnp.int32)), r"step \[\[\], 'int32'\], expected \[\[2\], 'int32'\]"),
        (state_at(0)._replace(nothing=jnp.zeros(2)), r"nothing None, expected \[\[2\], 'float32'\]"),
        (state_at(0)._replace(moments=()), r"moments.0 \[\[4\], 'float32'\], expected None"),
    ):
        with pytest.raises(InputError, match=named):
            opened(folder).loop("seeds-0").restore(like)
    assert opened(folder, say=lambda line: None).loop("seeds-0").restore(state_at(0)) is not None  # nothing was touched


class Clock:
    now: float = 0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, float]]:
    """(loop, step, seconds) of every snapshot that would be written."""
    found: list[tuple[str, int, float]] = []
    write = lambda path, snapshot, key, seconds: found.append((path.parent.name, snapshot.step, seconds))  # noqa: E731
    monkeypatch.setattr(module, "write_snapshot", write)
    return found


def test_every_loop_writes_once_in_so_many_seconds(
    tmp_path: Path, clock: Clock, written: list[tuple[str, int, float]]
) -> None:
    checkpoints = opened(tmp_path / "p", every=60)
    one, two = checkpoints.loop("one"), checkpoints.loop("two")
    for clock.now in range(200):
        one.save(int(clock.now), {})
        if clock.now % 7 == 0:
            two.save(int(clock.now), {})
    of = {name: [step for loop, step, _ in written if loop == name] for name in ("one", "two")}
    assert of == {"one": [60, 120, 180], "two": [63, 126, 182]}
    assert all(seconds == step for _, step, seconds in written)


def test_checkpoints_that_take_long_are_far_apart(
    tmp_path: Path, clock: Clock, written: list[tuple[str, int, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two seconds in a hundred, whatever is asked for."""
    note = module.write_snapshot

    def slow(*args: Any) -> None:
        note(*args)
        clock.now += 2

    monkeypatch.setattr(module, "write_snapshot", slow)
    loop = opened(tmp_path / "p", every=10).loop("one")
    while clock.now < 1000:
        clock.now += 1
        loop.save(int(clock.now), {})
    steps = [step for _, step, _ in written]
    assert steps[0] == 10 and set(np.diff(steps)) <= {100, 101, 102} and 2 * len(steps) <= 0.02 * 1000 + 2


def test_an_ended_loop_is_written_with_the_next_and_where_a_stage_fails(
    tmp_path: Path, clock: Clock, written: list[tuple[str, int, float]]
) -> None:
    checkpoints = opened(tmp_path / "p", every=60)
    loops = [checkpoints.loop(name) for name in ("a", "b", "c")]
    clock.now = 30
    for loop in loops[:2]:
        loop.save(5, {}, constant=True)
    assert written == []
    clock.now = 61
    loops[2].save(1, {})
    assert sorted(written) == [("a", 5, 61), ("b", 5, 61), ("c", 1, 61)]
    loops[2].save(2, {}, constant=True)
    loops[2].save(3, {})  # what was remembered is outdated
    checkpoints.flush()
    assert len(written) == 3
    loops[2].save(4, {}, constant=True)
    checkpoints.flush()
    assert written[3:] == [("c", 4, 61)]


def test_without_an_interval_or_a_folder_nothing_is_written(
    tmp_path: Path, clock: Clock, written: list[tuple[str, int, float]]
) -> None:
    for checkpoints in (opened(tmp_path / "p", every=None), module.UNSAVED):
        loop = checkpoints.loop("one")
        for clock.now in (1e3, 1e9):
            loop.save(1, {})
        assert loop.restore({}) is None
    assert written == [] and list(tmp_path.iterdir()) == []


def test_the_seconds_of_a_stage_are_those_of_all_who_worked_on_it(folder: Path, clock: Clock) -> None:
    snapshots.write_snapshot(folder / "seeds-0" / "000003", snapshots.Snapshot(1, {}, {"x": np.ones(1)}), "", 100.0)
    checkpoints = opened(folder)
    clock.now = 5.0
    assert checkpoints.seconds == 105.0 and checkpoints.written


def test_a_checkpoint_that_cannot_be_written_is_told_and_the_loop_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    loop = opened(tmp_path / "p", say=told.append).loop("one")
    with monkeypatch.context() as full:
        full.setattr(snapshots, "_save", lambda path, tree: (_ for _ in ()).throw(OSError(28, "No space left")))
        loop.save(1, {"w": np.ones(2)})
    assert len(told) == 1 and "no checkpoint of one of proxy a1a1a1a1 could be written (OSError: " in told[0]
    loop.save(2, {"w": np.ones(2)})
    found = opened(tmp_path / "p", say=told.append).loop("one").restore({"w": np.ones(2)})
    assert found is not None and found.step == 2
