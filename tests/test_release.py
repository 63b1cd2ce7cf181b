"""A release gives back the world it was written from, and names whatever was damaged since."""

import json
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from scripts import load_script

from synthetic_rm import release
from synthetic_rm.environments.reviews.environment import Reviews
from synthetic_rm.environments.reviews.ratings import DATA_SHA256
from synthetic_rm.environments.reviews.tokenizer import train_tokenizer
from synthetic_rm.errors import InputError
from synthetic_rm.provenance import file_digest
from synthetic_rm.release import check_release, copy_license, load_release, write_release
from synthetic_rm.rewards.neural import neural_reward
from synthetic_rm.scoring import score
from synthetic_rm.settings import BuildSettings, EnvironmentSettings
from synthetic_rm.types import Responses
from synthetic_rm.world import World, abstract_reward, abstract_trunk, network_for

NAME, VOCAB, PROMPT, RESPONSE = "tiny-v1", 280, 4, 10
BUILD = BuildSettings(reference_size=2_000, gold_size=4_000, backbone_sizes=[2_000, 4_000])
SETTINGS = EnvironmentSettings(release=None, vocab=VOCAB, prompt_tokens=PROMPT, response_tokens=RESPONSE, build=BUILD)
FACTS = {
    "reference": {"total": 2_060, "validation_loss": 4.25},
    "gold": {"reference_mean": 0.25, "reference_deviation": 1.75, "agreement": {"rater": 0.6}},
    "backbones": {"2000": {"validation_loss": 5.0}, "4000": {"validation_loss": 4.5}},
}
WEIGHTS = ["reference.safetensors", "gold.safetensors", "backbone-2000.safetensors", "backbone-4000.safetensors"]
FILES = ["tokenizer.json", *WEIGHTS]


def world(seed: int = 0, build: BuildSettings = BUILD) -> World:
    """Untrained models: a release only has to keep them."""
    text = "the quick brown fox jumps over the lazy dog and the other fox thinks that this is not the end of it"
    small, large = (network_for(size, VOCAB) for size in build.backbone_sizes)
    rng = np.random.default_rng(seed)

    def drawn(like: Any) -> Any:
        return jax.tree.map(lambda x: rng.normal(0, 0.3, x.shape).astype(np.float32), like)

    gold = neural_reward(large, drawn(abstract_reward(large)), build.gold_readout)  # type: ignore[arg-type]
    trunks = {2_000: drawn(abstract_trunk(small)), 4_000: drawn(abstract_trunk(large))}
    environment = Reviews(train_tokenizer([text], VOCAB), PROMPT, RESPONSE)
    reference = drawn(abstract_trunk(small))
    return World(environment, small, reference, gold.centred(0.25, 1 / 1.75), 1.75, trunks, ("a", "b"), FACTS)


@pytest.fixture(scope="module")
def made() -> World:
    return world()


@pytest.fixture
def folder(made: World, tmp_path: Path) -> Path:
    return write_release(made, SETTINGS, NAME, tmp_path / NAME, {"commit": "0123abcd"})


def test_a_release_gives_back_the_world_it_was_written_from(made: World, folder: Path) -> None:
    found = load_release(NAME, root=folder.parent)
    pairs = [(made.reference_params, found.reference_params), (made.gold.params, found.gold.params)]
    pairs += [(made.backbones[size], found.backbones[size]) for size in made.backbones]
    for a, b in pairs:
        assert jax.tree.structure(a) == jax.tree.structure(b)
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            np.testing.assert_array_equal(x, y)
    assert (found.reference.shape, found.gold.network.shape) == (made.reference.shape, made.gold.network.shape)
    assert set(found.backbones) == set(made.backbones)
    assert (found.gold_scale, found.facts, found.stages) == (1.75, FACTS, ())
    one, other = made.environment, found.environment
    assert other.tokenizer.to_str() == one.tokenizer.to_str()
    assert (other.prompt_tokens, other.response_tokens, other.data) == (PROMPT, RESPONSE, None)


