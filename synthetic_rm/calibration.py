"""F7: what gold's scores are worth: their mean and spread on the reference, their agreement with people."""

from typing import Any

import jax
import numpy as np

from synthetic_rm.checkpoints import Checkpoints
from synthetic_rm.comparisons import draw_groups
from synthetic_rm.environments.reviews.environment import Reviews
from synthetic_rm.rewards.neural import NeuralReward
from synthetic_rm.scoring import score
from synthetic_rm.types import Network, Params, Responses


def calibrate(
    model: NeuralReward,
    environment: Reviews,
    policy: Network,
    params: Params,
    checkpoints: Checkpoints,
    *,
    samples: int,
    seed: int,
) -> tuple[float, float]:
    """Mean and standard deviation of a reward model's scores over reference responses to training prompts."""
    drawn = draw_groups(
        policy,
        params,
        environment.prompts("train"),
        jax.random.key(seed + 17),
        num_groups=max(1, samples // 2),
        group_size=2,
        max_tokens=environment.response_tokens,
        loop=checkpoints.loop("drawn"),
    )
    flat = Responses(*(x.reshape(-1, *x.shape[2:]) for x in drawn))
    scores = score(model, flat, checkpoints.loop("scored"))
    return float(scores.mean(dtype=np.float64)), float(scores.std(dtype=np.float64))


def gold_facts(model: NeuralReward, environment: Reviews, split: str) -> dict[str, Any]:
    """Agreement of gold with the raters on a held-out split, beside the raters' agreement with each other."""
    scores = score(model, environment.part(split).responses)
    agreement = environment.agreement_with_raters(split, scores)
    raters = environment.rater_agreement(split)
    ceiling = {
        name: {"value": found["overall"].value, "se": found["overall"].se} for name, found in raters._asdict().items()
    }
    return {"split": split, "agreement": agreement, "raters": ceiling}
