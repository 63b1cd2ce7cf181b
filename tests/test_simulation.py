"""The stages of an experiment on a tiny world: made once, and changed only by what should change them."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from tiny_world import HELD_OUT, ORIGIN, SIZE, TRAINING, Made, changed, simulation, tiny_world, write_data

from synthetic_rm import build
from synthetic_rm.build import Builder, data_sha256
from synthetic_rm.curves import curves_of
from synthetic_rm.environments.reviews.ratings import DATA_SHA256
from synthetic_rm.errors import InputError
from synthetic_rm.progress import Reporter
from synthetic_rm.provenance import digest
from synthetic_rm.results import best_of_n_tables
from synthetic_rm.scoring import score
from synthetic_rm.settings import EnvironmentSettings
from synthetic_rm.simulation import ProxyGroup
from synthetic_rm.store import Artifact, Make, Store
from synthetic_rm.types import Responses


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return tiny_world(tmp_path_factory)


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


def test_the_second_time_every_stage_is_found_and_the_tables_are_the_same(made: Made) -> None:
    before = contents(made.store)
    again = simulation(made)
    tables = best_of_n_tables(again)
    assert all(stage.reused for stage in again.world.stages)
    stages = {"reference", "gold", "comparisons", "proxy", "pool", "best_of_n"}
    assert tables.runs["reused"].all() and set(tables.runs["stage"]) >= stages
    assert contents(made.store) == before
    pd.testing.assert_frame_equal(tables.records, made.tables.records)
    pd.testing.assert_frame_equal(tables.samples, made.tables.samples)
    for name, array in tables.curves.items():
        np.testing.assert_array_equal(array, made.tables.curves[name])


def test_curves_are_those_of_the_stored_scores(made: Made) -> None:
    """n = 1 is the mean of the pool, n = N its best by the proxy: read off the scores themselves."""
    again = simulation(made)
    gold = np.asarray(again.gold_scores(), np.float64)
    proxy = np.asarray(again.proxy_scores(again.proxies(SIZE)), np.float64)
    assert np.isfinite(gold).all() and gold.std() > 0 and (proxy[0] != proxy[1]).all()
    for seed, curve in enumerate(made.tables.curves["gold"]):
        np.testing.assert_allclose(curve[0], gold.mean(axis=1) - gold.mean(), atol=1e-5)
        best = np.take_along_axis(gold, proxy[seed].argmax(axis=1)[:, None], axis=1)[:, 0]
        np.testing.assert_allclose(curve[-1], best - gold.mean(), atol=1e-5)


def test_sample_responses_are_the_best_so_far(made: Made) -> None:
    samples, records = made.tables.samples, made.tables.records
    assert set(samples["prompt_id"]) == {0, 1} and set(samples["n"]) == {1, 3, 10, 30, 48}
    for _, rows in samples.groupby("prompt_id"):
        assert rows["proxy"].is_monotonic_increasing and rows["prompt"].nunique() == 1
    last = samples[samples["n"] == 48]
    curve = made.tables.curves
    i = curve["run"].tolist().index(records.loc[records["proxy_seed"] == 0, "run"].iloc[0])
    np.testing.assert_allclose(last["proxy"], curve["proxy"][i, -1, :2], atol=1e-5)
    np.testing.assert_allclose(last["gold"], curve["gold"][i, -1, :2], atol=1e-5)


def test_held_out_prompts_are_distinct_and_of_the_test_split(made: Made) -> None:
    prompts = {tuple(row) for row in simulation(made).eval_prompts().tolist()}
    everyone = {tuple(row) for row in made.world.environment.prompts("test").tolist()}
    assert len(prompts) == 4 and prompts <= everyone
    other = {tuple(row) for row in simulation(made, {"best_of_n.seed": 1}).eval_prompts().tolist()}
    assert other != prompts
    most = len(everyone)
    with pytest.raises(InputError, match=rf"best_of_n\.prompts={most + 1}: allowed is up to {most}"):
        simulation(made, {"best_of_n.prompts": most + 1}).eval_prompts()
    assert len(simulation(made, {"best_of_n.prompts": most}).eval_prompts()) == most


def test_no_prompt_is_both_trained_on_and_held_out(made: Made) -> None:
    again = simulation(made)
    environment = made.world.environment
    drawn = {
        split: again_part.responses.prompt
        for split, again_part in zip(("train", "validation"), again.comparison_parts(), strict=True)
    }
    drawn["test"] = again.eval_prompts()[:, None]
    answered = {}
    for split, prompts in drawn.items():
        groups = np.asarray(prompts)
        assert (groups == groups[:, :1]).all()  # a group answers one prompt
        answered[split] = {tuple(row) for row in groups[:, 0].tolist()}
        assert answered[split] <= {tuple(row) for row in environment.prompts(split).tolist()}
        assert len(answered[split]) == min(len(groups), len(environment.prompts(split)))  # none twice before all once
    assert sum(len(rows) for rows in answered.values()) == len(set.union(*answered.values()))


def test_human_labels_replace_golds_and_leave_the_world_and_the_pool(made: Made) -> None:
    human = simulation(made, {"comparisons.labels": "human"})
    tables = best_of_n_tables(human)
    assert human.world.keys == made.world.keys and human.pool.key == simulation(made).pool.key and human.pool.reused
    assert (tables.records["labels"] == "human").all() and human.comparisons.key != simulation(made).comparisons.key
    assert np.abs(tables.curves["gold"] - made.tables.curves["gold"]).max() > 0

    def rows(split: str) -> set[tuple[int, ...]]:
        return {tuple(row) for row in np.asarray(human.world.environment.part(split).responses.tokens).tolist()}

    for part, split, count in zip(human.comparison_parts(), ("train", "validation"), (TRAINING, HELD_OUT), strict=True):
        assert len(part.target) == count and 0.3 < float(part.weight.mean()) < 1
        assert {tuple(row) for row in np.asarray(part.responses.tokens).reshape(2 * count, -1).tolist()} <= rows(split)


def test_labels_are_golds_on_the_stored_responses(made: Made) -> None:
    training, held_out = simulation(made).comparison_parts()
    assert (len(training.target), len(held_out.target)) == (TRAINING, HELD_OUT)
    soft = simulation(made, {"comparisons.labels": "soft"}).comparison_parts()[0]
    np.testing.assert_array_equal(soft.responses.tokens, training.responses.tokens)
    flat = Responses(*(x.reshape(2 * TRAINING, *x.shape[2:]) for x in training.responses))
    scores = score(made.world.gold, flat).reshape(TRAINING, 2) * made.world.gold_scale
    margin = scores[:, :1] - scores[:, 1:]
    sure = np.abs(margin) > 1e-4
    assert sure.mean() > 0.9
    np.testing.assert_array_equal(np.asarray(training.target)[sure], (margin > 0)[sure])
    np.testing.assert_allclose(soft.target, 1 / (1 + np.exp(-margin)), atol=1e-5)


def test_proxies_start_from_their_backbone_when_asked_to(made: Made) -> None:
    still = {"proxy.learning_rate": 1e-9}
    groups = {init: simulation(made, {"proxy.init": init} | still).proxies(SIZE) for init in ("scratch", "backbone")}
    trunk = made.world.backbones[SIZE]
    for seed in range(2):
        ours, fresh = (jax.tree.map(lambda x, s=seed: x[s], groups[i].params) for i in ("backbone", "scratch"))
        for a, b in zip(jax.tree.leaves(ours["trunk"]), jax.tree.leaves(trunk), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
        embedding = (fresh["trunk"]["embed"]["embedding"], trunk["embed"]["embedding"])
        assert np.abs(embedding[0] - embedding[1]).max() > 0.1
    heads = groups["backbone"].params["head"]["weight"]
    assert np.abs(heads[0] - heads[1]).max() > 1e-3  # seeds differ by their heads and their order
    trained = simulation(made, {"proxy.init": "backbone"}).proxies(SIZE)
    facts = trained.artifact.facts
    assert facts["finite"] == [True, True] and len(set(facts["validation_loss"])) == 2


@dataclasses.dataclass(frozen=True)
class KeyStore(Store):
    """Tells the keys that stages would have, and makes none."""

    keys: dict[str, str] = dataclasses.field(default_factory=dict)

    def get(self, stage: str, config: Mapping[str, Any], parents: Sequence[str], make: Make) -> Artifact:
        key = digest([stage, dict(config), list(parents)])
        name = f"{stage} of gold" if "gold" in parents else stage
        self.keys[name] = key
        return Artifact(self.root / stage / key, key, {"facts": {}}, reused=True)


def keys_of(made: Made, changes: dict[str, Any]) -> dict[str, str]:
    store = KeyStore(Path("nowhere"), ORIGIN)
    asked = simulation(made, changes, store)
    asked.__dict__["world"] = made.world
    with contextlib.suppress(InputError):  # there are no weights to load
        asked.proxies(SIZE)
    for of in (["gold", *made.world.keys], [store.keys["proxy"]]):
        asked.pool_scores(None, "", of)
    keys = dict(store.keys)
    proxy, scoring = (
        Artifact(Path(), keys[stage], {"facts": {"finite": [True]}}, reused=True) for stage in ("proxy", "scores")
    )
    asked.__dict__["proxy_scoring"] = lambda group: scoring
    with contextlib.suppress(InputError):  # nor arrays
        curves_of(asked, ProxyGroup(SIZE, made.world.reference, None, proxy))
    return keys | {"curves": store.keys["curves"]}


CURVES, PROXY = {"curves"}, {"proxy", "scores", "curves"}
COMPARISONS, POOL = PROXY | {"comparisons"}, {"pool", "scores", "scores of gold", "curves"}
CHANGES: list[tuple[dict[str, Any], set[str]]] = [
    ({"output": "elsewhere", "store": "elsewhere", "runtime.threads": 1, "runtime.progress": True}, set()),
    ({"runtime.checkpoint_seconds": 1.0}, set()),
    ({"scale": "other", "experiment": "other"}, set()),
    ({"fit.resamples": 500, "fit.level": 0.9, "fit.held_out_kl": 2.0}, set()),
    ({"best_of_n.points": 9}, CURVES),
    ({"best_of_n.max_n": 20}, CURVES),
    ({"best_of_n.table_prompts": 3}, set()),
    ({"best_of_n.samples": 96}, POOL),
    ({"best_of_n.prompts": 5}, POOL),
    ({"best_of_n.seed": 1}, POOL),
    ({"best_of_n.samples_at_once": 12}, POOL),
    ({"best_of_n.prompts_at_once": 4}, POOL),
    ({"proxy.sizes": [SIZE, 9_000]}, set()),
    ({"proxy.seeds": 3}, PROXY),
    ({"proxy.init": "backbone"}, PROXY),
    ({"proxy.readout": "mean"}, PROXY),
    ({"proxy.epochs": 2.0}, PROXY),
    ({"proxy.batch": 16}, PROXY),
    ({"proxy.learning_rate": 0.01}, PROXY),
    ({"comparisons.noise": 0.1}, COMPARISONS),
    ({"comparisons.num": 128}, COMPARISONS),
    ({"comparisons.labels": "soft"}, COMPARISONS),
    ({"comparisons.group_size": 4}, COMPARISONS),
    ({"comparisons.held_out": 0.2}, COMPARISONS),
    ({"comparisons.seed": 1}, COMPARISONS),
    ({"runtime.dtype": "bfloat16"}, COMPARISONS | POOL),
]


@pytest.mark.parametrize(("changes", "expected"), CHANGES, ids=[str(changes) for changes, _ in CHANGES])
def test_a_setting_changes_the_stages_it_bears_on_and_no_others(
    made: Made, changes: dict[str, Any], expected: set[str]
) -> None:
    before, after = keys_of(made, {}), keys_of(made, changes)
    assert set(before) == {"comparisons", "proxy", "pool", "scores", "scores of gold", "curves"} == set(after)
    assert {stage for stage in before if before[stage] != after[stage]} == expected


def tokenizer_key(made: Made, changes: dict[str, Any], folder: Path) -> str:
    environment = changed(changes, made.settings.environment)
    return Builder(environment, Store(folder, ORIGIN), Reporter(False)).tokenizer.key


def test_the_users_ratings_are_known_by_their_content(made: Made, tmp_path: Path) -> None:
    """The same words at another path are found again; other words at the same path are not."""
    data = Path(str(made.settings.environment.data))
    moved = tmp_path / "moved.tsv"
    moved.write_bytes(data.read_bytes())
    store = tmp_path / "store"
    keys = [tokenizer_key(made, {"data": str(path)}, store) for path in (data, moved)]
    write_data(moved, start=1)
    other = tokenizer_key(made, {"data": str(moved)}, store)
    assert keys[0] == keys[1] == made.world.keys[0] != other
    texts = {(store / "tokenizer" / key[:20] / "tokenizer.json").read_text() for key in (keys[0], other)}
    assert len(texts) == 2


def test_shipped_ratings_are_known_by_their_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    assert data_sha256(EnvironmentSettings(data=None)) == DATA_SHA256
    monkeypatch.setattr(build, "DATA_SHA256", "0" * 64)
    store = KeyStore(Path("nowhere"), ORIGIN)
    first = Builder(EnvironmentSettings(release=None), store, Reporter(False)).tokenizer.key
    monkeypatch.undo()
    assert Builder(EnvironmentSettings(release=None), store, Reporter(False)).tokenizer.key != first


def test_ratings_that_are_not_there_are_named(made: Made, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.tsv"):
        tokenizer_key(made, {"data": str(tmp_path / "nowhere.tsv")}, tmp_path / "store")
