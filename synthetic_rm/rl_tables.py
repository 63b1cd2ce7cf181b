"""F7: what RL against the proxies leaves: records, runs, curves, samples and histories, in the tables of best-of-n."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from synthetic_rm.curves import curves_of, starts
from synthetic_rm.measuring import setting_columns, standard_error
from synthetic_rm.optimizers.rl import Metrics
from synthetic_rm.optimizers.rollout import Summary
from synthetic_rm.provenance import digest
from synthetic_rm.rl_simulation import RLGroup, RunSeeds, optimized, run_seeds
from synthetic_rm.run_rows import Row, stage_row
from synthetic_rm.simulation import Simulation
from synthetic_rm.types import EOS

STATUS = {"kl_budget": "ok", "max_steps": "ok", "collapsed": "ok", "nonfinite": "nonfinite"}
"""of runs.csv, by how a run ended. A collapse is what optimization led to: without it gold would look better"""
TRAINING = ("clip_fraction", "explained_variance", "update_kl", "gradient_norm")
"""figures of the iteration at a point, its updates included"""


class RLTables(NamedTuple):
    """Tables of RL; the runs that failed or were not finite are in `runs` and `history` alone."""

    records: pd.DataFrame
    runs: list[Row]
    samples: pd.DataFrame
    curves: dict[str, np.ndarray]
    """run [R]; pressure [R, K] updates made, -1 where a run has no more points; proxy, gold [R, K, prompts]"""
    history: pd.DataFrame
    """a row for each iteration of each run"""


class Points(NamedTuple):
    """The points of one run; scores [K, prompts], the reference's at the first."""

    steps: np.ndarray
    proxy: np.ndarray
    """displayed: recalibrated, in gold's unit, recentred"""
    gold: np.ndarray
    native: np.ndarray
    """[K] mean proxy score in the proxy's own logits, recentred"""
    shown_proxy: np.ndarray
    shown_gold: np.ndarray
    """of the first response to each prompt"""
    summary: Summary
    """[K, prompts] each"""
    agreement: np.ndarray


def rl_tables(simulation: Simulation) -> RLTables:
    """Run (or find in the store) every optimization and gather its tables."""
    records, runs, samples, histories = [], [], [], []
    curves: list[tuple[str, Points]] = []
    for group in optimized(simulation):
        factors = curves_of(simulation, group.proxies).recalibration.tolist()
        shown = False
        for lane, seeds in enumerate(run_seeds(simulation.settings.rl)):
            row = run_row(simulation, group, lane, seeds, factors[seeds.proxy])
            points = run_points(simulation, group, lane, seeds, factors[seeds.proxy])
            if row["status"] == "ok":
                row["status"] = points_status(points)
            runs.append(row)
            histories.append(_history(group, lane, row))
            if row["status"] == "ok":
                records.append(run_records(simulation, group, lane, seeds, row["run"], points))
                curves.append((row["run"], points))
                samples.extend([] if shown else sample_rows(simulation, group, lane, seeds, points))
                shown = True
        _tell(simulation, runs[-len(group.artifact.facts["ended"]) :])
    return RLTables(
        pd.concat(records, ignore_index=True) if records else pd.DataFrame(),
        runs,
        pd.DataFrame(samples),
        _curve_arrays(curves),
        pd.concat(histories, ignore_index=True),
    )


