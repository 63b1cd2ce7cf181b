"""F6: what policy-gradient optimizers are made of. A method (PPO, RLOO, GRPO, Dr. GRPO) is two pure functions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from synthetic_rm.optimizers.rollout import Rollout
from synthetic_rm.types import Array, Key, Network, Params, Responses


class Hyper(NamedTuple):
    """Numbers of one lane, scalars: traced, so that a sweep over any of them compiles once."""

    learning_rate: Any = 1e-3
    value_learning_rate: Any = 1e-3
    kl_coef: Any = 0.0
    kl_target: Any = 0.0
    """nats the adaptive coefficient steers to; 0: the coefficient is fixed"""
    clip: Any = 0.2
    value_clip: Any = jnp.inf
    gae_lambda: Any = 0.95
    gamma: Any = 1.0
    ptx_coef: Any = 0.0
    warmup: Any = 0.0
    """iterations of linear warm-up"""
    max_jump: Any = jnp.inf
    """largest growth of sqrt(KL) that one iteration may cause"""


class Batch(NamedTuple):
    """What the updates of one iteration are made from; [B, T] unless said."""

    responses: Responses
    """[B]"""
    log_prob: Array
    """of the policy that drew the responses"""
    reference_log_prob: Array
    advantages: Array
    returns: Array
    values: Array


class Method(NamedTuple):
    """What differs between methods."""

    name: str
    has_value: bool
    advantages: Callable[[Rollout, Hyper], tuple[Array, Array]]
    """(rollout, hyper) -> advantages [B, T], returns [B, T] for the value function"""
    loss: Callable[[Array, Array, Batch, Hyper], tuple[Array, Array]]
    """(log-probabilities [B, T], mask [B, T], batch, hyper) -> loss, share of clipped terms"""


class Program(NamedTuple):
    """Everything static: one compiled program for each."""

    method: Method
    network: Network
    value_network: Network | None
    prompts: int
    samples: int
    max_tokens: int
    epochs: int
    minibatches: int
    ptx_rows: int = 0
    """rows of text in the language-model term of each update; 0: no such term"""


class Learner(NamedTuple):
    """What updates change."""

    policy: Params
    value: Params | None
    tx: Any
    value_tx: Any


class RLState(NamedTuple):
    """Everything that changes along one lane."""

    learner: Learner
    before: Learner
    """the learner before the last iteration's updates"""
    distance: Array
    """sqrt(KL) of the last rollout; inf where the next one is accepted whatever it is"""
    rate: Array
    """factor on the learning rates, halved when an iteration went too far"""
    kl_coef: Array
    key: Key
    step: Array
    """iterations done"""
    alive: Array
    """false once something was not finite"""


class Metrics(NamedTuple):
    """Of one iteration; rollout figures belong to the policy before its updates. Scalars."""

    kl: Array
    k1: Array
    k2: Array
    k3: Array
    proxy: Array
    length: Array
    entropy: Array
    repetition: Array
    finished: Array
    kl_coef: Array
    rate: Array
    undone: Array
    """1 where the last iteration went too far and is taken again"""
    first_ratio: Array
    """largest |ln ratio| at the first update"""
    clip_fraction: Array
    update_kl: Array
    """k3 estimate of KL(old || new) per token, mean over updates"""
    loss: Array
    value_loss: Array
    """0 without a value function"""
    explained_variance: Array
    """of the returns by the value function, before its updates; nan without one"""
    gradient_norm: Array
