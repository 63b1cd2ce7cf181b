"""Budgets, shapes and counts agree with each other and with the arrays that are made."""

import math
import re
from functools import cache
from itertools import pairwise

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthetic_rm.errors import InputError
from synthetic_rm.ladder import MAX_WIDTH, TOLERANCE, count_parameters, head_width, shape_for_budget, shape_of_width
from synthetic_rm.networks import transformer
from synthetic_rm.rewards.neural import init_reward


@cache
def every_count(vocab: int) -> list[int]:
    """Parameters of every shape of the ladder: of every even width that its heads divide."""
    widths = (width for width in range(2, MAX_WIDTH + 1, 2) if width % head_width(width) == 0)
    return [count_parameters(shape_of_width(width, vocab)).total for width in widths]


SMALLEST = count_parameters(shape_of_width(2, 1024)).total


@pytest.mark.parametrize("budget", [2_000, 12_000, 150_000, 3_000_000, 400_000_000])
def test_counts_are_the_sizes_of_the_arrays(budget: int) -> None:
    """By shape arithmetic alone, so that hundreds of millions cost nothing."""
    shape = shape_for_budget(budget, 1024)
    network = transformer(shape)
    params = jax.eval_shape(lambda key: init_reward(network, key), jax.random.key(0))
    sizes = {part: sum(math.prod(x.shape) for x in jax.tree.leaves(params[part])) for part in params}
    embedding = math.prod(params["trunk"]["embed"]["embedding"].shape)
    bare, scored = count_parameters(shape), count_parameters(shape, reward_head=True)
    assert bare == (sizes["trunk"], sizes["trunk"] - embedding)
    assert scored == (sizes["trunk"] + sizes["head"], sizes["trunk"] + sizes["head"] - embedding)
    assert abs(math.log(bare.total / budget)) < math.log(1.25)
    rows = jax.ShapeDtypeStruct((1, 3), np.int32)
    assert jax.eval_shape(network.hidden, params["trunk"], rows).shape == (1, 3, shape.width)


def test_sizes_grow_with_the_budget_and_with_the_width() -> None:
    totals = [count_parameters(shape_for_budget(round(b), 1024)).total for b in np.geomspace(2_100, 5e8, 40)]
    assert totals == sorted(totals) and len(set(totals)) > 30
    by_width = [count_parameters(shape_of_width(w, 1024)) for w in range(2, 4097, 2)]
    assert all(a.total < b.total and a.non_embedding < b.non_embedding for a, b in pairwise(by_width))


def test_heads_divide_the_width_evenly_and_can_be_rotated() -> None:
    for budget in np.geomspace(2_100, 2e9, 60):
        shape = shape_for_budget(round(budget), 1024)
        assert shape.width % shape.heads == 0
        assert (shape.width // shape.heads) % 2 == 0
        assert shape.hidden / shape.width == pytest.approx(8 / 3, rel=0.1 if shape.width >= 64 else 0.3)


@pytest.mark.parametrize("budget", [-5, 0, 1, round(SMALLEST / TOLERANCE) - 1])
def test_a_budget_below_the_ladder_names_itself_and_the_smallest(budget: int) -> None:
    with pytest.raises(InputError) as error:
        shape_for_budget(budget, 1024)
    message = str(error.value)
    assert f" {budget}:" in message and "\n" not in message
    assert budget <= 0 or str(SMALLEST) in message


@given(st.floats(1, 16), st.integers(2, 3_000))
def test_a_budget_gets_the_nearest_shape_of_all_or_is_told_what_lies_beside_it(power: float, vocab: int) -> None:
    budget = round(10**power) if power < 15 else 7
    counts = every_count(vocab)
    nearest = min(counts, key=lambda count: max(count / budget, budget / count))
    if max(nearest / budget, budget / nearest) <= TOLERANCE:
        assert count_parameters(shape_for_budget(budget, vocab)).total == nearest
        return
    with pytest.raises(InputError) as error:
        shape_for_budget(budget, vocab)
    told = [int(number) for number in re.findall(r"\d+", str(error.value).partition(f"vocabulary {vocab}")[2])]
    assert told == [*[c for c in counts if c < budget][-1:], *[c for c in counts if c > budget][:1]]


def test_a_budget_in_a_gap_names_the_shapes_below_and_above() -> None:
    low, high = (count_parameters(shape_of_width(width, 3)).total for width in (2, 4))
    assert high / low > TOLERANCE**2
    with pytest.raises(InputError, match=rf"size {round((low * high) ** 0.5)}: .*{low} and {high} parameters"):
        shape_for_budget(round((low * high) ** 0.5), 3)


def test_a_budget_just_within_the_tolerance_gets_the_smallest() -> None:
    assert shape_for_budget(math.ceil(SMALLEST / TOLERANCE), 1024).width == 2


def test_a_budget_beyond_the_ladder_is_refused() -> None:
    with pytest.raises(InputError, match="10000000000000"):
        shape_for_budget(10**13, 1024)
