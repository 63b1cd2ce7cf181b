"""A tiny world with every stage of an experiment, made once in a session of tests; its store is shared."""

import os
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from synthetic_rm.environments.reviews.ratings import COLUMNS, load_snippets
from synthetic_rm.progress import Reporter
from synthetic_rm.results import Tables, best_of_n_tables
from synthetic_rm.settings import BuildSettings, EnvironmentSettings, Settings
from synthetic_rm.settings_checks import validate
from synthetic_rm.simulation import Simulation
from synthetic_rm.store import Store
from synthetic_rm.world import World

ORIGIN = {"commit": "0123abcd", "device": "cpu: test"}
SIZE, HELD_OUT, TRAINING = 2_000, 24, 72
RL_SIZES: dict[str, Any] = {
    "rl.method": "ppo",
    "rl.proxy_seeds": 2,
    "rl.prompts": 8,
    "rl.samples": 2,
    "rl.minibatches": 2,
    "rl.learning_rate": 0.01,
    "rl.spacing": 0.25,
    "rl.measure_samples": 4,
}
RL = RL_SIZES | {
    "rl.warmup": 0.0,
    "rl.kl_budget": 1.5,
    "rl.max_steps": 30,
    "rl.measure_every": 10,
    "rl.table_prompts": 2,
}


def changed(changes: dict[str, Any], settings: Any) -> Any:
    for key, value in changes.items():
        head, _, rest = key.partition(".")
        inner = changed({rest: value}, getattr(settings, head)) if rest else value
        settings = replace(settings, **{head: inner})
    return settings


def write_data(path: Path, start: int = 0) -> str:
    rows = [(s.domain, s.id, " ".join(map(str, s.ratings)), s.text) for s in load_snippets()[start::20]]
    path.write_text("".join("\t".join(row) + "\n" for row in (COLUMNS, *rows)), encoding="utf-8")
    return str(path)


class Made(NamedTuple):
    settings: Settings
    store: Path
    world: World
    tables: Tables


def simulation(made: Made, changes: dict[str, Any] | None = None, store: Store | None = None) -> Simulation:
    settings = changed(changes or {}, made.settings)
    validate(settings)
    return Simulation(settings, store or Store(made.store, ORIGIN), Reporter(False))


def without_curves(made: Made, folder: Path, every: float | None = None) -> Store:
    """A store in a folder that is not there yet, of every stage but the curves, which are then measured anew."""
    shutil.copytree(made.store, folder, copy_function=os.link, ignore=shutil.ignore_patterns("curves"))
    return Store(folder, ORIGIN, checkpoint_seconds=every)


def tiny_world(temporary: pytest.TempPathFactory) -> Made:
    """The tiny world of this session of tests."""
    return _made(temporary.getbasetemp() / "tiny_world")


@cache
def _made(folder: Path) -> Made:
    """Every stage once."""
    folder.mkdir()
    settings = tiny_settings(folder)
    first = Simulation(settings, Store(folder / "store", ORIGIN), Reporter(False))
    return Made(settings, folder / "store", first.world, best_of_n_tables(first))


def tiny_settings(folder: Path) -> Settings:
    """One shape of everything that is compiled: networks, batches, numbers of steps; the ratings go into the folder."""
    steps = dict.fromkeys(("reference_steps", "gold_steps", "backbone_steps"), 5)
    build = BuildSettings(
        reference_size=SIZE,
        gold_size=SIZE,
        backbone_sizes=[SIZE],
        batch=16,
        sft_epochs=0.1,
        gold_groups=TRAINING,
        gold_group_size=2,
        gold_batch=8,
        gold_readout="last",
        calibration_samples=256,
        **steps,
    )
    data = write_data(folder / "ratings.tsv")
    environment = EnvironmentSettings(
        release=None, data=data, vocab=300, prompt_tokens=4, response_tokens=12, build=build
    )
    sizes: dict[str, Any] = {"comparisons.num": TRAINING + HELD_OUT, "comparisons.held_out": 0.25}
    sizes |= {"proxy.sizes": [SIZE], "proxy.seeds": 2, "proxy.batch": 8, "proxy.learning_rate": 0.02}
    sizes |= {"proxy.init": "scratch"}
    sizes |= {"best_of_n.prompts": 4, "best_of_n.samples": 48, "best_of_n.points": 6, "best_of_n.table_prompts": 2}
    sizes |= {"best_of_n.prompts_at_once": 2, "best_of_n.samples_at_once": 24, "fit.resamples": 100}
    sizes |= {"rl.method": None}
    return changed(sizes, Settings(scale="tiny", environment=environment))  # type: ignore[no-any-return]
