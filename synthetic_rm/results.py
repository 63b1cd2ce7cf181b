"""F7: what an experiment leaves: records, runs, per-prompt curves and sample responses, as tables."""

import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from synthetic_rm.curves import TOLD, Curves, curves_of, displayed, end_line
from synthetic_rm.files import write_atomic, write_table
from synthetic_rm.measuring import curve_records, sample_rows
from synthetic_rm.rl_tables import rl_tables
from synthetic_rm.run_rows import Row, curve_row, each_once, proxy_row, release_row, stage_row
from synthetic_rm.simulation import ProxyGroup, Simulation
from synthetic_rm.types import Curve


class Tables(NamedTuple):
    """The tables of an experiment, before they are written."""

    records: pd.DataFrame
    """empty, without columns, where no curve stayed finite"""
    runs: pd.DataFrame
    samples: pd.DataFrame
    curves: dict[str, np.ndarray]
    environment: dict[str, Any]
    rl_curves: dict[str, np.ndarray] | None = None
    """of the runs of RL, with points of their own (see `rl_tables`); None where there were none"""
    history: pd.DataFrame | None = None
    """every iteration of every run of RL"""


class Measured(NamedTuple):
    """What is found of the proxies of one size; a seed that did not stay finite has a row in `runs` alone."""

    runs: list[Row]
    records: list[pd.DataFrame]
    curves: list[tuple[str, Curve]]
    samples: list[dict[str, Any]]


def overoptimization_tables(simulation: Simulation) -> Tables:
    """Tables of best-of-n and, where the settings have a method, of RL against the same proxies."""
    tables = best_of_n_tables(simulation)
    if simulation.settings.rl.method is None or tables.records.empty:
        return tables
    rl = rl_tables(simulation)
    samples = pd.concat([tables.samples.assign(optimizer="best_of_n"), rl.samples], ignore_index=True)
    return tables._replace(
        records=pd.concat([tables.records, rl.records], ignore_index=True),
        runs=pd.concat([tables.runs, pd.DataFrame(rl.runs)], ignore_index=True),
        samples=samples.astype({"n": "Int64"}),
        rl_curves=rl.curves if len(rl.curves["run"]) else None,
        history=rl.history,
    )


def best_of_n_tables(simulation: Simulation) -> Tables:
    """Run (or find in the store) every stage of the best-of-n experiment and gather its tables."""
    world, settings, origin = simulation.world, simulation.settings, simulation.store.origin
    of_policy = simulation.policy.stages
    comparisons = simulation.comparisons
    groups = [simulation.proxies(size) for size in settings.proxy.sizes]
    stages = each_once([*world.stages, *of_policy, comparisons, simulation.pool, simulation.gold_scoring])
    runs = [] if world.stages else [release_row(simulation)]
    runs += [stage_row(stage, origin) for stage in stages]
    measured = [measure_group(simulation, group) for group in groups]
    records = [table for found in measured for table in found.records]
    return Tables(
        pd.concat(records, ignore_index=True) if records else pd.DataFrame(),
        pd.DataFrame(runs + [row for found in measured for row in found.runs]),
        pd.DataFrame([row for found in measured for row in found.samples]),
        _curve_arrays(simulation, [curve for found in measured for curve in found.curves]),
        environment_facts(simulation),
    )


def _curve_arrays(simulation: Simulation, curves: list[tuple[str, Curve]]) -> dict[str, np.ndarray]:
    """The arrays of curves.npz: run [R], pressure [k], proxy and gold [R, k, prompts]."""
    ns = simulation.pressures()
    shape = (len(curves), len(ns), simulation.settings.best_of_n.prompts)
    arrays = {"run": np.array([run for run, _ in curves], dtype=np.str_), "pressure": ns.astype(np.int64)}
    for name in ("proxy", "gold"):
        stacked = [getattr(curve, name).T.astype(np.float32) for _, curve in curves]
        arrays[name] = np.stack(stacked) if stacked else np.zeros(shape, np.float32)
    return arrays


