"""What is timed, in this package and in PyTorch, and how. Import it once the number of threads is set."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from synthetic_rm.flops import TRAINING, reading_flops, sampling_flops, text_flops
from synthetic_rm.ladder import shape_of_width
from synthetic_rm.networks import transformer
from synthetic_rm.rewards.neural import NeuralReward, init_reward, neural_reward, raw_scores
from synthetic_rm.runtime import concurrently, processors
from synthetic_rm.sampling import sample, sample_tokens
from synthetic_rm.scoring import rows_at_once
from synthetic_rm.training.loop import gradient_transformation
from synthetic_rm.training.reward import train_reward
from synthetic_rm.training.supervised import TokenRows, train_language_model
from synthetic_rm.types import Array, Comparisons, Key, Network, Params, Responses, Shape

Call = Callable[[], Any]
LEARNING_RATE = 1e-4
STREAM = 8
"""chunks that one processor draws or scores one after another, as in a pool"""


class Size(NamedTuple):
    """How much one call works on: G x N responses of T tokens, and batches of as many rows."""

    prompts: int = 8
    samples: int = 32
    prompt_tokens: int = 5
    response_tokens: int = 27
    vocab: int = 1024
    steps: int = 4
    """training steps in one call"""
    epochs: int = 4
    """of a PPO iteration"""
    minibatches: int = 4
    lanes: int = 8
    """PPO optimizations at once"""
    unjitted: int = 3
    """un-jitted iterations that are timed"""

    @property
    def rows(self) -> int:
        return self.prompts * self.samples

    @property
    def length(self) -> int:
        return self.prompt_tokens + self.response_tokens


class Work(NamedTuple):
    """One thing to time."""

    name: str
    tokens: int
    """tokens of one call"""
    flops: int
    """floating point operations in the matrix products of one call"""
    call: Call
    copies: int = 1
    """how often `call` does the work, side by side"""
    repeats: int = 1
    """how often the other side does it in its turn: short calls are timed several at once"""


def in_turns(calls: Sequence[Call], rounds: int) -> np.ndarray:
    """Seconds [rounds, calls] of calls taken in turns after one of each that is not timed."""
    for call in calls:
        seconds_of(call)
    return np.array([[seconds_of(call) for call in calls] for _ in range(rounds)])


def seconds_of(call: Call) -> float:
    """Seconds of one call, until its arrays are there."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def busy(call: Call) -> float:
    """Processors that a call keeps busy, on the average: seconds of all of them over seconds of the clock."""
    call()
    used, seconds = time.process_time(), seconds_of(call)
    return (time.process_time() - used) / seconds


def matmul_rate(size: int, repeats: int) -> float:
    """Best float32 rate of [size, size] matrix products, one on each processor, in operations per second."""
    product = jax.jit(jnp.matmul)
    x = jnp.ones((size, size))
    seconds = in_turns([side_by_side(lambda: product(x, x).block_until_ready())], repeats)
    return float(processors() * 2 * size**3 / seconds.min())


def tokens_of(size: Size) -> np.ndarray:
    """[G N, P + T] random tokens, none of them special."""
    return np.random.default_rng(0).integers(3, size.vocab, (size.rows, size.length)).astype(np.int32)


def responses_of(size: Size) -> Responses:
    """`tokens_of` as [G N] responses of full length."""
    tokens = jnp.asarray(tokens_of(size))
    length = jnp.full(size.rows, size.response_tokens, jnp.int32)
    return Responses(tokens[:, : size.prompt_tokens], tokens[:, size.prompt_tokens :], length)


def reward_params(network: Network) -> Params:
    """The weights that both sides start from: {"trunk", "head"}."""
    return jax.jit(partial(init_reward, network))(jax.random.key(0))


def side_by_side(call: Call, each: int = 1) -> Call:
    """The call `each` times for every processor, one on each at a time, as the package runs independent programs."""
    return lambda: jax.block_until_ready(list(concurrently(lambda _: call(), range(each * processors()))))[-1]


def repeated(call: Call, times: int) -> Call:
    """The call so many times, one after another."""
    return lambda: [call() for _ in range(times)][-1]


@partial(jax.jit, static_argnums=(0, 1))
def drawn(network: Network, size: Size, params: Params, key: Key, prompts: Array) -> tuple[Responses, Array]:
    """N responses to each of the prompts [G, P], and their log-probabilities."""
    return sample(network, params, key, prompts, size.samples, size.response_tokens)


def _scored(length: Array, model: NeuralReward, texts: Array) -> Array:
    """Scores [R] of full rows of one text, in the batches that the package reads them in: texts [R / B, B, S]."""
    return jax.lax.map(lambda rows: model.reader(None)(rows, length), texts).reshape(-1)


