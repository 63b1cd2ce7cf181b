"""What a world is made of: models that tell whether they stayed finite, made side by side where there is room."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_world import ORIGIN, Made, simulation, tiny_world

from synthetic_rm import build
from synthetic_rm.build import Builder
from synthetic_rm.progress import Reporter
from synthetic_rm.scoring import score
from synthetic_rm.store import Store
from synthetic_rm.world import assemble


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return tiny_world(tmp_path_factory)


def test_every_trained_model_tells_whether_it_stayed_finite(made: Made) -> None:
    trained = [stage for stage in made.world.stages if stage.manifest["stage"] != "tokenizer"]
    assert len(trained) >= 4 and all(stage.facts["finite"] is True for stage in trained)


@pytest.mark.parametrize(("stage", "name"), [("reference", "train_language_model"), ("gold", "train_reward")])
def test_a_model_that_did_not_stay_finite_is_recorded(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, name: str
) -> None:
    train = getattr(build, name)
    monkeypatch.setattr(build, name, lambda *x, **y: train(*x, **y)._replace(finite=np.array([False])))
    _, start, reference, *_ = made.world.stages
    builder = Builder(made.settings.environment, Store(tmp_path, ORIGIN), Reporter(False))
    environment = made.world.environment
    made_now = (
        builder.reference(environment, start) if stage == "reference" else builder.gold(environment, start, reference)
    )
    assert made_now.facts["finite"] is False


@pytest.mark.parametrize("deviation", [0.0, float("nan")])
def test_a_gold_that_has_no_scale_scores_nothing(made: Made, deviation: float) -> None:
    """All of its scores are then marked as not finite, instead of a division that ends the run."""
    _, _, reference, _, gold, *_ = made.world.stages
    files = [stage.path / "params.safetensors" for stage in (reference, gold)]
    facts = {"gold": gold.facts | {"reference_deviation": deviation}}
    environment, build = made.world.environment, made.settings.environment.build
    world = assemble(environment, build, *files, {}, facts=facts, keys=(), dtype="float32")
    assert np.isnan(score(world.gold, environment.part("test").responses)).all()


@pytest.mark.parametrize(("memory", "beside"), [(10**12, True), (1, False)])
def test_language_models_are_made_side_by_side_where_memory_holds_them(
    made: Made, monkeypatch: pytest.MonkeyPatch, memory: int, beside: bool
) -> None:
    """Each of them once; on whichever path those of the store are found."""
    known, asked, together = simulation(made).world.stages[1].key, list[object](), build.concurrently

    def noted(call: Any, items: Any) -> Any:
        asked.extend(items)
        return together(call, items)

    monkeypatch.setattr(build, "concurrently", noted)
    builder = dataclasses.replace(simulation(made).builder, memory=lambda: memory)
    model = (made.settings.environment.build.reference_size, made.settings.environment.build.reference_steps)
    assert [found.key for found in builder._language_models([model, model])] == [known, known]
    assert asked == ([model] if beside else [])
