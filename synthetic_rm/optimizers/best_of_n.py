"""F6: best-of-n: one pool of N samples per prompt, on disk, from which every n up to N is estimated.

Memory does not grow with the pool: responses and scores are written chunk by chunk to memory-mapped arrays.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from synthetic_rm.checkpoints import NO_LOOP, Loop
from synthetic_rm.comparisons import sampler
from synthetic_rm.divergences import best_of_n_kl, pool_kl
from synthetic_rm.estimators import best_of_n_curve
from synthetic_rm.filling import fill_arrays
from synthetic_rm.reading import open_npy
from synthetic_rm.scoring import chunks_of, score_answers
from synthetic_rm.types import PAD, Curve, Network, Params

OnChunk = Callable[[int], None]
"""called with the number of samples done so far"""


class Pool(NamedTuple):
    """N responses to each prompt, as memory-mapped arrays."""

    prompts: np.ndarray
    """[prompts, P]"""
    tokens: np.ndarray
    """[prompts, N, T] unsigned, `PAD` beyond the response"""
    length: np.ndarray
    """[prompts, N]"""
    log_prob: np.ndarray
    """[prompts, N] float32 log-probability of the response under the policy that drew it"""


def draw_pool(
    network: Network,
    params: Params,
    prompts: np.ndarray,
    key: jax.Array,
    folder: Path,
    *,
    samples: int,
    max_tokens: int,
    prompts_at_once: int = 8,
    samples_at_once: int = 32,
    on_chunk: Callable[[int, int], None] | None = None,
    loop: Loop = NO_LOOP,
) -> Pool:
    """Draw `samples` responses of the policy to every prompt into `folder`.

    Each chunk has a key of its own, folded from its place in the pool, so the pool depends on no order of drawing.
    After each, `on_chunk` is told the samples and the response tokens that it added, and `loop` keeps it.
    """
    count = len(prompts)
    token_type = np.uint16 if network.shape.vocab <= 1 << 16 else np.uint32
    types: dict[str, tuple[Any, ...]] = {
        "tokens": (token_type, max_tokens),
        "length": (np.int32,),
        "log_prob": (np.float32,),
    }
    shapes = {name: (dtype, (count, samples, *width)) for name, (dtype, *width) in types.items()}
    np.save(folder / "prompts.npy", prompts, allow_pickle=False)
    draw = sampler(network, samples_at_once, max_tokens)

    def chunk(place: tuple[slice, slice]) -> dict[str, np.ndarray]:
        i, start = (part.start for part in place)
        rows = np.arange(i, i + prompts_at_once) % count
        chunk_key = jax.random.fold_in(jax.random.fold_in(key, i), start)
        responses, log_prob = draw(params, chunk_key, jnp.asarray(prompts[rows]))
        drawn = {"tokens": responses.tokens, "length": responses.length, "log_prob": log_prob}
        held = tuple(slice(part.stop - part.start) for part in place)
        return {name: np.asarray(values)[held] for name, values in drawn.items()}

    def tell(made: Mapping[str, np.ndarray]) -> None:
        if on_chunk is not None:
            on_chunk(made["length"].size, int(made["length"].sum()))

    places = [(i, j) for i in chunks_of(count, prompts_at_once) for j in chunks_of(samples, samples_at_once)]
    fill_arrays(shapes, places, chunk, loop, into=folder, on_chunk=tell)
    return open_pool(folder)


def open_pool(folder: Path) -> Pool:
    """The pool that `draw_pool` left in `folder`."""
    names = ("prompts", "tokens", "length", "log_prob")
    return Pool(*(open_npy(folder / f"{name}.npy") for name in names))


def score_pool(
    members: Any,
    pool: Pool,
    identity: np.ndarray,
    path: Path,
    *,
    on_chunk: OnChunk | None = None,
    loop: Loop = NO_LOOP,
) -> np.ndarray:
    """Scores of reward models of one shape (see `score_answers`) over the pool: memory-mapped [members, prompts, N].

    Args:
        identity: [prompts, N], see `response_identity`: what is the same response to a prompt is scored once.
        on_chunk: called after every prompt.
        loop: keeps the prompts that are done.
    """
    count = jax.tree.leaves(members)[0].shape[0]
    prompts, samples = pool.length.shape
    name = path.stem

    def score_prompt(place: tuple[slice, int]) -> dict[str, np.ndarray]:
        i = place[1]
        _, first, again = np.unique(identity[i], return_index=True, return_inverse=True)
        found = score_answers(members, pool.prompts[i], pool.tokens[i][first], pool.length[i][first])
        return {name: found[:, again]}

    def tell(_: Any) -> None:
        if on_chunk is not None:
            on_chunk(samples)

    places = [(slice(None), i) for i in range(prompts)]
    shapes = {name: (np.float32, (count, prompts, samples))}
    return fill_arrays(shapes, places, score_prompt, loop, into=path.parent, on_chunk=tell)[name]


def response_identity(pool: Pool) -> np.ndarray:
    """[prompts, N] ids that are equal where two responses to one prompt are the same token for token."""
    ids = np.empty(pool.length.shape, np.int64)
    width = pool.tokens.shape[-1]
    for i in range(len(pool.prompts)):
        kept = np.arange(width)[None] < pool.length[i][:, None]
        tokens = np.where(kept, pool.tokens[i], PAD)
        rows = np.ascontiguousarray(np.concatenate([tokens, pool.length[i][:, None]], axis=1).astype(np.int32))
        ids[i] = np.unique(rows.view([("", rows.dtype)] * rows.shape[1]).ravel(), return_inverse=True)[1]
    return ids


def measure(proxy: np.ndarray, gold: np.ndarray, ns: np.ndarray) -> Curve:
    """The best-of-n curve of one proxy: proxy, gold [prompts, N] scores of the same pool, ns [k].

    KL is the paper's ln n - (n - 1) / n, exact while no response of the pool repeats (see `support_kl`).
    """
    proxy_n, gold_n = best_of_n_curve(proxy, gold, ns)
    return Curve(ns, best_of_n_kl(ns), proxy_n, gold_n)


def support_kl(proxy: np.ndarray, identity: np.ndarray, ns: np.ndarray) -> np.ndarray:
    """[k] mean over prompts of the exact KL of best-of-n when the pool, repeats merged, is the whole support."""
    return np.asarray(pool_kl(proxy, identity, ns)).mean(axis=0)
