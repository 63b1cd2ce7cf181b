"""F7: the best-of-n curves of every proxy of one size as a stage, from which all tables are read."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from synthetic_rm.checkpoints import Checkpoints
from synthetic_rm.divergences import best_of_n_kl
from synthetic_rm.estimators import best_of_n_curve
from synthetic_rm.filling import fill_arrays
from synthetic_rm.optimizers.best_of_n import measure, support_kl
from synthetic_rm.reading import open_npy
from synthetic_rm.simulation import ProxyGroup, Simulation
from synthetic_rm.store import Artifact
from synthetic_rm.tails import pool_tail
from synthetic_rm.types import Curve

TOLD = ("tail_k", "hill", "hill_se", "tail_moment", "gold_start", "proxy_start")
"""figures of a seed that runs.csv tells, see `pool_tail` and `starts`"""
FIGURES = (*TOLD, "proxy_mean", "gold_mean")
"""and the means over the pool on which scores are recentred"""


class Curves(NamedTuple):
    """What the stage holds, by seed; nan, but for `sound` and `recalibration`, where there is no curve.

    Proxies rank by their own logits, whatever their factor; `displayed` puts them on the displayed scale.
    """

    artifact: Artifact
    """its facts say of which seeds there is a curve ("finite"): sound ones, where gold's scores are finite too"""
    sound: np.ndarray
    """[seeds] whether training, scores and recalibration stayed finite"""
    recalibration: np.ndarray
    """[seeds] see `Simulation.recalibration`"""
    figures: np.ndarray
    """[seeds, FIGURES]"""
    proxy: np.ndarray
    """[seeds, prompts, k] native logits, recentred on the pool"""
    gold: np.ndarray
    """[seeds, prompts, k] standard deviations of the reference, recentred on the pool"""
    response_length: np.ndarray
    """[seeds, k] tokens, mean over prompts"""
    kl_support: np.ndarray
    """[seeds, k] see `support_kl`"""

    def figure(self, seed: int, name: str) -> float:
        """One of FIGURES."""
        return float(self.figures[seed, FIGURES.index(name)])


def curves_of(simulation: Simulation, group: ProxyGroup) -> Curves:
    """Measure every proxy of a size (or find that in the store)."""
    artifact = _curves(simulation, group)
    arrays = {name: np.asarray(open_npy(artifact.path / f"{name}.npy")) for name in Curves._fields[1:]}
    return Curves(artifact, **arrays)


def _curves(simulation: Simulation, group: ProxyGroup) -> Artifact:
    ns, facts = simulation.pressures(), group.artifact.facts
    scoring, gold_scoring = simulation.proxy_scoring(group), simulation.gold_scoring
    seeds, prompts, k = len(facts["finite"]), simulation.settings.best_of_n.prompts, len(ns)
    shapes: dict[str, tuple[Any, tuple[int, ...]]] = {
        "sound": (np.bool_, (seeds,)),
        "recalibration": (np.float64, (seeds,)),
        "figures": (np.float64, (seeds, len(FIGURES))),
        "proxy": (np.float64, (seeds, prompts, k)),
        "gold": (np.float64, (seeds, prompts, k)),
        "response_length": (np.float64, (seeds, k)),
        "kl_support": (np.float64, (seeds, k)),
    }

    def make(folder: Path, checkpoints: Checkpoints) -> dict[str, Any]:
        scores, gold = simulation.proxy_scores(group), simulation.gold_scores()
        lengths = np.asarray(simulation.open_pool().length, np.float64)
        identity = open_npy(simulation.pool.path / "identity.npy")

        def measure_seed(place: slice) -> dict[str, np.ndarray]:
            seed = place.start
            factor = simulation.recalibration(group, seed)
            sound = bool(facts["finite"][seed] and np.isfinite(scores[seed]).all() and np.isfinite(factor))
            found = {name: np.full(shape[1:], np.nan) for name, (_, shape) in shapes.items()}
            found |= {"sound": np.array(sound), "recalibration": np.array(factor)}
            if sound and gold_scoring.facts["finite"][0]:
                scale = factor / simulation.world.gold_scale
                found |= measured(scores[seed], gold, lengths, identity, ns, scale)
            return {name: x[None] for name, x in found.items()}

        with simulation.reporter.bar(f"best of n, proxies {facts['total']:,}", seeds, "curves") as bar:

            def tell(arrays: Any) -> None:
                (factor,), (proxy,), (gold,) = (arrays[name] for name in ("recalibration", "proxy", "gold"))
                curve = displayed(ns, proxy, gold, factor / simulation.world.gold_scale)
                bar.advance(1, end_line([curve]) if np.isfinite(proxy).all() else "not finite")

            places = [slice(seed, seed + 1) for seed in range(seeds)]
            loop = checkpoints.loop("measured")
            arrays = fill_arrays(shapes, places, measure_seed, loop, into=folder, on_chunk=tell, at_once=1)
        return {"finite": [bool(np.isfinite(curve).all()) for curve in arrays["gold"]]}

    parents = [group.artifact.key, simulation.comparisons.key, scoring.key, gold_scoring.key]
    parents += [simulation.held_out_scoring.key]
    return simulation.store.get("curves", {"pressures": ns.tolist()}, parents, make)


