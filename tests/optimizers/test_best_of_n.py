"""The pool is a function of its key, scores are the model's, and the curve knows gold only where it is measured."""

import ast
import inspect
from itertools import combinations, count
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synthetic_rm.estimators import best_of_n_curve
from synthetic_rm.ladder import shape_of_width
from synthetic_rm.networks import transformer
from synthetic_rm.optimizers import best_of_n
from synthetic_rm.optimizers.best_of_n import Pool, draw_pool, measure, open_pool, response_identity, score_pool
from synthetic_rm.optimizers.best_of_n import support_kl as exact_kl
from synthetic_rm.policies import policy
from synthetic_rm.rewards.neural import init_reward, neural_reward
from synthetic_rm.scoring import score
from synthetic_rm.types import EOS, PAD, Responses

VOCAB, TOKENS = 11, 4
NETWORK = transformer(shape_of_width(4, VOCAB))


def random_params(like: Any, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: rng.normal(0, 0.5, x.shape).astype(np.float32), like)


PARAMS = random_params(jax.eval_shape(NETWORK.init, jax.random.key(0)), 3)
PROMPTS = np.random.default_rng(0).integers(3, VOCAB, (6, 3)).astype(np.int32)
Heard = list[tuple[int, int]]
"""samples and tokens of every chunk"""


def drawn(folder: Path, *, prompts: int = 5, samples: int = 10, key: int = 0, heard: Heard | None = None) -> Pool:
    """In chunks of 2 prompts and 4 samples, so that the last ones are not full."""
    folder.mkdir()
    options = {"max_tokens": TOKENS, "prompts_at_once": 2, "samples_at_once": 4}
    listen = None if heard is None else lambda *told: heard.append(told)
    made = PROMPTS[:prompts], jax.random.key(key), folder
    return draw_pool(NETWORK, PARAMS, *made, samples=samples, on_chunk=listen, **options)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return drawn(tmp_path_factory.mktemp("pool") / "of-40", samples=40)


def test_the_pool_follows_its_key_and_is_the_same_however_its_last_chunks_are_filled(tmp_path: Path) -> None:
    heard: Heard = []
    small, again = drawn(tmp_path / "a", heard=heard), drawn(tmp_path / "b")
    large, other = drawn(tmp_path / "c", prompts=6, samples=12), drawn(tmp_path / "d", key=1)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["length.npy", "log_prob.npy", "prompts.npy", "tokens.npy"]
    assert all((tmp_path / "a" / n).read_bytes() == (tmp_path / "b" / n).read_bytes() for n in names)
    np.testing.assert_array_equal(small.prompts, PROMPTS[:5])
    np.testing.assert_array_equal(small.tokens, large.tokens[:5, :10])
    np.testing.assert_array_equal(small.length, large.length[:5, :10])
    np.testing.assert_allclose(small.log_prob, large.log_prob[:5, :10], atol=1e-5)
    assert (other.tokens != small.tokens).mean() > 0.3
    assert len(heard) == 9
    assert [sum(counts) for counts in zip(*heard, strict=True)] == [50, small.length.sum()]
    for a, b in zip(small, open_pool(tmp_path / "a"), strict=True):
        np.testing.assert_array_equal(a, b)
    assert again.tokens.dtype == np.uint16 and again.log_prob.dtype == np.float32


def test_no_chunk_is_drawn_twice(pool: Pool) -> None:
    chunks = [pool.tokens[i, start : start + 4] for i in range(5) for start in range(0, 40, 4)]
    assert len({chunk.tobytes() for chunk in chunks}) == len(chunks)


def test_responses_end_where_they_say_and_are_padded_beyond(pool: Pool) -> None:
    inside = np.arange(TOKENS) < pool.length[..., None]
    assert pool.length.min() >= 1 and pool.length.max() == TOKENS
    assert (pool.tokens[~inside] == PAD).all() and (~inside).any()
    last = np.take_along_axis(pool.tokens, pool.length[..., None] - 1, axis=-1)[..., 0]
    assert (last[pool.length < TOKENS] == EOS).all()
    assert ((pool.tokens == EOS) & inside).sum() == (last == EOS).sum() > 0


def test_stored_log_probabilities_are_those_of_the_policy(pool: Pool) -> None:
    rows = Responses(*(jnp.asarray(np.asarray(x).astype(np.int32)) for x in responses_of(pool)))
    expected = policy(NETWORK).log_prob(PARAMS, rows).sum(-1)
    np.testing.assert_allclose(pool.log_prob.ravel(), expected, atol=2e-5)


def responses_of(pool: Pool) -> Responses:
    """The whole pool as one batch of responses [prompts N]."""
    prompt = np.repeat(pool.prompts, pool.length.shape[1], axis=0)
    return Responses(prompt, pool.tokens.reshape(len(prompt), -1), pool.length.ravel())  # type: ignore[arg-type]


def test_scores_of_the_pool_are_the_models_own(pool: Pool, tmp_path: Path) -> None:
    like = jax.eval_shape(lambda key: init_reward(NETWORK, key), jax.random.key(0))
    models = [neural_reward(NETWORK, random_params(like, seed)).centred(0.1, 2.0) for seed in range(2)]
    heard: list[int] = []
    members = jax.tree.map(lambda *x: jnp.stack(x), *models)
    identity = response_identity(pool)
    found = score_pool(members, pool, identity, tmp_path / "scores.npy", on_chunk=heard.append)
    np.testing.assert_array_equal(found, np.load(tmp_path / "scores.npy", allow_pickle=False))
    assert found.shape == (2, 5, 40) and sum(heard) == 200
    for scores, model in zip(found, models, strict=True):
        expected = score(model, responses_of(pool)).reshape(5, 40)
        assert expected.std() > 0.1
        np.testing.assert_allclose(scores, expected, atol=2e-5)


