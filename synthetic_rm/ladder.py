"""F2: the ladder of model sizes: from a parameter budget to a shape, and exact counts.

Sizes are total parameter counts, embeddings included; the count without them (Kaplan et al. 2020) is given beside it.
"""

import math
from functools import cache
from typing import NamedTuple

from synthetic_rm.errors import require
from synthetic_rm.types import Shape

MAX_WIDTH = 8192
TOLERANCE = 1.6
"""A budget is refused when no shape of the ladder comes within this factor of it."""


class ParameterCount(NamedTuple):
    total: int
    non_embedding: int


def head_width(width: int) -> int:
    """Width of one attention head: one head below width 16, then 8, 16, 32 and 64 as the model grows."""
    if width < 16:
        return width
    return 8 if width < 64 else 16 if width < 256 else 32 if width < 512 else 64


def shape_of_width(width: int, vocab: int) -> Shape:
    """The ladder's shape of a given even width: one layer per 32 columns up to 12, then one more per 64."""
    layers = math.ceil(width / 32) if width <= 384 else 12 + (width - 384) // 64
    hidden = round(8 / 3 * width)
    rounding = 8 if width >= 16 else 1
    return Shape(vocab, width, layers, width // head_width(width), math.ceil(hidden / rounding) * rounding)


def count_parameters(shape: Shape, *, reward_head: bool = False) -> ParameterCount:
    """Exact number of parameters: V D + L (4 D^2 + 3 D F + 2 D) + D, and D + 1 more for a scalar head."""
    width = shape.width
    layer = 4 * width**2 + 3 * width * shape.hidden + 2 * width
    trunk = shape.layers * layer + width + (width + 1 if reward_head else 0)
    return ParameterCount(shape.vocab * width + trunk, trunk)


@cache
def shape_for_budget(budget: int, vocab: int) -> Shape:
    """The shape of the ladder whose total parameter count is nearest to `budget` (in ratio).

    Raises:
        InputError: no shape is within a factor of 1.6 of the budget, which is then below or above the ladder or, with
            a small vocabulary, in a gap of it; the message names the counts of the shapes below and above.
    """
    widths = [w for w in range(2, MAX_WIDTH + 1, 2) if w % head_width(w) == 0]
    shapes = [shape_of_width(w, vocab) for w in widths]
    require(0 < budget < 10**15, f"model size {budget}: a parameter budget is a positive integer below 10^15")
    counts = [count_parameters(s).total for s in shapes]
    ratios = [abs(math.log(count / budget)) for count in counts]
    best = min(range(len(shapes)), key=ratios.__getitem__)
    beside = [*[c for c in counts if c < budget][-1:], *[c for c in counts if c > budget][:1]]
    near = " and ".join(str(count) for count in beside)
    require(
        ratios[best] <= math.log(TOLERANCE),
        f"model size {budget}: no shape within a factor of {TOLERANCE}; with vocabulary {vocab} the nearest "
        f"{'have' if len(beside) > 1 else 'has'} {near} parameters",
    )
    return shapes[best]