def measured(
    raw: np.ndarray, gold: np.ndarray, lengths: np.ndarray, identity: np.ndarray, ns: np.ndarray, scale: float
) -> dict[str, np.ndarray]:
    """Arrays of `Curves` of one seed.

    Args:
        raw, gold: [prompts, N] finite scores of the pool as they are: the proxy's logits, gold's standard deviations.
        lengths: [prompts, N] float64, tokens.
        identity: [prompts, N], see `response_identity`.
        ns: [k] the values of n.
        scale: what a native logit counts on the displayed scale: the recalibration factor over gold's native scale.
            Negative where the proxy orders held-out pairs against gold; what is displayed then falls as n grows.
    """
    means = {"proxy_mean": np.asarray(raw, np.float64).mean(), "gold_mean": gold.mean()}
    native, centred = recentred(raw, gold, **means)
    curve = measure(native, centred, ns)
    figures = pool_tail(native) | starts(raw, gold, scale) | means
    return {
        "figures": np.array([figures[name] for name in FIGURES], np.float64),
        "proxy": curve.proxy,
        "gold": curve.gold,
        "response_length": best_of_n_curve(native, lengths, ns)[1].mean(0),
        "kl_support": support_kl(native, identity, ns),
    }


def recentred(raw: np.ndarray, gold: np.ndarray, proxy_mean: float, gold_mean: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores [..., N] less their means over the whole pool: the proxy's in float64, gold's as they are stored."""
    return np.asarray(raw, np.float64) - proxy_mean, gold - gold.dtype.type(gold_mean)


def starts(raw: np.ndarray, gold: np.ndarray, scale: float) -> dict[str, float]:
    """What a policy scores before it is optimized, which recentring takes away: policies can be compared by it.

    Args:
        raw, gold, scale: as of `measured`.
    Returns:
        gold_start, in SDs of the reference; proxy_start, on the displayed scale, up to a constant of the proxy's.
    """
    return {
        "gold_start": float(np.mean(gold, dtype=np.float64)),
        "proxy_start": scale * float(np.mean(raw, dtype=np.float64)),
    }


def displayed(ns: np.ndarray, proxy: np.ndarray, gold: np.ndarray, scale: float) -> Curve:
    """One of the curves [prompts, k] with its proxy scores on the displayed scale, see `measured`."""
    return Curve(ns, best_of_n_kl(ns), scale * proxy, gold)


def end_line(curves: list[Curve]) -> str:
    """Where the curves end, on average: KL, proxy and gold at the largest n."""
    proxy, gold = (np.mean([getattr(curve, name)[:, -1] for curve in curves]) for name in ("proxy", "gold"))
    return f"n {curves[0].pressure[-1]:,}, KL {curves[0].kl[-1]:.2f}, proxy {proxy:.2f}, gold {gold:.2f}"
