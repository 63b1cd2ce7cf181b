"""F7: the rows of runs.csv: every stage and every measured curve once, with its status and what it is known by."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from synthetic_rm.curves import Curves
from synthetic_rm.provenance import digest
from synthetic_rm.simulation import ProxyGroup, Simulation
from synthetic_rm.store import Artifact

Row = dict[str, Any]
NUMBERS = ("train_loss", "validation_loss", "mean_length", "distinct", "dropped")


def each_once(artifacts: Iterable[Artifact]) -> list[Artifact]:
    """The artifacts in their order, one that several parts of a world share (a start that is a backbone) once."""
    first: dict[str, Artifact] = {}
    for artifact in artifacts:
        first.setdefault(artifact.key, artifact)
    return list(first.values())


def stage_row(artifact: Artifact, origin: Mapping[str, Any]) -> Row:
    """A stage of the store: where and when it was made, and its own numbers."""
    facts, manifest = artifact.facts, artifact.manifest
    row = {
        "run": f"{manifest['stage']}-{artifact.key[:8]}",
        "stage": manifest["stage"],
        "status": status(np.all(facts.get("finite", True))),
        "config_hash": artifact.key,
        "commit": manifest.get("commit", origin["commit"]),
        "device": manifest.get("device", origin["device"]),
        "seconds": manifest["seconds"],
        "reused": artifact.reused,
        "params": facts.get("total"),
        "params_nonembedding": facts.get("non_embedding"),
    }
    return row | {key: facts[key] for key in NUMBERS if key in facts}


def release_row(simulation: Simulation) -> Row:
    """The release that a world was loaded from, known by all of its files; its numbers are gold's."""
    world, origin = simulation.world, simulation.store.origin
    gold = world.facts["gold"]
    return {
        "run": f"release-{simulation.settings.environment.release}",
        "stage": "release",
        "status": status(gold.get("finite", True)),
        "config_hash": digest(list(world.keys)),
        "commit": origin["commit"],
        "device": origin["device"],
        "seconds": 0.0,
        "reused": True,
        "params": gold["total"],
        "params_nonembedding": gold["non_embedding"],
        "validation_accuracy": gold["agreement"]["rater"],
    }


def proxy_name(group: ProxyGroup, seed: int) -> str:
    """What runs.csv calls one seed of a group of proxies."""
    return f"proxy-{group.artifact.facts['total']}-s{seed}-{group.artifact.key[:8]}"


def proxy_row(group: ProxyGroup, seed: int, curves: Curves, origin: Mapping[str, Any]) -> Row:
    """One seed of a group of proxies; its seconds are its share of the group's."""
    facts = group.artifact.facts
    return stage_row(group.artifact, origin) | {
        "run": proxy_name(group, seed),
        "status": status(curves.sound[seed]),
        "seconds": group.artifact.manifest["seconds"] / len(facts["finite"]),
        "learning_rate": facts["learning_rate"],
        "train_loss": facts["train_loss"][seed],
        "validation_loss": facts["validation_loss"][seed],
        "validation_accuracy": facts["validation_accuracy"][seed],
        "recalibration": float(curves.recalibration[seed]),
        "proxy_seed": seed,
    }


def curve_row(simulation: Simulation, group: ProxyGroup, scoring: Artifact, seed: int, curves: Curves) -> Row:
    """A best-of-n curve, known by all that determines it: proxy, pool, gold, held-out comparisons, values of n.

    Its seconds are the seed's share of `scoring` the pool and of measuring the curves.
    """
    facts = group.artifact.facts
    key = digest(
        {
            "stage": "best_of_n",
            "proxy": group.artifact.key,
            "seed": seed,
            "pool": simulation.pool.key,
            "proxy_scores": scoring.key,
            "gold_scores": simulation.gold_scoring.key,
            "comparisons": simulation.comparisons.key,
            "pressures": simulation.pressures().tolist(),
        }
    )
    seconds = scoring.manifest["seconds"] + curves.artifact.manifest["seconds"]
    return stage_row(curves.artifact, simulation.store.origin) | {
        "run": f"best_of_n-{facts['total']}-s{seed}-{key[:8]}",
        "stage": "best_of_n",
        "status": status(simulation.gold_scoring.facts["finite"][0]),
        "config_hash": key,
        "seconds": seconds / len(facts["finite"]),
        "params": facts["total"],
        "params_nonembedding": facts["non_embedding"],
        "recalibration": float(curves.recalibration[seed]),
        "proxy_seed": seed,
        "proxy_run": proxy_name(group, seed),
    }


def status(finite: Any) -> str:
    """ "ok", or "nonfinite" where something that was trained or measured did not stay finite."""
    return "ok" if finite else "nonfinite"
