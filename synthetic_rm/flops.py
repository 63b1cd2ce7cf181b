"""F2: floating point operations in the matrix products of a decoder, 2 m n k each. The one home of these counts.

What is left out (norms, rotary turn, softmax, draw, scalar head, Adam) is a few percent from width 32 on.
"""

from synthetic_rm.types import Shape

TRAINING = 3
"""a gradient costs three forward passes: the pass itself, and two products for each of its own on the way back"""


def layer_flops(shape: Shape, context: int) -> int:
    """One token through the layers: L (2 (4 D^2 + 3 D F) + 4 C D), attending to C positions, masked ones included."""
    return shape.layers * (2 * (4 * shape.width**2 + 3 * shape.width * shape.hidden) + 4 * context * shape.width)


def logit_flops(shape: Shape) -> int:
    """One position against the vocabulary: 2 D V."""
    return 2 * shape.width * shape.vocab


def reading_flops(shape: Shape, rows: int, length: int) -> int:
    """R rows of S tokens through the layers."""
    return rows * length * layer_flops(shape, length)


def text_flops(shape: Shape, rows: int, length: int) -> int:
    """R rows of S tokens, with the logits of every one."""
    return rows * length * (layer_flops(shape, length) + logit_flops(shape))


def response_flops(shape: Shape, rows: int, prompt_tokens: int, response_tokens: int) -> int:
    """R responses of T tokens to prompts of P tokens, with the logits that predict the response."""
    return reading_flops(shape, rows, prompt_tokens + response_tokens - 1) + rows * response_tokens * logit_flops(shape)


def sampling_flops(shape: Shape, prompts: int, samples: int, prompt_tokens: int, response_tokens: int) -> int:
    """G prompts of P tokens read once, G N (T - 1) tokens decoded, G N T of them drawn."""
    rows = prompts * samples
    prefill = reading_flops(shape, prompts, prompt_tokens)
    decoded = rows * (response_tokens - 1) * layer_flops(shape, prompt_tokens + response_tokens - 1)
    return prefill + decoded + rows * response_tokens * logit_flops(shape)


def policy_gradient_flops(
    policy: Shape,
    value: Shape | None,
    proxy: Shape,
    *,
    prompts: int,
    samples: int,
    prompt_tokens: int,
    response_tokens: int,
    epochs: int,
    text_rows: int = 0,
) -> int:
    """One iteration of RL: G N responses drawn, read by policy, reference, proxy and value function, and learnt from.

    Args:
        value: None for a method without a value function.
        text_rows: of the language-model term, in all updates of an epoch.
    """
    rows, length = prompts * samples, prompt_tokens + response_tokens
    read = response_flops(policy, rows, prompt_tokens, response_tokens)
    valued = reading_flops(value, rows, length - 1) if value else 0
    updates = epochs * TRAINING * (read + valued + text_flops(policy, text_rows, length - 1))
    drawn = sampling_flops(policy, prompts, samples, prompt_tokens, response_tokens)
    return drawn + 2 * read + reading_flops(proxy, rows, length) + valued + updates