def run_row(simulation: Simulation, group: RLGroup, lane: int, seeds: RunSeeds, factor: float) -> Row:
    """A run's row of runs.csv, known by all that determines its curve."""
    origin, facts = simulation.store.origin, group.artifact.facts
    method = str(simulation.settings.rl.method)
    key = digest(
        {
            "stage": method,
            "rl": group.artifact.key,
            "seeds": list(seeds),
            "gold_scores": simulation.gold_scoring.key,
            "comparisons": simulation.comparisons.key,
        }
    )
    kl = group.points["kl"][lane][group.points["step"][lane] >= 0].mean(-1)
    undone = group.history["undone"][lane]
    pool = simulation.proxy_scores(group.proxies)[seeds.proxy]
    return stage_row(group.artifact, origin) | {
        "run": f"{method}-{facts['total']}-s{seeds.proxy}-p{seeds.policy}-{key[:8]}",
        "stage": method,
        "status": STATUS[facts["ended"][lane]],
        "config_hash": key,
        "seconds": group.artifact.manifest["seconds"] / len(facts["ended"]),
        "learning_rate": simulation.settings.rl.learning_rate,
        "recalibration": factor,
        "proxy_seed": seeds.proxy,
        "policy_seed": seeds.policy,
        "ended": facts["ended"][lane],
        "steps": facts["steps"][lane],
        "last_kl": float(kl[-1]),
        "undone": int(np.nansum(undone)),
        **starts(pool, simulation.gold_scores(), factor / simulation.world.gold_scale),
    }


def run_points(simulation: Simulation, group: RLGroup, lane: int, seeds: RunSeeds, factor: float) -> Points:
    """The points of a run on the scales that are shown.

    Both scores are recentred on the pool of best-of-n, drawn by the reference on the same prompts, and the reference's
    own score on a prompt, where KL is 0, is its mean over the pool: many more responses than a point has.
    """
    points, facts = group.points, group.artifact.facts
    kept = points["step"][lane] >= 0
    pool = np.asarray(simulation.proxy_scores(group.proxies)[seeds.proxy], np.float64)
    gold_pool = np.asarray(simulation.gold_scores(), np.float64)
    deviation, unit = facts["proxy_deviation"][seeds.proxy], factor / simulation.world.gold_scale
    native = deviation * points["proxy"][lane][kept].astype(np.float64)
    gold = points["gold"][lane][kept].astype(np.float64) - gold_pool.mean()
    native[0], gold[0] = pool.mean(1) - pool.mean(), gold_pool.mean(1) - gold_pool.mean()
    return Points(
        points["step"][lane][kept].astype(np.int64),
        unit * native,
        gold,
        native.mean(1),
        unit * deviation * points["first_proxy"][lane][kept],
        points["first_gold"][lane][kept] - gold_pool.mean(),
        Summary(*(points[name][lane][kept].astype(np.float64) for name in Summary._fields)),
        points["agreement"][lane][kept].astype(np.float64),
    )


def points_status(points: Points) -> str:
    """ "nonfinite" where a score or KL is not finite, "failed" where the policy never left the reference, else "ok"."""
    measured = (points.proxy, points.gold, points.summary.kl)
    if not all(np.isfinite(values).all() for values in measured):
        return "nonfinite"
    return "ok" if points.summary.kl.max() > 0 else "failed"


def run_records(
    simulation: Simulation, group: RLGroup, lane: int, seeds: RunSeeds, run: str, points: Points
) -> pd.DataFrame:
    """The rows of records.csv of one run, one for each point measured."""
    settings = simulation.settings
    prompts = points.gold.shape[1]
    samples = np.full(len(points.steps), settings.rl.measure_samples)
    samples[0] = settings.best_of_n.samples
    summary = {name: getattr(points.summary, name).mean(1) for name in Summary._fields}
    return pd.DataFrame(
        {
            "run": run,
            **setting_columns(simulation, group.proxies, str(settings.rl.method), settings.rl.kl_coef),
            "proxy_seed": seeds.proxy,
            "policy_seed": seeds.policy,
            "pressure": points.steps,
            "kl": summary["kl"],
            "kl_se": points.summary.kl.std(1, ddof=1) / np.sqrt(prompts),
            "proxy": points.proxy.mean(1),
            "proxy_se": standard_error(points.proxy.T),
            "gold": points.gold.mean(1),
            "gold_se": standard_error(points.gold.T),
            "response_length": summary["length"],
            "num_prompts": prompts,
            "num_samples": samples,
            "proxy_params_nonembedding": group.artifact.facts["non_embedding"],
            "proxy_init": settings.proxy.init,
            "proxy_epochs": settings.proxy.epochs,
            "proxy_native": points.native,
            **{name: summary[name] for name in ("k1", "k2", "k3", "entropy", "repetition", "finished")},
            "agreement": points.agreement.mean(1),
            **{name: group.history[name][lane][points.steps] for name in TRAINING},
        }
    )


