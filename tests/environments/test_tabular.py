"""The tabular world: its enumeration is complete, and network, sampler and rewards are the tables they stand for."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synthetic_rm import sampling
from synthetic_rm.environments.tabular import Tabular
from synthetic_rm.errors import InputError
from synthetic_rm.policies import policy
from synthetic_rm.scoring import check_responses, score
from synthetic_rm.types import BOS, EOS, Responses

WORLDS = [Tabular(3, 4, 3), Tabular(5, 5, 1), Tabular(1, 3, 2), Tabular(30, 3, 2)]
WORLD = WORLDS[0]
PARAMS = WORLD.network.init(jax.random.key(0))


def flat(responses: Responses) -> Responses:
    return Responses(*(jnp.asarray(np.asarray(x).reshape(-1, *x.shape[2:])) for x in responses))


@pytest.mark.parametrize("world", WORLDS, ids=repr)
def test_every_response_is_there_once_and_nothing_else(world: Tabular) -> None:
    responses = world.responses()
    said = {tuple(row[:n]) for row, n in zip(responses.tokens[0].tolist(), responses.length[0], strict=True)}
    wanted = set()
    for length in range(1, world.response_tokens + 1):
        for row in product(range(world.vocab), repeat=length):
            ends = row[-1] == EOS or length == world.response_tokens
            wanted |= {row} if ends and EOS not in row[:-1] else set()
    assert said == wanted and len(said) == world.num_responses
    assert len(set(world.response_nodes.tolist())) == world.num_responses
    check_responses(responses, world.vocab)


@pytest.mark.parametrize("world", WORLDS, ids=repr)
def test_prompts_are_told_apart(world: Tabular) -> None:
    prompts = world.prompts()
    assert prompts.shape == (world.num_prompts, world.prompt_tokens) and (prompts[:, 0] == BOS).all()
    assert len(np.unique(prompts, axis=0)) == world.num_prompts and prompts.max() < world.vocab
    shown = world.demonstrations()
    assert len(np.unique(np.concatenate([shown.prompt, shown.tokens], 1), axis=0)) == len(shown.length)


@pytest.mark.parametrize("world", WORLDS[::3], ids=repr)
def test_a_policys_distribution_is_that_of_its_network(world: Tabular) -> None:
    params = world.network.init(jax.random.key(1))
    exact = world.distribution(params)
    np.testing.assert_allclose(exact.sum(1), 1, rtol=1e-9)
    log_prob = jax.jit(policy(world.network).log_prob)(params, flat(world.responses())).sum(-1)
    np.testing.assert_allclose(np.exp(log_prob).reshape(exact.shape), exact, rtol=2e-5)


@pytest.mark.parametrize("world", WORLDS, ids=repr)
def test_every_distribution_is_a_policy(world: Tabular) -> None:
    rng = np.random.default_rng(3)
    given = rng.dirichlet(np.ones(world.num_responses), size=world.num_prompts) + 1e-6
    given /= given.sum(1, keepdims=True)
    np.testing.assert_allclose(world.distribution(world.params(given)), given, rtol=1e-4, atol=1e-9)


def test_the_sampler_draws_by_the_distribution() -> None:
    samples = 20_000
    draw = jax.jit(lambda key: sampling.sample(WORLD.network, PARAMS, key, jnp.asarray(WORLD.prompts()), samples, 3))
    drawn, log_prob = draw(jax.random.key(2))
    exact = WORLD.distribution(PARAMS)
    number = WORLD.reward(np.tile(np.arange(WORLD.num_responses), (3, 1)))
    found = np.asarray(jax.jit(lambda x: number(x))(drawn)).astype(int)
    for prompt in range(WORLD.num_prompts):
        shares = np.bincount(found[prompt], minlength=WORLD.num_responses) / samples
        assert (np.abs(shares - exact[prompt]) <= 4.5 * np.sqrt(exact[prompt] / samples) + 1e-4).all()
    told = np.exp(np.asarray(log_prob).sum(-1))
    np.testing.assert_allclose(told, np.take_along_axis(exact, found, 1), rtol=1e-4)


def test_a_reward_gives_each_response_its_score_and_never_reads_beyond_its_end() -> None:
    scores = np.random.default_rng(4).normal(size=(3, WORLD.num_responses)).astype(np.float32)
    reward, responses = WORLD.reward(scores), flat(WORLD.responses())
    told = jax.jit(lambda x: reward(x))
    np.testing.assert_array_equal(np.asarray(told(responses)).reshape(scores.shape), scores)
    beyond = np.arange(3) >= np.asarray(responses.length)[:, None]
    noisy = responses._replace(tokens=jnp.where(beyond, 3, responses.tokens))
    assert (np.asarray(noisy.tokens) != np.asarray(responses.tokens)).any()
    np.testing.assert_array_equal(told(noisy), told(responses))
    np.testing.assert_array_equal(score(reward, responses), told(responses))


def test_the_world_reads_as_text_and_holds_no_reward() -> None:
    assert WORLD.decode(np.array([3, 1, EOS])) == "3 1" and WORLD.decode(np.array([3, 0, 1])) == "3 0 1"
    assert WORLD.name == "tabular" and len(WORLD.prompts("train")) == len(WORLD.prompts("test"))
    assert set(vars(WORLD)) - {"_enumerated"} == {"num_prompts", "vocab", "response_tokens"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 5, 1), "num_prompts=0"), ((1, 2, 1), "vocab=2"), ((1, 5, 0), "response_tokens=0"), ((1, 50, 9), "too many")],
)
def test_worlds_that_cannot_be_are_refused(arguments: tuple[int, int, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Tabular(*arguments)
    with pytest.raises(InputError, match="distribution must be"):
        WORLD.params(np.ones((2, 2)))
