"""What lies in a store is told as it is; verification finds any change; pruning takes what no run finds, no more."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from stored import cut, digits, failed, family_of, flip, listing, made

from synthetic_rm import store as store_module
from synthetic_rm.errors import InputError
from synthetic_rm.store import Artifact, lock_of
from synthetic_rm.storekeeping import damage, prunable, remove, scan, size_of, users

SCRIPT = Path(__file__).resolve().parents[1] / "experiments" / "store.py"
DAY = 86_400


@pytest.fixture
def family(tmp_path: Path) -> dict[str, Artifact]:
    return family_of(tmp_path / "store")


def going(root: Path, **days: float) -> dict[str, str]:
    """Reasons by name in the store."""
    return {entry.path.relative_to(root).as_posix(): reason for entry, reason in prunable(scan(root), **days)}


def test_every_stage_is_told_with_what_it_is_made_from_and_what_from_it(
    tmp_path: Path, family: dict[str, Artifact]
) -> None:
    root = tmp_path / "store"
    failed(root, "pool")
    entries = scan(root)
    assert [entry.stage for entry in entries] == ["comparisons", "proxy", "proxy", "pool", "scores"]
    told = {entry.digits: entry for entry in entries}
    for artifact in family.values():
        entry = told[artifact.key[:20]]
        assert entry.finished and entry.status == "ok" and entry.path == artifact.path
        assert entry.size == sum(p.stat().st_size for p in artifact.path.iterdir()) > 700
        assert entry.parents == tuple(artifact.manifest["parents"]) and entry.seconds == artifact.manifest["seconds"]
        assert time.time() - entry.used < 60
    (lost,) = (entry for entry in entries if not entry.finished)
    assert (lost.stage, lost.status, lost.note) == ("pool", "failed", "RuntimeError: diverged")
    made_from = {name: dict(users(entries)[artifact.key[:20]]) for name, artifact in family.items()}
    assert made_from == {"comparisons": {"proxy": 2}, "2": {"scores": 1}, "4": {}, "scores": {}}


def test_what_is_not_of_the_store_is_neither_told_nor_removed(tmp_path: Path, family: dict[str, Artifact]) -> None:
    root, name = tmp_path / "store", family["2"].path.name
    before = scan(root)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years")
    for place in ("thesis.tex", "proxy/thesis.tex", f"thesis/{name}/thesis.tex", f"proxy/{name}.bak", "proxy/.git/x"):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text("years")
    (root / "proxy" / ("a" * 20)).symlink_to(tmp_path / "mine")
    (root / "gold").symlink_to(tmp_path / "mine")
    kept = listing(tmp_path)
    assert scan(root) == before
    for entry in scan(root):
        assert remove(entry)
    left = {Path(place).name for place, content in listing(tmp_path).items() if content is not None}
    assert left == {"thesis.tex", f"{name}.bak", "x"}
    assert listing(tmp_path).items() <= kept.items() and scan(root) == []


def _drop(folder: Path) -> None:
    (folder / "params.bin").unlink()


def _other_config(folder: Path) -> None:
    told = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(told | {"config": {"size": 3}}))


def _other_place(folder: Path) -> None:
    os.rename(folder, folder.with_name("0" * 20))


def _no_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("{}")


@pytest.mark.parametrize("harm", [cut, flip, _drop, _other_config, _other_place, _no_manifest])
def test_any_damage_is_found_and_pruned_and_the_stage_made_anew(
    tmp_path: Path, family: dict[str, Artifact], harm: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "HASHED", 10)  # verification hashes files of any size
    root = tmp_path / "store"
    assert [damage(entry) for entry in scan(root)] == [None] * 4 and going(root) == {}
    harm(family["2"].path)
    wrong = [entry for entry in scan(root) if damage(entry)]
    assert len(wrong) == 1 and [path.split("/")[0] for path in going(root)] == ["proxy"]
    assert going(root)[wrong[0].path.relative_to(root).as_posix()].startswith("damaged")
    assert remove(wrong[0]) and going(root) == {}
    assert not made(root, "proxy", family["comparisons"].key, size=2).reused


def test_stages_of_an_earlier_version_go_with_all_that_was_made_from_them(
    tmp_path: Path, family: dict[str, Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "store"
    pool = made(root, "pool")
    monkeypatch.setitem(store_module.VERSIONS, "comparisons", 3)
    old = dict.fromkeys((a.path.relative_to(root).as_posix() for a in family.values()), "outdated")
    assert going(root) == old
    fresh = made(root, "comparisons", "f" * 64)
    monkeypatch.setitem(store_module.VERSIONS, "scores", 0)  # of a later version than this one knows
    assert going(root) == old
    for entry, _ in prunable(scan(root)):
        remove(entry)
    assert digits(scan(root)) == {pool.key[:20], fresh.key[:20]}


def test_stages_unused_for_long_go_only_when_asked(tmp_path: Path, family: dict[str, Artifact]) -> None:
    root, past = tmp_path / "store", time.time() - 10 * DAY
    for name in ("4", "scores"):
        os.utime(family[name].path, (past, past))
    assert going(root) == going(root, older_than=11) == {}
    assert set(going(root, older_than=9).values()) == {"unused for 9 days"}
    assert len(going(root, older_than=9)) == 2 and len(going(root, older_than=0)) == 4
    assert made(root, "scores", family["2"].key).reused  # used again
    assert list(going(root, older_than=9)) == [family["4"].path.relative_to(root).as_posix()]


HOLD = """
import os, sys, time
from pathlib import Path
from synthetic_rm.store import Store

def make(folder, checkpoints):
    (folder / "half.bin").write_bytes(b"half")
    print("making", flush=True)
    time.sleep(60)

Store(Path(sys.argv[1]), {}).get("proxy", {"size": 1}, [], make)
"""


def test_a_stage_that_is_being_made_stays_and_what_a_killed_process_left_goes(tmp_path: Path) -> None:
    failed(tmp_path, "proxy")
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "making\n"
    entries = [entry for entry in scan(tmp_path) if entry.status != "failed"]
    assert {entry.status for entry in entries} == {"being made"} and len(entries) == 2  # its files and its lock
    assert set(going(tmp_path).values()) == {"failed"}
    assert [remove(entry) for entry in entries] == [False, False]
    holder.kill()
    holder.communicate(timeout=60)
    assert sorted(going(tmp_path).values()) == ["failed", "left over", "left over"]
    for entry, _ in prunable(scan(tmp_path)):
        assert remove(entry)
    assert list((tmp_path / "proxy").iterdir()) == []


def test_removing_what_is_gone_already_is_done(tmp_path: Path, family: dict[str, Artifact]) -> None:
    (entry,) = (entry for entry in scan(tmp_path / "store") if entry.stage == "scores")
    assert remove(entry) and remove(entry)
    assert not Path(lock_of(entry.path).lock_file).exists()


def test_sizes_are_those_of_all_files_and_follow_no_link(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "big").write_bytes(bytes(5000))
    (tmp_path / "a" / "x").write_bytes(bytes(70))
    (tmp_path / "a" / "b" / "y").write_bytes(bytes(8))
    (tmp_path / "a" / "link").symlink_to(tmp_path / "big")
    assert size_of(tmp_path / "a") == 78 + (tmp_path / "a" / "link").lstat().st_size < 5000
    assert size_of(tmp_path / "big") == 5000 and size_of(tmp_path / "nothing") == 0


@pytest.mark.parametrize("place", ["nowhere", "file"])
def test_a_store_that_is_none_is_told(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=f"store=.*{place}: is not a folder"):
        scan(tmp_path / place)
