"""The shipped release is what its manifest says: files, tokenizer, and the worth of its models, all made again."""

import json
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import synthetic_rm
from synthetic_rm.calibration import gold_facts
from synthetic_rm.comparisons import draw_groups
from synthetic_rm.environments.reviews.environment import SPLITS, train_reviews_tokenizer
from synthetic_rm.provenance import file_digest
from synthetic_rm.release import ROOT, load_release
from synthetic_rm.scoring import score
from synthetic_rm.settings import RELEASES, BuildSettings
from synthetic_rm.training.supervised import evaluate_language_model, token_rows
from synthetic_rm.types import Responses
from synthetic_rm.world import World, network_count

FRESH = 2_048


@pytest.fixture(scope="module", params=RELEASES)
def folder(request: pytest.FixtureRequest) -> Path:
    return ROOT / str(request.param)


@pytest.fixture(scope="module")
def manifest(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "manifest.json").read_text()))


@pytest.fixture(scope="module")
def world(folder: Path) -> World:
    return load_release(folder.name)


def test_every_release_that_can_be_asked_for_is_there() -> None:
    assert {path.name for path in ROOT.iterdir() if path.is_dir()} == set(RELEASES)


def test_the_folder_holds_the_files_of_the_manifest_and_no_others(folder: Path, manifest: dict[str, Any]) -> None:
    sizes = manifest["build"]["backbone_sizes"]
    names = ["reference", "gold", *(f"backbone-{size}" for size in sizes)]
    files = {"tokenizer.json", *(f"{name}.safetensors" for name in names)}
    assert set(manifest["files"]) == files
    assert {path.name for path in folder.iterdir()} == {*files, "manifest.json", "LICENSE"}
    for name, recorded in manifest["files"].items():
        assert recorded == {"sha256": file_digest(folder / name), "bytes": (folder / name).stat().st_size}, name


def test_prompts_are_as_many_as_the_data_card_says(world: World) -> None:
    card = (Path(synthetic_rm.__file__).parent / "environments" / "reviews" / "data" / "README.md").read_text()
    prompts = {split: world.environment.prompts(split) for split in SPLITS}
    for split, rows in prompts.items():
        assert f"{len(rows):,} " in card and f" of {split}" in card
    assert [len(rows) for rows in prompts.values()] == [14_598, 1_587, 1_527]


def test_every_file_is_part_of_an_installed_package(folder: Path) -> None:
    package = Path(synthetic_rm.__file__).parent
    project = tomllib.loads((package.parent / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["synthetic_rm"]
    installed = {path for pattern in patterns for path in package.glob(pattern)}
    assert set(folder.iterdir()) - installed == set()


def test_sizes_are_the_counts_of_the_stored_arrays(manifest: dict[str, Any], world: World) -> None:
    metrics, vocab = manifest["metrics"], manifest["vocab"]

    def total(params: Any) -> int:
        return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(params))

    assert metrics["reference"]["total"] == total(world.reference_params)
    assert metrics["gold"]["total"] == total(world.gold.params)
    for size, params in world.backbones.items():
        assert metrics["backbones"][str(size)]["total"] == total(params) == network_count(size, vocab).total
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(params))
    assert total(world.gold.params) > max(total(params) for params in world.backbones.values())


def test_the_tokenizer_is_the_one_learned_from_the_ratings(world: World, manifest: dict[str, Any]) -> None:
    assert world.environment.tokenizer.to_str() == train_reviews_tokenizer(None, manifest["vocab"]).to_str()


def test_gold_agrees_with_the_raters_as_often_as_the_manifest_says(manifest: dict[str, Any], world: World) -> None:
    recorded = manifest["metrics"]["gold"]
    assert recorded["split"] == "test"
    found = gold_facts(world.gold, world.environment, "test")
    for kind, share in recorded["agreement"].items():
        assert found["agreement"][kind] == pytest.approx(share, abs=0.003), kind
    assert found["raters"] == {name: pytest.approx(entry) for name, entry in recorded["raters"].items()}


def test_gold_is_far_above_chance_and_not_above_what_raters_allow(manifest: dict[str, Any]) -> None:
    """No model can order pairs as single raters do more often than the majority of endless raters would."""
    gold = manifest["metrics"]["gold"]
    ceiling = gold["raters"]["rater_vs_own_majority"]
    assert 0.6 < gold["agreement"]["rater"] < ceiling["value"] + 3 * ceiling["se"] + 0.01
    assert 0.6 < gold["agreement"]["majority"] < 1


def test_the_reference_predicts_held_out_responses_as_the_manifest_says(manifest: dict[str, Any], world: World) -> None:
    rows = token_rows(world.environment.demonstrations("validation"), response_only=True)
    found = evaluate_language_model(world.reference, world.reference_params, rows)
    assert found == pytest.approx(manifest["metrics"]["reference"]["validation_loss"], abs=0.01)
    assert found < np.log(manifest["vocab"]) - 2


def test_backbones_are_the_better_the_larger(manifest: dict[str, Any]) -> None:
    found = manifest["metrics"]["backbones"]
    losses = [found[size]["validation_loss"] for size in sorted(found, key=int)]
    assert losses == sorted(losses, reverse=True) and losses[0] < np.log(manifest["vocab"])


def test_gold_is_centred_and_scaled_on_the_reference(manifest: dict[str, Any], world: World) -> None:
    """Over fresh responses, one per prompt: mean 0 and deviation 1, by the mean and deviation of the manifest."""
    drawn = draw_groups(
        world.reference,
        world.reference_params,
        world.environment.prompts("train"),
        jax.random.key(99),
        num_groups=FRESH,
        group_size=1,
        max_tokens=world.environment.response_tokens,
    )
    scores = score(world.gold, Responses(*(x.reshape(-1, *x.shape[2:]) for x in drawn))).astype(np.float64)
    deviation, samples = scores.std(), manifest["build"]["calibration_samples"]
    error = deviation * np.sqrt(1 / FRESH + 2 / samples)  # the manifest's come two to a prompt
    assert abs(scores.mean()) < 4 * error
    fourth = ((scores - scores.mean()) ** 4).mean() / deviation**4
    assert abs(deviation - 1) < 4 * np.sqrt((fourth - 1) / 4 * (1 / FRESH + 2 / samples))
    assert world.gold_scale == manifest["metrics"]["gold"]["reference_deviation"]
    native = world.gold.centred(0.0, 1.0)
    first = Responses(*(x[:64].reshape(-1, *x.shape[2:]) for x in drawn))
    expected = (score(native, first) - manifest["metrics"]["gold"]["reference_mean"]) / world.gold_scale
    np.testing.assert_allclose(score(world.gold, first), expected, atol=1e-4)


def test_the_newest_release_is_built_as_the_defaults_say() -> None:
    manifest = json.loads((ROOT / RELEASES[-1] / "manifest.json").read_text())
    assert manifest["build"] == asdict(BuildSettings())
    assert manifest["made"]["dirty"] is False
