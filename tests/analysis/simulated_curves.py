"""Best-of-n curves of known coefficients, with everything that makes real ones uncertain."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from synthetic_rm.divergences import best_of_n_kl
from synthetic_rm.estimators import ns_grid

Floats = NDArray[np.float64]

NS = ns_grid(4096, 20)
KL = np.asarray(best_of_n_kl(NS))
DISTANCE = np.sqrt(KL)
WOBBLES = np.stack([0.3 * DISTANCE, 0.08 * DISTANCE**2, 0.1 * DISTANCE * np.sin(2 * DISTANCE)])


def crossed_gold(
    rng: np.random.Generator,
    mean: Floats,
    *,
    seeds: int,
    prompts: int,
    seed_effect: float,
    prompt_effect: float,
    noise: float,
) -> Floats:
    """gold [seeds, K, prompts] = mean [K] + effects of seeds, prompts, and both, correlated along n."""

    def effect(*levels: int) -> Floats:
        return np.einsum("spi,ik->skp", rng.normal(size=(*levels, len(WOBBLES))), WOBBLES)

    walk = rng.normal(size=(seeds, prompts, KL.size)) * np.sqrt(np.diff(DISTANCE, prepend=0))
    return np.asarray(
        mean[None, :, None]
        + seed_effect * effect(seeds, 1)
        + prompt_effect * effect(1, prompts)
        + noise * (effect(seeds, prompts) + 0.3 * np.cumsum(walk, axis=-1).swapaxes(1, 2))
    )


def run_tables(gold_of_size: dict[int, Floats], level: float = 0.0) -> tuple[dict[str, NDArray], pd.DataFrame]:
    """(arrays of curves.npz, records) of gold [seeds, K, prompts] by proxy size, `level` added to all."""
    runs, rows = [], []
    for size, gold in gold_of_size.items():
        for seed in range(len(gold)):
            runs.append(f"best_of_n-{size}-s{seed}")
            rows += [
                {
                    "run": runs[-1],
                    "optimizer": "best_of_n",
                    "mitigation": "none",
                    "proxy_params": size,
                    "kl_coef": np.nan,
                    "proxy_seed": seed,
                    "pressure": n,
                    "kl": kl,
                }
                for n, kl in zip(NS, KL, strict=True)
            ]
    gold = np.concatenate(list(gold_of_size.values())).astype(np.float32) + np.float32(level)
    proxy = gold + DISTANCE[None, :, None].astype(np.float32)
    return {"run": np.array(runs), "pressure": NS, "proxy": proxy, "gold": gold}, pd.DataFrame(rows)
