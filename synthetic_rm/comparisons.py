"""F5: draw responses of the reference policy and let a labeller prefer."""

import operator
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from synthetic_rm.checkpoints import NO_LOOP, Loop
from synthetic_rm.devices import everywhere, split
from synthetic_rm.errors import require
from synthetic_rm.filling import fill_arrays
from synthetic_rm.losses import pair_indices
from synthetic_rm.policies import policy
from synthetic_rm.scoring import chunks_of
from synthetic_rm.types import Comparisons, Network, Params, Responses

GoldLabels = Literal["hard", "soft", "sampled"]
GOLD_LABELS = ("hard", "soft", "sampled")
ROWS = 256
"""responses drawn in one call of the sampler"""


@cache
def sampler(network: Network, samples: int, max_tokens: int) -> Callable[..., Any]:
    """(params, key, prompts [G, P]) -> (responses [G, samples], log-probabilities): jitted once per shape."""
    draw = policy(network).sample
    return jax.jit(lambda params, key, prompts: everywhere(draw(params, key, split(prompts), samples, max_tokens)))


def draw_groups(
    network: Network,
    params: Params,
    prompts: np.ndarray,
    key: jax.Array,
    *,
    num_groups: int,
    group_size: int,
    max_tokens: int,
    on_chunk: Callable[[int], None] | None = None,
    loop: Loop = NO_LOOP,
) -> Responses:
    """`group_size` responses of the policy to each of `num_groups` prompts.

    Args:
        prompts: [N, P]; taken in order, again from the start when more groups than prompts are asked for.
        key: consumed.
        on_chunk: called with the number of groups drawn since the last call.
        loop: keeps the chunks that are done.
    Returns:
        numpy responses [num_groups, group_size].
    """
    at_once = max(2, ROWS // group_size)
    draw = sampler(network, group_size, max_tokens)
    width = {"prompt": prompts.shape[1:], "tokens": (max_tokens,), "length": ()}

    def draw_chunk(place: slice) -> dict[str, np.ndarray]:
        rows = np.arange(place.start, place.start + at_once) % len(prompts)
        responses, _ = draw(params, jax.random.fold_in(key, place.start), jnp.asarray(prompts[rows]))
        return {name: np.asarray(x)[: place.stop - place.start] for name, x in responses._asdict().items()}

    def tell(made: Mapping[str, np.ndarray]) -> None:
        if on_chunk is not None:
            on_chunk(len(made["length"]))

    shapes = {name: (np.int32, (num_groups, group_size, *width[name])) for name in Responses._fields}
    places = list(chunks_of(num_groups, at_once))
    return Responses(**fill_arrays(shapes, places, draw_chunk, loop, on_chunk=tell))  # type: ignore[arg-type]


def label_by_scores(
    scores: np.ndarray, rng: np.random.Generator, *, kind: GoldLabels, noise: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Labels of every pair of every group by a fixed gold model.

    "hard": the higher score is preferred, always (the paper's choice, section 2.1). "soft": the Bradley-Terry
    probability s(g_i - g_j) itself is the target. "sampled": a preference drawn with that probability (tried in the
    paper's footnote 4). Then every label is turned round with probability `noise`. Equal scores are dropped.

    Args:
        scores: [G, K] gold scores on their native logit scale (which "soft" and "sampled" depend on).
    Returns:
        target [G, C] and weight [G, C], float32.
    """
    require(kind in GOLD_LABELS, f"comparisons.labels={kind!r}: allowed are {', '.join(GOLD_LABELS)}, human")
    require(0.0 <= noise <= 0.5, f"comparisons.noise={noise}: allowed is 0 to 0.5")
    require(bool(np.isfinite(scores).all()), "gold scores must be finite, got nan or inf")
    first, second = pair_indices(scores.shape[1])
    margin = scores[:, first].astype(np.float64) - scores[:, second]
    probability = 0.5 * (1 + np.tanh(margin / 2))
    if kind == "hard":
        target = (margin > 0).astype(np.float32)
    elif kind == "soft":
        target = probability.astype(np.float32)
    else:
        target = (rng.random(margin.shape) < probability).astype(np.float32)
    turned = rng.random(margin.shape) < noise
    return np.where(turned, 1 - target, target).astype(np.float32), (margin != 0).astype(np.float32)


def held_out_groups(num: int, share: float) -> int:
    """Groups held out of `num`: that share of them, rounded, and at least one."""
    return max(1, round(num * share))


def split_groups(comparisons: Comparisons, held_out: float) -> tuple[Comparisons, Comparisons]:
    """(training, held-out) comparisons: the last `held_out_groups` are held out."""
    groups = comparisons.target.shape[0]
    kept = groups - held_out_groups(groups, held_out)
    require(kept >= 1, f"comparisons.held_out={held_out}: leaves none of {groups} groups for training")
    first, last = (jax.tree.map(operator.itemgetter(part), comparisons) for part in (slice(kept), slice(kept, None)))
    return first, last