def measure_group(simulation: Simulation, group: ProxyGroup) -> Measured:
    """Measure every proxy of a size. One that is not finite (weights, scores, recalibration) is marked and left out."""
    found, origin = Measured([], [], [], []), simulation.store.origin
    scoring, curves = simulation.proxy_scoring(group), curves_of(simulation, group)
    for seed, sound in enumerate(curves.sound.tolist()):
        found.runs.append(proxy_row(group, seed, curves, origin))
        if sound:
            found.runs.append(curve_row(simulation, group, scoring, seed, curves))
        if sound and found.runs[-1]["status"] == "ok":
            _add_curve(simulation, group, seed, curves, found)
    simulation.reporter.say(group_line(group.artifact.facts["total"], found, curves.recalibration.tolist()))
    return found


def _add_curve(simulation: Simulation, group: ProxyGroup, seed: int, curves: Curves, found: Measured) -> None:
    """The curve of a seed, whose row is the last of `found`; figures, records and samples join it."""
    row = found.runs[-1]
    scale = row["recalibration"] / simulation.world.gold_scale
    curve = displayed(simulation.pressures(), curves.proxy[seed], curves.gold[seed], scale)
    row |= {name: curves.figure(seed, name) for name in TOLD}
    found.records.append(curve_records(simulation, group, seed, row["run"], curves, curve))
    found.curves.append((row["run"], curve))
    if not found.samples:
        found.samples.extend(sample_rows(simulation, group, seed, curves, scale))


def group_line(params: int, found: Measured, factors: list[float]) -> str:
    """What was found of the proxies of one size, in one line."""
    curves, lost = [curve for _, curve in found.curves], len(factors) - len(found.curves)
    told = [f"proxies {params:,}:", end_line(curves) if curves else "no curve"]
    told += [f"(mean of {len(curves)} seeds)"] if len(curves) > 1 else []
    told += [f"({lost} not finite)"] if lost else []
    turned = sum(factor < 0 for factor in factors)
    told += [f"({turned} order held-out pairs against gold)"] if turned else []
    return " ".join(told)


def environment_facts(simulation: Simulation) -> dict[str, Any]:
    """What gold and reference are worth, for the report."""
    facts = simulation.world.facts
    gold, raters = facts["gold"], facts["gold"]["raters"]
    return {
        "environment": simulation.world.environment.name,
        "release": simulation.settings.environment.release or "trained by this run",
        "gold_accuracy": gold["agreement"]["rater"],
        "rater_agreement": raters["rater_vs_majority"]["value"],
        "gold orders pairs as one rater of each does": gold["agreement"]["rater"],
        "gold orders pairs as the majority of raters does": gold["agreement"]["majority"],
        "one rater agrees with another": raters["rater_vs_rater"]["value"],
        "one rater agrees with the other raters' majority": raters["rater_vs_majority"]["value"],
        "half of the raters agrees with the other half": raters["half_vs_half"]["value"],
        "gold parameters": gold["total"],
        "gold: native logits per standard deviation of the reference": gold["reference_deviation"],
        "reference parameters": facts["reference"]["total"],
        "reference: held-out nats per response token": facts["reference"]["validation_loss"],
    }


def write_tables(tables: Tables, folder: Path) -> None:
    """Write runs.csv and environment.json, and, where there are records, the other tables and curves."""
    write_table(tables.runs, folder / "runs.csv")
    write_atomic(folder / "environment.json", (json.dumps(tables.environment, indent=1) + "\n").encode())
    if tables.records.empty:
        return
    write_table(tables.samples, folder / "samples.csv")
    write_table(tables.records, folder / "records.csv")
    write_arrays(tables.curves, folder / "curves.npz")
    if tables.rl_curves is not None:
        write_arrays(tables.rl_curves, folder / "curves_rl.npz")
    if tables.history is not None:
        write_table(tables.history, folder / "history.csv")


def write_arrays(arrays: dict[str, np.ndarray], path: Path) -> None:
    """Write named arrays whole, compressed."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    write_atomic(path, content.getvalue())