def works(width: int, size: Size) -> list[Work]:
    """Sampling, scoring and two trainings of this package at one width of the ladder."""
    network = transformer(shape_of_width(width, size.vocab))
    params, shape, key = reward_params(network), network.shape, jax.random.key(1)
    responses, model = responses_of(size), neural_reward(network, params)
    prompts = responses.prompt[:: size.samples]
    pairs = Responses(*(x.reshape(-1, 2, *x.shape[1:]) for x in responses))
    ones = jnp.ones((size.rows // 2, 1))
    copies = processors()
    stacked = jax.tree.map(lambda x: jnp.stack([x] * copies), params)
    rows = TokenRows(jnp.asarray(tokens_of(size)), jnp.ones((size.rows, size.length)))
    at_once = min(rows_at_once(), size.rows)
    texts = jnp.asarray(tokens_of(size)).reshape(-1, at_once, size.length)
    scorer = jax.jit(partial(_scored, jnp.full((at_once, 1), size.length)))
    train_rewards = partial(train_reward, seeds=list(range(copies)), epochs=size.steps, batch=size.rows // 2)
    train_text = partial(train_language_model, seed=0, steps=size.steps, batch=size.rows)
    read, predicted = size.rows * size.length, size.rows * (size.length - 1)
    forward = reading_flops(shape, size.rows, size.length)
    text = text_flops(shape, size.rows, size.length - 1)
    operations = sampling_flops(shape, size.prompts, size.samples, size.prompt_tokens, size.response_tokens)
    return [
        Work(
            "sampling",
            size.rows * size.response_tokens,
            operations,
            side_by_side(partial(drawn, network, size, params["trunk"], key, prompts), STREAM),
            STREAM * copies,
        ),
        Work("scoring", read, forward, side_by_side(partial(scorer, model, texts), STREAM), STREAM * copies, STREAM),
        Work(
            "reward training",
            size.steps * read,
            TRAINING * size.steps * forward,
            partial(train_rewards, network, stacked, Comparisons(pairs, ones, ones), learning_rate=LEARNING_RATE),
            copies,
        ),
        Work(
            "language-model training",
            size.steps * predicted,
            TRAINING * size.steps * text,
            partial(train_text, network, params["trunk"], rows, learning_rate=LEARNING_RATE),
        ),
    ]


class Piece(NamedTuple):
    """A part of a work, timed by itself."""

    work: str
    name: str
    seconds: float


Timer = Callable[..., float]
"""seconds of a function called with the arguments that follow it"""


def breakdown(width: int, size: Size, best: Timer) -> list[Piece]:
    """Where the time of one sampling call and of one reward training step goes; what is left is a difference."""
    shape = shape_of_width(width, size.vocab)
    return _sampling_pieces(transformer(shape), size, best) + _training_pieces(shape, size, best)


def best_of(rounds: int) -> Timer:
    """The best of so many rounds: differences of medians would be those of what else the machine did."""

    def best(call: Callable[..., Any], *arguments: Any) -> float:
        return float(in_turns([partial(call, *arguments)], rounds).min())

    return best


def _sampling_pieces(network: Network, size: Size, best: Timer) -> list[Piece]:
    params, responses = reward_params(network)["trunk"], responses_of(size)
    prompts = responses.prompt[:: size.samples]
    rows, steps = size.rows, size.response_tokens
    hidden = jax.random.normal(jax.random.key(2), (steps, rows, network.shape.width))
    uniform = jax.random.uniform(jax.random.key(3), (steps, rows))

    @jax.jit
    def decode(params: Params, prompts: Array, tokens: Array) -> Array:
        _, prompt = network.prefill(params, prompts)

        def step(cache: Any, inputs: tuple[Array, Array]) -> tuple[Any, Array]:
            hidden, cache = network.decode(params, prompt, cache, *inputs)
            return cache, hidden

        cache = network.response_cache(size.prompts, size.samples, steps - 1)
        tokens = tokens.T[:-1].reshape(steps - 1, size.prompts, size.samples)
        return jax.lax.scan(step, cache, (tokens, jnp.arange(steps - 1)))[1]

    @jax.jit
    def project_and_draw(params: Params, hidden: Array, uniform: Array) -> Any:
        return jax.lax.map(lambda xs: sample_tokens(network.logits(params, xs[0]), xs[1]), (hidden, uniform))

    @jax.jit
    def draw_alone(logits: Array, uniform: Array) -> Any:
        return jax.lax.map(lambda xs: sample_tokens(*xs), (logits, uniform))

    logits = jax.jit(network.logits)(params, hidden)
    whole = best(drawn, network, size, params, jax.random.key(1), prompts)
    prefill = best(jax.jit(network.prefill), params, prompts)
    trunk = best(decode, params, prompts, responses.tokens) - prefill
    both, draw = best(project_and_draw, params, hidden, uniform), best(draw_alone, logits, uniform)
    parts = {"prompts read": prefill, "layers": trunk, "vocabulary product": both - draw, "draw": draw}
    return pieces_of("sampling", whole, parts)


def _training_pieces(shape: Shape, size: Size, best: Timer) -> list[Piece]:
    rows = min(rows_at_once(), size.rows)
    responses = Responses(*(x[:rows] for x in responses_of(size)))

    def gradient_seconds(shape: Shape) -> tuple[float, Params]:
        network = transformer(shape)

        def loss(params: Params) -> Array:
            scores = raw_scores(network, params, responses).reshape(-1, 2)
            return jax.nn.softplus(scores[:, 1] - scores[:, 0]).mean()

        params = reward_params(network)
        return best(jax.jit(jax.grad(loss)), params), params

    thin = 8
    whole, params = gradient_seconds(shape)
    without_layers, _ = gradient_seconds(shape._replace(layers=0))
    without_feed_forward, _ = gradient_seconds(shape._replace(hidden=thin))
    transformation = gradient_transformation()
    state = transformation.init(params)
    update = best(jax.jit(transformation.update), params, state) * rows / size.rows
    parts = {
        "embedding, last norm, head, loss": without_layers,
        "feed-forward": (whole - without_feed_forward) * shape.hidden / (shape.hidden - thin),
        f"clipping and Adam (once in {size.rows} rows)": update,
    }
    parts["attention, projections, norms"] = whole - without_layers - parts["feed-forward"]
    return pieces_of(f"reward training, {rows} rows", whole + update, parts)


def pieces_of(work: str, whole: float, parts: dict[str, float], rest: str = "rest") -> list[Piece]:
    """The parts of a work, what they leave of it, and the whole."""
    left = whole - sum(parts.values())
    return [Piece(work, name, seconds) for name, seconds in [*parts.items(), (rest, left), ("whole", whole)]]