@pytest.mark.parametrize("readout", ["last", "mean"])
def test_gold_of_a_release_scores_as_it_did(tmp_path: Path, readout: str) -> None:
    build = replace(BUILD, gold_readout=readout)
    made = world(build=build)
    write_release(made, replace(SETTINGS, build=build), NAME, tmp_path / NAME, {})
    rng = np.random.default_rng(0)
    prompt, tokens = (rng.integers(0, VOCAB, (30, n)).astype(np.int32) for n in (PROMPT, RESPONSE))
    rows = Responses(prompt, tokens, rng.integers(1, RESPONSE + 1, 30).astype(np.int32))  # type: ignore[arg-type]
    expected = score(made.gold, rows)
    assert expected.std() > 1e-3
    np.testing.assert_array_equal(score(load_release(NAME, root=tmp_path).gold, rows), expected)


def test_the_manifest_tells_the_files_and_how_they_were_made(made: World, folder: Path, tmp_path: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {path.name for path in folder.iterdir()} == {*FILES, "manifest.json"}
    assert {name: entry["sha256"] for name, entry in manifest["files"].items()} == {
        name: file_digest(folder / name) for name in FILES
    }
    assert all(entry["bytes"] == (folder / name).stat().st_size for name, entry in manifest["files"].items())
    assert (manifest["name"], manifest["data_sha256"], manifest["metrics"]) == (NAME, DATA_SHA256, FACTS)
    assert BuildSettings(**manifest["build"]) == BUILD and manifest["made"] == {"commit": "0123abcd"}
    again = write_release(made, SETTINGS, NAME, tmp_path / "again", {"commit": "0123abcd"})
    assert all((again / name).read_bytes() == (folder / name).read_bytes() for name in [*FILES, "manifest.json"])


def test_what_identifies_a_release_in_the_store_changes_with_any_of_its_files(folder: Path, tmp_path: Path) -> None:
    keys = load_release(NAME, root=folder.parent).keys
    assert keys[0] == NAME and set(keys[2:]) == {file_digest(folder / name) for name in FILES}
    other = write_release(world(1), SETTINGS, NAME, tmp_path / "other" / NAME, {})
    assert set(load_release(NAME, root=other.parent).keys) & set(keys) == {*keys[:2], file_digest(folder / FILES[0])}


def edited(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    edit(manifest)
    path.write_text(json.dumps(manifest))


def test_what_the_manifest_says_of_gold_identifies_a_release_and_who_made_it_does_not(folder: Path) -> None:
    keys = load_release(NAME, root=folder.parent).keys
    edited(folder, lambda manifest: manifest["made"].update(commit="4567"))
    assert load_release(NAME, root=folder.parent).keys == keys
    edited(folder, lambda manifest: manifest["build"].update(gold_readout="mean"))
    mean = load_release(NAME, root=folder.parent).keys
    edited(folder, lambda manifest: manifest["metrics"]["gold"].update(reference_deviation=2.0))
    assert len({keys, mean, load_release(NAME, root=folder.parent).keys}) == 3


@pytest.mark.parametrize("key", [field.name for field in fields(BuildSettings)])
def test_no_default_stands_in_for_how_a_release_was_built(folder: Path, key: str) -> None:
    edited(folder, lambda manifest: manifest["build"].pop(key))
    assert f"lacks build.{key}" in refused(folder.parent)


def test_settings_that_this_package_does_not_know_and_other_data_are_refused(folder: Path) -> None:
    edited(folder, lambda manifest: manifest.update(data_sha256="0" * 64))
    assert DATA_SHA256[:16] in refused(folder.parent)
    edited(folder, lambda manifest: manifest["build"].update(gold_colour="red"))
    assert "build.gold_colour" in refused(folder.parent)


@pytest.mark.parametrize("place", ["file", "file/inside", "x" * 300, "y/" * 3000])
def test_a_release_where_no_folder_can_be_is_refused_on_one_line(made: World, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError) as error:
        write_release(made, SETTINGS, NAME, tmp_path / place, {})
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)
    assert (tmp_path / "file").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


def test_a_release_of_ones_own_data_is_refused(made: World, tmp_path: Path) -> None:
    own = replace(made.environment, data=tmp_path / "mine.tsv")
    for world, settings in ((made, replace(SETTINGS, data="mine.tsv")), (replace(made, environment=own), SETTINGS)):
        with pytest.raises(InputError, match=r"environment\.data=.*mine\.tsv.*shipped"):
            write_release(world, settings, NAME, tmp_path / NAME, {})
    assert list(tmp_path.iterdir()) == []


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def refused(root: Path, name: str = NAME) -> str:
    with pytest.raises(InputError) as error:
        load_release(name, root=root)
    message = str(error.value)
    assert "\n" not in message and name in message
    return message


@pytest.mark.parametrize("damage", [_flip, _cut, Path.unlink])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_with_both_hashes(folder: Path, name: str, damage: Callable[[Path], object]) -> None:
    recorded = file_digest(folder / name)
    damage(folder / name)
    message = refused(folder.parent)
    assert str(folder / name) in message
    if (folder / name).exists():
        assert recorded[:16] in message and file_digest(folder / name)[:16] in message
    else:
        assert "missing" in message


def test_files_that_changed_places_are_refused(folder: Path) -> None:
    """Each is whole, and of the right shape."""
    first, last = folder / "reference.safetensors", folder / "backbone-2000.safetensors"
    content = first.read_bytes()
    first.write_bytes(last.read_bytes())
    last.write_bytes(content)
    assert ".safetensors" in refused(folder.parent)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "7", '{"files": 3}', '{"files": {"a": 3}}'])