def sample_rows(
    simulation: Simulation, group: RLGroup, lane: int, seeds: RunSeeds, points: Points
) -> list[dict[str, Any]]:
    """What the policy says to a few prompts at every point of one run: what hacking looks like."""
    settings, environment = simulation.settings, simulation.world.environment
    prompts = simulation.eval_prompts()
    rows = []
    for i in range(min(settings.rl.table_prompts, len(prompts))):
        for k, step in enumerate(points.steps):
            tokens = group.points["first_tokens"][lane, k, i][: group.points["first_length"][lane, k, i]]
            cut = "" if tokens[-1] == EOS else " …"
            rows.append(
                {
                    "prompt_id": i,
                    "prompt": environment.decode(prompts[i]),
                    "proxy_params": group.artifact.facts["total"],
                    "proxy_seed": seeds.proxy,
                    "proxy": float(points.shown_proxy[k, i]),
                    "gold": float(points.shown_gold[k, i]),
                    "response": environment.decode(tokens) + cut,
                    "optimizer": str(settings.rl.method),
                    "policy_seed": seeds.policy,
                    "pressure": int(step),
                    "kl": float(points.summary.kl[k].mean()),
                }
            )
    return rows


def _history(group: RLGroup, lane: int, row: Row) -> pd.DataFrame:
    steps = group.artifact.facts["steps"][lane]
    named = {
        "run": row["run"],
        "optimizer": row["stage"],
        "status": row["status"],
        "proxy_params": group.artifact.facts["total"],
        "proxy_seed": row["proxy_seed"],
        "policy_seed": row["policy_seed"],
        "step": np.arange(steps),
    }
    figures = {name: [float(f"{x:.6g}") for x in group.history[name][lane][:steps]] for name in Metrics._fields}
    return pd.DataFrame(named | figures)


def _curve_arrays(curves: list[tuple[str, Points]]) -> dict[str, np.ndarray]:
    """The arrays of curves_rl.npz, padded to the run with most points: pressure with -1, scores with 0."""
    most = max((len(points.steps) for _, points in curves), default=0)

    def padded(values: np.ndarray, fill: float) -> np.ndarray:
        return np.pad(values, [(0, most - len(values)), *[(0, 0)] * (values.ndim - 1)], constant_values=fill)

    arrays = {"run": np.array([run for run, _ in curves], dtype=np.str_)}
    if curves:
        arrays["pressure"] = np.stack([padded(points.steps, -1) for _, points in curves])
        for name in ("proxy", "gold"):
            arrays[name] = np.stack([padded(getattr(p, name), 0).astype(np.float32) for _, p in curves])
    return arrays


def _tell(simulation: Simulation, runs: list[Row]) -> None:
    """Where the runs against the proxies of one size ended, in one line."""
    sound = [row for row in runs if row["status"] == "ok"]
    told = [f"{runs[0]['stage']} against proxies {runs[0]['params']:,}:"]
    if sound:
        kl, steps = (np.mean([row[name] for row in sound]) for name in ("last_kl", "steps"))
        told.append(f"KL {kl:.1f} after {steps:.0f} iterations (mean of {len(sound)} runs)")
    lost = len(runs) - len(sound)
    undone = sum(row["undone"] for row in runs)
    told += [f"({undone} went too far and were taken again at half the rate)"] if undone else []
    told += [f"({lost} failed or not finite)"] if lost else []
    simulation.reporter.say(" ".join(told))
