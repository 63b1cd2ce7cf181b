"""F0: the contracts of the house, each stated once. Implementations do not repeat them.

Shapes: `B` rows, `T` response tokens, `P` prompt tokens (the leading begin token included), `S = P + T` tokens of a
whole row, `V` vocabulary, `D` width, `K` responses of a comparison group, `C = K (K - 1) / 2` pairs of a group.
Scores are floats in nats of a logit until they are recentred; KL is in nats of whole responses.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax

Array = jax.Array
Key = jax.Array
Params = Any
"""A pytree of arrays."""

PAD, BOS, EOS = 0, 1, 2
"""Token ids with a meaning; `PAD` only fills space: where a response ends is always said by its `length`."""


class Responses(NamedTuple):
    """Responses and their prompts. Leading axes are shared by the three fields and written `...`."""

    prompt: Array
    """[..., P] token ids, the begin token first."""
    tokens: Array
    """[..., T] token ids, whatever beyond `length`."""
    length: Array
    """[...] number of response tokens, the end token included if there is one; at least 1."""


class Shape(NamedTuple):
    """Everything that fixes a network's arrays."""

    vocab: int
    width: int
    layers: int
    heads: int
    hidden: int
    """width of the gated feed-forward layer"""


class Network(NamedTuple):
    """A causal decoder as pure functions over `params`. Made by `networks.transformer`."""

    shape: Shape
    init: Callable[[Key], Params]
    """key (consumed) -> params, with a trunk and a tied embedding; the scalar head of a reward model is not here."""
    hidden: Callable[[Params, Array], Array]
    """(params, tokens [B, S]) -> float32 [B, S, D]: position s sees tokens 0..s only."""
    logits: Callable[[Params, Array], Array]
    """(params, hidden [..., D]) -> float32 next-token logits [..., V]."""
    prefill: Callable[[Params, Array], tuple[Array, Any]]
    """(params, prompts [G, P]) -> (float32 hidden [G, P, D], prompt cache)."""
    decode: Callable[[Params, Any, Any, Array, Array], tuple[Array, Any]]
    """(params, prompt cache, response cache, tokens [G, N], step) -> (hidden [G, N, D], response cache):
    feed response token number `step` of N samples for each of the G prompts."""
    response_cache: Callable[[int, int, int], Any]
    """(G, N, T) -> an empty response cache."""
    packed: Callable[[Params, Any, Array, Array], Array] | None = None
    """(params, cache of one prompt or None, tokens [B, S], length [B, K]) -> float32 [B, S, D]: a row holds K texts one
    after another, of `length` tokens each (0: none); a token sees the prompt and its own text up to itself. None: the
    network reads rows of one text only."""


class RewardModel(Protocol):
    """A callable pytree: prompt and response in, one score out."""

    def __call__(self, responses: Responses) -> Array:
        """Scores, float32 [...], of `responses` [...]. Padding, batch size and order change no score."""
        ...


@runtime_checkable
class PackedReward(RewardModel, Protocol):
    """A reward model that can read several responses from one row, which spares padding."""

    @property
    def network(self) -> Network: ...

    def reader(self, prompt: Array | None) -> Callable[[Array, Array], Array]:
        """A function (tokens [B, S], length [B, K]) -> scores, float32 [B, K], of rows of K texts one after another.

        With a prompt [P], read once, the texts are responses to it. With none they are prompts and responses. Where
        there is no text, its length 0, there is no score: whatever number.
        """
        ...


class Policy(NamedTuple):
    """A distribution over responses as pure functions over `params`. Temperature is 1 everywhere."""

    init: Callable[[Key], Params]
    sample: Callable[[Params, Key, Array, int, int], tuple[Responses, Array]]
    """(params, key (consumed), prompts [G, P], N, T) -> (responses [G, N], their log-probabilities [G, N])."""
    log_prob: Callable[[Params, Responses], Array]
    """(params, responses [B]) -> log-probability of every response token, float32 [B, T], 0 beyond `length`."""
    kl: Callable[[Params, Params, Responses], Array]
    """(params, reference params, responses [B]) -> exact token KL(params || reference) summed over tokens, [B]."""


class Comparisons(NamedTuple):
    """Groups of K responses and who is preferred to whom. Pairs i < j in `itertools.combinations` order."""

    responses: Responses
    """[G, K] responses (in synthetic comparisons, all K answer one prompt)."""
    target: Array
    """[G, C] probability, under the label, that response i is preferred to response j."""
    weight: Array
    """[G, C] weight of the pair in the loss; 0 for a dropped tie."""


class Environment(Protocol):
    """Prompts to answer, demonstrations to imitate, human comparisons to learn from. Holds no reward model."""

    @property
    def name(self) -> str: ...

    @property
    def vocab(self) -> int: ...

    @property
    def prompt_tokens(self) -> int: ...

    @property
    def response_tokens(self) -> int: ...

    def prompts(self, split: str) -> Any:
        """[N, P] prompts of the split "train", "validation" or "test", in a fixed order."""
        ...

    def demonstrations(self, split: str) -> Responses:
        """[N] human responses to the prompts of the split."""
        ...

    def decode(self, tokens: Any) -> str:
        """Token ids of a prompt or response -> text."""
        ...


class Curve(NamedTuple):
    """What happened along one optimization, per held-out prompt."""

    pressure: Any
    """[k] n of best-of-n, update steps, or one over the coefficient of a regularised optimum."""
    kl: Any
    """[k] nats."""
    proxy: Any
    """[prompts, k]"""
    gold: Any
    """[prompts, k]"""


Optimizer = Callable[..., Curve]
"""A way to raise the proxy score. It never sees the gold model: gold enters where a curve is measured."""
