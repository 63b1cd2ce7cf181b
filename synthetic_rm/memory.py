"""F2: bytes that a decoder's programs take of a device, from its shape alone. Tests hold them to the compiler's count.

Everything is counted as float32, of products in bfloat16 too: there the activations are an upper bound. What is counted
is what lives at once where a program is at its largest.
"""

from typing import NamedTuple, Self

from synthetic_rm.ladder import count_parameters
from synthetic_rm.types import Shape

FLOAT = 4
USABLE = 0.9
"""share of a device's memory that a stage may fill"""


class Memory(NamedTuple):
    """Bytes on one device."""

    parameters: int = 0
    moments: int = 0
    """of Adam, two for each parameter"""
    gradients: int = 0
    """with the parameters and moments that a step proposes beside those it starts from"""
    activations: int = 0
    cache: int = 0
    """keys and values of the sampler"""
    buffers: int = 0
    """data, and what is drawn or scored before it goes to the host"""

    @property
    def total(self) -> int:
        return sum(self)

    def times(self, count: int) -> Self:
        """Of so many of the same side by side."""
        return type(self)(*(count * part for part in self))

    def shared(self, devices: int) -> Self:
        """On each of the devices that share the parameters, and with them moments and gradients."""
        parts = {name: -(-getattr(self, name) // devices) for name in ("parameters", "moments", "gradients")}
        return self._replace(**parts)


def parameter_bytes(shape: Shape) -> int:
    """Of a network with a scalar head."""
    return FLOAT * count_parameters(shape, reward_head=True).total


def pass_floats(shape: Shape, context: int) -> int:
    """Numbers on one token's way through one layer, where they are most: max(4 D + 2 H C, 2 D + 3 F)."""
    return max(4 * shape.width + 2 * shape.heads * context, 2 * shape.width + 3 * shape.hidden)


def kept_floats(shape: Shape, context: int) -> int:
    """Numbers that one token leaves for the way back: L (8 D + 4 F + H C) of the layers, and 2 D of the last norm.

    D: the layer's input and its norm, query, key, value, the heads' mix, the sum after attention and its norm. F: gate,
    its sigmoid, up, their product. H C: the attention.
    """
    layer = 8 * shape.width + 4 * shape.hidden + shape.heads * context
    return shape.layers * layer + 2 * shape.width


def reading_bytes(shape: Shape, length: int) -> int:
    """Of one row of S tokens that is read and left, one layer at a time."""
    return FLOAT * length * pass_floats(shape, length)


def logit_bytes(shape: Shape, positions: int) -> int:
    """Of logits, their softmax and its gradient, or of three arrays like them."""
    return 3 * FLOAT * positions * shape.vocab


def training_row_bytes(shape: Shape, length: int, *, predicts: bool) -> int:
    """Of one row of S tokens under a gradient: what is kept for the way back, and one layer's way back or the logits.

    Args:
        predicts: with the logits of every token.
    """
    back = FLOAT * length * 2 * pass_floats(shape, length)
    kept = FLOAT * length * kept_floats(shape, length)
    return kept + max(back, logit_bytes(shape, length) if predicts else 0)


def training_memory(shape: Shape, length: int, rows: int, *, predicts: bool) -> Memory:
    """One network in training, R rows at once: parameters, two moments, and as much again for the step proposed."""
    size = parameter_bytes(shape)
    row = training_row_bytes(shape, length, predicts=predicts)
    return Memory(parameters=size, moments=2 * size, gradients=3 * size, activations=rows * row)


def training_rows(shape: Shape, length: int, memory: int, *, predicts: bool, copies: int = 1, devices: int = 1) -> int:
    """Rows that can go through training together in so many bytes; 0: not one.

    Args:
        copies: networks trained side by side.
        devices: that share the parameters.
    """
    fixed = training_memory(shape, length, 0, predicts=predicts).shared(devices).total
    return max(0, (memory // copies - fixed) // training_row_bytes(shape, length, predicts=predicts))


def sampling_memory(shape: Shape, prompts: int, samples: int, prompt_tokens: int, response_tokens: int) -> Memory:
    """Drawing N responses of T tokens to each of G prompts of P tokens; the parameters are not counted."""
    rows, length = prompts * samples, prompt_tokens + response_tokens
    places = prompts * prompt_tokens + rows * max(1, response_tokens - 1)
    return Memory(
        activations=rows * FLOAT * pass_floats(shape, length) + logit_bytes(shape, rows),
        cache=2 * FLOAT * shape.layers * shape.width * places,
        buffers=3 * FLOAT * rows * length,
    )


def scoring_memory(shape: Shape, members: int, rows: int, prompt: int, length: int, *, waiting: int) -> Memory:
    """Several reward models that read batches of R rows of S tokens, one after another; all their parameters are there.

    Args:
        waiting: rows in the call of a program, whose scores of every text it gives.
    """
    activations = FLOAT * rows * length * pass_floats(shape, prompt + length)
    buffers = FLOAT * waiting * length * (2 + 2 * members)
    return Memory((members + 1) * parameter_bytes(shape), activations=activations, buffers=buffers)


def lane_memory(
    policy: Shape,
    value: Shape | None,
    proxy: Shape,
    *,
    prompts: int,
    samples: int,
    minibatches: int,
    prompt_tokens: int,
    response_tokens: int,
    text_rows: int = 0,
) -> Memory:
    """One RL run: the learner, the learner before the last iteration and the step proposed; the larger of rollout and
    update; the sampler's cache. The proxy is counted, the reference is not.
    """
    learner = parameter_bytes(policy) + (parameter_bytes(value) if value else 0)
    rows, length = prompts * samples, prompt_tokens + response_tokens
    drawn = sampling_memory(policy, prompts, samples, prompt_tokens, response_tokens)
    four = 4 * FLOAT * rows * response_tokens * policy.vocab  # logits of policy and reference, and their log-softmax
    statistics = four + rows * reading_bytes(policy, length - 1)
    part = rows // minibatches
    update = part * training_row_bytes(policy, length - 1, predicts=True)
    update += text_rows * training_row_bytes(policy, length - 1, predicts=True)
    return Memory(
        parameters=2 * learner + parameter_bytes(proxy),
        moments=4 * learner,
        gradients=6 * learner,
        activations=max(drawn.activations, statistics, update),
        cache=drawn.cache,
        buffers=drawn.buffers,
    )
