"""A stage is made once, found by all that determines it, whole or not at all, and never believed when damaged."""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stored import CONFIG, ORIGIN, Maker, get, listing

from synthetic_rm import hosts
from synthetic_rm import store as module
from synthetic_rm.checkpoints import Checkpoints
from synthetic_rm.errors import InputError
from synthetic_rm.provenance import file_digest


def test_a_stage_is_made_once_and_found_again(tmp_path: Path) -> None:
    make = Maker()
    first, second = get(tmp_path, make), get(tmp_path, make)
    assert make.calls == 1
    assert (first.reused, second.reused) == (False, True)
    assert (first.path, first.key, first.facts) == (second.path, second.key, second.facts)
    assert second.facts == {"loss": 0.5, "finite": [True, False]}
    assert (second.path / "params.bin").read_bytes() == make.content
    assert first.path == tmp_path / "proxy" / first.key[:20]


def test_the_key_is_that_of_stage_version_configuration_and_parents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Maker()
    variants: list[dict[str, Any]] = [
        {},
        {"stage": "pool"},
        {"config": CONFIG | {"size": 2001}},
        {"config": CONFIG | {"more": None}},
        {"config": CONFIG | {"seeds": [2, 1]}},
        {"parents": ["b", "a"]},
        {"parents": ["a"]},
    ]
    keys = [get(tmp_path, make, **variant).key for variant in variants]
    monkeypatch.setitem(module.VERSIONS, "proxy", module.VERSIONS["proxy"] + 1)
    keys.append(get(tmp_path, make).key)
    assert len(set(keys)) == len(keys) == make.calls
    reordered = get(tmp_path, make, config=dict(reversed(CONFIG.items())))
    assert reordered.key == keys[-1] and reordered.reused


def test_the_manifest_tells_what_was_made_and_from_what(tmp_path: Path) -> None:
    made = get(tmp_path)
    manifest = json.loads((made.path / "manifest.json").read_text())
    assert manifest == made.manifest == get(tmp_path).manifest
    identity = {"stage": "proxy", "version": module.VERSIONS["proxy"], "config": CONFIG, "parents": ["a", "b"]}
    assert {name: manifest[name] for name in identity} == identity
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    assert manifest["key"] == hashlib.sha256(text.encode()).hexdigest()
    assert {name: manifest[name] for name in ORIGIN} == ORIGIN
    contents = {name: (made.path / name).read_bytes() for name in ("params.bin", "notes.txt")}
    expected = {name: [len(data), hashlib.sha256(data).hexdigest()] for name, data in contents.items()}
    assert manifest["files"] == expected
    assert manifest["facts"] == made.facts and 0 <= manifest["seconds"] < 60


@pytest.mark.parametrize(
    ("error", "ended"),
    [
        (RuntimeError("diverged\nat step 3"), "failed"),
        (InputError("bad data"), "failed"),
        (KeyboardInterrupt(), "interrupted"),
    ],
)
def test_a_stage_that_fails_leaves_the_record_of_it_and_blocks_nothing(
    tmp_path: Path, error: BaseException, ended: str
) -> None:
    def fail(folder: Path, _: Checkpoints) -> Mapping[str, Any]:
        (folder / "params.bin").write_bytes(b"half")
        raise error

    for _ in range(2):
        with pytest.raises(type(error)) as raised:
            get(tmp_path, fail)
        assert raised.value is error
    (record,) = tmp_path.glob("proxy/*")
    assert [name for name, content in listing(tmp_path).items() if content is not None] == [f"proxy/{record.name}"]
    told = json.loads(record.read_text())
    assert told["status"] == ended and told["config"] == CONFIG and told["commit"] == ORIGIN["commit"]
    assert told["error"] == " ".join(f"{type(error).__name__}: {error}".split()) and told["seconds"] >= 0
    made = get(tmp_path)
    assert not made.reused
    anew = f"proxy {made.key[:8]} was begun and left no good checkpoint: it starts anew"
    assert made.manifest["resumed"] == [anew] and "resumed" not in get(tmp_path / "other").manifest
    assert list(tmp_path.glob("proxy/*")) == [made.path] and record.name.startswith(made.path.name)