def test_a_repeated_response_is_scored_once_and_has_one_score(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = count()

    def answers(_members: Any, _prompt: np.ndarray, _tokens: np.ndarray, length: np.ndarray) -> np.ndarray:
        return np.array([[next(number) for _ in length]], np.float32)  # of no other call

    monkeypatch.setattr(best_of_n, "score_answers", answers)
    identity = response_identity(pool)
    scores = score_pool((jnp.zeros(1),), pool, identity, tmp_path / "scores.npy")[0]
    assert next(number) == len(np.unique(scores)) < scores.size
    for ids, row in zip(identity, scores, strict=True):
        np.testing.assert_array_equal(ids[:, None] == ids, row[:, None] == row)


def test_identity_is_that_of_the_tokens_a_response_has(pool: Pool) -> None:
    assert response_identity(pool).shape == (5, 40)
    odd = pool._replace(
        tokens=np.array([[[5, 0, 9], [5, 0, 0], [5, 0, 7], [5, 1, 0], [5, 1, 3], [5, 1, 3]]], np.uint16),
        length=np.array([[1, 2, 1, 2, 2, 3]], np.int32),
        prompts=PROMPTS[:1],
    )
    repeats = 0
    for which in (pool, odd):
        for tokens, length, ids in zip(which.tokens, which.length, response_identity(which), strict=True):
            seen: dict[tuple[int, ...], int] = {}
            for row, n, identity in zip(tokens, length, ids, strict=True):
                response = tuple(int(token) for token in row[:n])
                repeats += response in seen
                assert seen.setdefault(response, int(identity)) == identity
            assert len(set(seen.values())) == len(seen)
    assert repeats > 20
    assert len(set(response_identity(odd)[0].tolist())) == 4


NS = np.array([1, 2, 3, 6])


def test_the_curve_is_the_mean_over_all_subsets_and_its_kl_the_papers() -> None:
    rng = np.random.default_rng(0)
    proxy, gold = rng.normal(size=(2, 4, 6))
    curve = measure(proxy, gold, NS)
    for column, n in enumerate(NS):
        subsets = [list(rows) for rows in combinations(range(6), int(n))]
        for prompt in range(4):
            best = [rows[int(np.argmax(proxy[prompt, rows]))] for rows in subsets]
            assert curve.proxy[prompt, column] == pytest.approx(proxy[prompt, best].mean())
            assert curve.gold[prompt, column] == pytest.approx(gold[prompt, best].mean())
    np.testing.assert_allclose(curve.kl, np.log(NS) - (NS - 1) / NS, atol=1e-12)
    for found, expected in zip((curve.proxy, curve.gold), best_of_n_curve(proxy, gold, NS), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_support_kl_is_that_of_the_winners_distribution_and_never_above_the_formula(pool: Pool) -> None:
    """Best of n draws from N equal masses: P(winner has rank k) = (k^n - (k - 1)^n) / N^n."""
    rng = np.random.default_rng(1)
    distinct = np.argsort(rng.normal(size=(3, 40)), axis=1)
    for n, found in zip(NS, exact_kl(distinct.astype(float), distinct, NS), strict=True):
        p = np.diff((np.arange(41) / 40) ** float(n))
        assert found == pytest.approx(np.sum(p * np.log(p * 40)), abs=1e-9)
    identity = response_identity(pool)
    repeated = np.take_along_axis(rng.normal(size=identity.shape), identity, axis=1)
    ns = np.array([1, 2, 5, 20, 40])
    found = exact_kl(repeated, identity, ns)
    assert found[0] == pytest.approx(0, abs=1e-12) and (np.diff(found) > 0).all()
    formula = np.log(ns) - (ns - 1) / ns
    assert (found <= formula + 1e-9).all() and found[-1] < formula[-1] - 0.03
    np.testing.assert_allclose(exact_kl(np.ones((1, 40)), np.zeros((1, 40), int), ns), 0, atol=1e-12)


def test_two_golds_leave_proxy_and_kl_as_they_are() -> None:
    rng = np.random.default_rng(2)
    proxy, *golds = rng.normal(size=(3, 4, 6))
    one, other = (measure(proxy, gold, NS) for gold in golds)
    np.testing.assert_array_equal(one.kl, other.kl)
    np.testing.assert_array_equal(one.proxy, other.proxy)
    assert np.abs(one.gold - other.gold).max() > 0.1


def test_gold_is_out_of_reach() -> None:
    """Nothing here can get at a gold model, and only the measuring function is handed gold scores."""
    tree = ast.parse(inspect.getsource(best_of_n))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    ours = {name.removeprefix("synthetic_rm.") for name in modules if name.startswith("synthetic_rm")}
    allowed = {"comparisons", "divergences", "estimators", "scoring", "types", "errors"}
    allowed |= {"filling", "checkpoints", "reading"}
    assert ours <= allowed
    functions = [f for _, f in inspect.getmembers(best_of_n, inspect.isfunction) if f.__module__ == best_of_n.__name__]
    takers = {f.__name__ for f in functions if any("gold" in name for name in inspect.signature(f).parameters)}
    assert takers == {"measure"}
