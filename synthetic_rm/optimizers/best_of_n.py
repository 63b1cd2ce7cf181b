"""F6: best-of-n: one pool of N samples per prompt, on disk, from which every n up to N is estimated.

Memory does not grow with the pool: responses and scores are written chunk by chunk to memory-mapped arrays.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from synthetic_rm.comparisons import sampler
from synthetic_rm.divergences import best_of_n_kl, pool_kl
from synthetic_rm.estimators import best_of_n_curve
from synthetic_rm.runtime import concurrently
from synthetic_rm.scoring import score_answers
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


def create_array(path: Path, dtype: Any, shape: tuple[int, ...]) -> np.memmap:
    """A new memory-mapped array whose space on disk is reserved now: a full disk is an OSError, no crash."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


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
) -> Pool:
    """Draw `samples` responses of the policy to every prompt into `folder`.

    Each chunk has a key of its own, folded from its place in the pool, so the pool depends on no order of drawing.
    After each, `on_chunk` is told the samples and the response tokens that it added.
    """
    count = len(prompts)
    token_type = np.uint16 if network.shape.vocab <= 1 << 16 else np.uint32
    shapes = {"tokens": (token_type, max_tokens), "length": (np.int32, None), "log_prob": (np.float32, None)}
    arrays = {
        name: create_array(
            folder / f"{name}.npy", dtype, (count, samples) if width is None else (count, samples, width)
        )
        for name, (dtype, width) in shapes.items()
    }
    np.save(folder / "prompts.npy", prompts, allow_pickle=False)
    draw = sampler(network, samples_at_once, max_tokens)

    def chunk(at: tuple[int, int]) -> tuple[int, int, dict[str, np.ndarray]]:
        i, start = at
        rows = np.arange(i, i + prompts_at_once) % count
        chunk_key = jax.random.fold_in(jax.random.fold_in(key, i), start)
        responses, log_prob = draw(params, chunk_key, jnp.asarray(prompts[rows]))
        drawn = {"tokens": responses.tokens, "length": responses.length, "log_prob": log_prob}
        return i, start, jax.tree.map(np.asarray, drawn)

    places = ((i, start) for i in range(0, count, prompts_at_once) for start in range(0, samples, samples_at_once))
    for i, start, drawn in concurrently(chunk, places):
        rows, columns = min(prompts_at_once, count - i), min(samples_at_once, samples - start)
        for name, values in drawn.items():
            arrays[name][i : i + rows, start : start + columns] = values[:rows, :columns]
        if on_chunk is not None:
            on_chunk(rows * columns, int(drawn["length"][:rows, :columns].sum()))
    for array in arrays.values():
        array.flush()
    return open_pool(folder)


def open_pool(folder: Path) -> Pool:
    """The pool that `draw_pool` left in `folder`."""
    names = ("prompts", "tokens", "length", "log_prob")
    return Pool(*(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in names))


def score_pool(
    members: Any, pool: Pool, identity: np.ndarray, path: Path, *, on_chunk: OnChunk | None = None
) -> np.ndarray:
    """Scores of reward models of one shape (see `score_answers`) over the pool: memory-mapped [members, prompts, N].

    Args:
        identity: [prompts, N], see `response_identity`: what is the same response to a prompt is scored once.
        on_chunk: called after every prompt.
    """
    count = jax.tree.leaves(members)[0].shape[0]
    prompts, samples = pool.length.shape
    scores = create_array(path, np.float32, (count, prompts, samples))

    def score_prompt(i: int) -> tuple[int, np.ndarray]:
        _, first, again = np.unique(identity[i], return_index=True, return_inverse=True)
        found = score_answers(members, pool.prompts[i], pool.tokens[i][first], pool.length[i][first])
        return i, found[:, again]

    for i, found in concurrently(score_prompt, range(prompts)):
        scores[:, i] = found
        if on_chunk is not None:
            on_chunk(samples)
    scores.flush()
    return np.load(path, mmap_mode="r", allow_pickle=False)


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