def test_facts_that_are_not_plain_are_recorded_and_not_stored(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        get(tmp_path, lambda folder, _: {"loss": object()})
    assert [path.suffixes for path in tmp_path.glob("proxy/*")] == [[".failed", ".json"]]


def test_the_manifest_tells_vmap_width_and_whether_all_stayed_finite(tmp_path: Path) -> None:
    alone, six = get(tmp_path), get(tmp_path, lambda *_: {"finite": [True, True]}, config={"vmap_width": 6})
    assert (alone.manifest["vmap_width"], six.manifest["vmap_width"]) == (1, 6)
    lost = get(tmp_path, lambda *_: {"finite": [True, False]}, config={})
    assert [made.manifest["status"] for made in (alone, six, lost)] == ["nonfinite", "ok", "nonfinite"]
    assert get(tmp_path, config={}).reused  # a stage with a lost seed is a finished one


def test_a_stage_may_ask_for_another_while_it_is_made(tmp_path: Path) -> None:
    def make(folder: Path, _: Checkpoints) -> Mapping[str, Any]:
        return Maker()(folder) | {"inner": get(tmp_path, config={"inner": True}).key}

    assert get(tmp_path, make).facts["inner"] == get(tmp_path, config={"inner": True}).key


def test_the_time_of_the_last_use_is_kept(tmp_path: Path) -> None:
    folder = get(tmp_path).path
    os.utime(folder, (1e9, 1e9))
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    get(tmp_path)
    assert time.time() - folder.stat().st_mtime < 60
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def _other_key(folder: Path) -> None:
    other = get(folder.parents[1], config={})
    (folder / "manifest.json").write_bytes((other.path / "manifest.json").read_bytes())


def _rewrite(**changes: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_text()) | changes
        kept = {name: value for name, value in manifest.items() if value is not ...}
        (folder / "manifest.json").write_text(json.dumps(kept))

    return damage


DAMAGE: dict[str, Callable[[Path], object]] = {
    "truncated file": lambda folder: (folder / "params.bin").write_bytes(b"weights"),
    "longer file": lambda folder: (folder / "notes.txt").write_text("eleven words"),
    "other bytes": lambda folder: (folder / "params.bin").write_bytes(b"weighty" * 100),
    "missing file": lambda folder: (folder / "params.bin").unlink(),
    "missing manifest": lambda folder: (folder / "manifest.json").unlink(),
    "empty manifest": lambda folder: (folder / "manifest.json").write_text(""),
    "cut manifest": lambda folder: (folder / "manifest.json").write_text('{"key": "12'),
    "binary manifest": lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe\0"),
    "manifest of another kind": lambda folder: (folder / "manifest.json").write_text("[1, 2]"),
    "manifest that is null": lambda folder: (folder / "manifest.json").write_text("null"),
    "manifest without key": _rewrite(key=...),
    "manifest without files": _rewrite(files=...),
    "manifest without facts": _rewrite(facts=...),
    "manifest with odd files": _rewrite(files={"params.bin": 700}),
    "foreign key": _other_key,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_artifact_is_named_and_not_used(tmp_path: Path, damage: str) -> None:
    folder = get(tmp_path).path
    DAMAGE[damage](folder)
    make = Maker()
    with pytest.raises(InputError) as error:
        get(tmp_path, make).facts  # noqa: B018
    assert str(folder) in str(error.value) and "\n" not in str(error.value)
    assert make.calls == 0


@given(st.integers(0, 699), st.integers(0, 7))
def test_any_flipped_bit_is_told_with_both_hashes(place: int, bit: int) -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = get(Path(root)).path
        content = bytearray((folder / "params.bin").read_bytes())
        recorded = hashlib.sha256(content).hexdigest()
        content[place] ^= 1 << bit
        (folder / "params.bin").write_bytes(content)
        with pytest.raises(InputError) as error:
            get(Path(root))
        for named in (str(folder / "params.bin"), recorded[:16], hashlib.sha256(content).hexdigest()[:16]):
            assert named in str(error.value)


def test_large_files_are_checked_by_their_size_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would take seconds to read; what they hold is checked where it is used."""
    monkeypatch.setattr(module, "HASHED", 500)
    folder = get(tmp_path).path
    hashed: list[str] = []
    monkeypatch.setattr(module, "file_digest", lambda path: hashed.append(path.name) or file_digest(path))
    assert get(tmp_path).reused
    assert hashed == ["notes.txt"]
    (folder / "notes.txt").write_text("new words")
    with pytest.raises(InputError, match=r"notes\.txt"):
        get(tmp_path)


def test_finding_a_small_stage_again_takes_milliseconds(tmp_path: Path) -> None:
    make = Maker(bytes(4 << 20))
    get(tmp_path, make)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        get(tmp_path, make)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.05


def test_a_disk_that_is_full_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    def full(folder: Path, _: Checkpoints) -> Mapping[str, Any]:
        (folder / "params.bin").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="No space left on device"):
        get(tmp_path, full)
    assert [path.suffixes for path in tmp_path.glob("proxy/*")] == [[".failed", ".json"]]


def test_a_process_that_does_not_see_what_the_first_published_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "first", lambda: False)
    monkeypatch.setattr(hosts, "IN_SIGHT", 0.2)
    with pytest.raises(InputError, match=r"does not see proxy/abc of the first one; allowed is a folder that all"):
        module.Store(tmp_path, {})._seen(tmp_path / "proxy" / "abc", lambda: pytest.fail("it is not there"))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> str:
        raise PermissionError(13, "Permission denied")

    get(tmp_path)
    monkeypatch.setattr(module, "file_digest", fail)
    with pytest.raises(InputError, match=r"notes\.txt cannot be read \(Permission denied\)"):
        get(tmp_path)
