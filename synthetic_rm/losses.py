"""F1: training losses, each for one batch; batching over seeds is `vmap` at the call site."""

from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np

from synthetic_rm.types import Array


@jax.custom_vjp
def token_loss(logits: Array, targets: Array) -> Array:
    """-log softmax(logits)[target] in nats: logits [..., V], targets [...] ids -> [...].

    Its gradient, softmax - one hot, is written out: the derived one scatters into the whole vocabulary.
    """
    return _token_loss_forward(logits, targets)[0]


def _token_loss_forward(logits: Array, targets: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    normaliser = jax.nn.logsumexp(logits, axis=-1)
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return normaliser - chosen, (logits, normaliser, targets)


def _token_loss_backward(saved: tuple[Array, Array, Array], g: Array) -> tuple[Array, None]:
    logits, normaliser, targets = saved
    hot = jax.nn.one_hot(targets, logits.shape[-1])
    return g[..., None] * (jnp.exp(logits - normaliser[..., None]) - hot), None


token_loss.defvjp(_token_loss_forward, _token_loss_backward)


def next_token_loss(logits: Array, targets: Array, weight: Array) -> Array:
    """Mean over weighted positions of -log softmax(logits)[target], in nats per token.

    Args:
        logits: [..., S, V]; targets: [..., S] ids; weight: [..., S], 0 where nothing is to be predicted.
    """
    return jnp.sum(token_loss(logits, targets) * weight) / jnp.maximum(jnp.sum(weight), 1.0)


def pair_indices(group_size: int) -> tuple[np.ndarray, np.ndarray]:
    """(i, j) of the C = K (K - 1) / 2 pairs i < j of a group, in `itertools.combinations` order; each [C]."""
    pairs = np.array(list(combinations(range(group_size), 2)), dtype=np.int32).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def pair_margins(scores: Array) -> Array:
    """r_i - r_j of every pair i < j: scores [..., K] -> [..., C]."""
    first, second = pair_indices(scores.shape[-1])
    return scores[..., first] - scores[..., second]


def bradley_terry_loss(margins: Array, target: Array) -> Array:
    """Cross-entropy -t log s(m) - (1 - t) log s(-m) of each pair, s the logistic function; shapes [...]."""
    return jax.nn.softplus(margins) - target * margins


def ranking_loss(scores: Array, target: Array, weight: Array) -> Array:
    """K-way ranking loss of InstructGPT (Ouyang et al. 2022, eq. 1): every pair of a group in one batch element.

    loss = mean over groups of (1 / sum_c w_c) sum_c w_c CE(t_c, s(r_i - r_j)); groups without weight do not count.

    Args:
        scores: [G, K]; target, weight: [G, C], pairs in `pair_indices` order.
    Returns:
        scalar, nats.
    """
    losses = bradley_terry_loss(pair_margins(scores), target) * weight
    total = weight.sum(-1)
    per_group = losses.sum(-1) / jnp.where(total > 0, total, 1.0)
    return per_group.sum() / jnp.maximum((total > 0).sum(), 1)


def pair_accuracy(scores: Array, target: Array, weight: Array) -> tuple[Array, Array]:
    """(sum, count) of weighted pairs ordered as their target says; equal scores count half, targets of 1/2 nothing."""
    margins = pair_margins(scores)
    counted = weight * (target != 0.5)
    right = jnp.where(margins == 0, 0.5, (margins > 0) == (target > 0.5))
    return (right * counted).sum(), counted.sum()