def test_a_manifest_that_is_none_is_named(folder: Path, content: str) -> None:
    (folder / "manifest.json").write_text(content)
    assert str(folder / "manifest.json") in refused(folder.parent)


@pytest.mark.parametrize(
    "key", ["files", "build", "metrics", "data_sha256", "vocab", "prompt_tokens", "response_tokens"]
)
def test_a_manifest_that_lacks_a_part_is_named(folder: Path, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != key}))
    monkeypatch.setattr(release, "ROOT", folder.parent)
    for use in (lambda: check_release(asked(), [2_000], "scratch"), lambda: load_release(NAME, root=folder.parent)):
        with pytest.raises(InputError, match="manifest"):
            use()


def test_a_release_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "manifest.json" in refused(tmp_path, "reviews-v0")


def asked(**changes: Any) -> EnvironmentSettings:
    values = {"release": NAME, "vocab": VOCAB, "prompt_tokens": PROMPT, "response_tokens": RESPONSE} | changes
    return EnvironmentSettings(**values)


@pytest.mark.parametrize(
    ("environment", "sizes", "init", "named"),
    [
        (asked(vocab=300), [2_000], "scratch", ["environment.vocab=300", str(VOCAB)]),
        (asked(prompt_tokens=5), [2_000], "scratch", ["environment.prompt_tokens=5", str(PROMPT)]),
        (asked(response_tokens=27), [2_000], "scratch", ["environment.response_tokens=27", str(RESPONSE)]),
        (asked(), [2_000, 9_000], "backbone", ["proxy.sizes=[9000]", "[2000, 4000]"]),
    ],
)
def test_what_a_release_does_not_have_is_told_early(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    environment: EnvironmentSettings,
    sizes: list[int],
    init: str,
    named: list[str],
) -> None:
    monkeypatch.setattr(release, "ROOT", folder.parent)
    with pytest.raises(InputError) as error:
        check_release(environment, sizes, init)
    assert [text for text in [*named, NAME] if text not in str(error.value)] == []


def test_what_a_release_has_is_accepted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "ROOT", folder.parent)
    check_release(asked(), [2_000, 9_000], "scratch")
    check_release(asked(), [2_000, 4_000], "backbone")
    check_release(EnvironmentSettings(release=None, vocab=5_000), [1], "backbone")


def test_the_licence_of_the_data_goes_with_the_models(folder: Path) -> None:
    copy_license(folder)
    source = Path(release.__file__).parent / "environments" / "reviews" / "data" / "LICENSE"
    assert (folder / "LICENSE").read_text() == source.read_text()


@pytest.mark.parametrize("option", ["--output", "--store"])
@pytest.mark.parametrize("place", ["file", "file/inside", "x" * 300, "/proc/none"])
def test_nothing_is_trained_for_a_folder_that_cannot_be(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, option: str, place: str
) -> None:
    (tmp_path / "file").write_text("mine")
    script = load_script("build_environment")
    monkeypatch.setattr(script, "Builder", None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["build_environment.py", option, str(tmp_path / place)])
    assert script.main() == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and f"error: {option}={tmp_path / place}" in err
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["file"]
