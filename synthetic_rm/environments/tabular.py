"""F4: a world whose responses can all be enumerated, with policies and rewards that are tables over them.

A response is a path in the tree of token sequences. Node 0 is the response of no tokens yet; the node that says token
v after node m is 1 + V m + v. A policy is a softmax at every inner node: every distribution over responses is one.
With `response_tokens` = 1 a response is a token: the bandit with V arms.
"""

from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import log_softmax

from synthetic_rm.errors import require
from synthetic_rm.types import BOS, EOS, PAD, Array, Key, Network, Params, Responses, Shape

MOST = 1 << 20
"""nodes of the largest tree that is enumerated"""


@dataclass(frozen=True)
class Tabular:
    """All responses of up to T tokens out of V, to every one of some prompts, as an `Environment`.

    The number of a prompt is written in base V behind the begin token. Every split holds all prompts, and every
    response to every prompt is once a demonstration. The world holds no reward.
    """

    num_prompts: int = 1
    vocab: int = 5
    response_tokens: int = 1

    def __post_init__(self) -> None:
        for name, least in (("num_prompts", 1), ("vocab", EOS + 1), ("response_tokens", 1)):
            require(getattr(self, name) >= least, f"{name}={getattr(self, name)}: allowed is {least} or more")
        require(
            self.nodes <= MOST, f"vocab={self.vocab}, response_tokens={self.response_tokens}: too many to enumerate"
        )

    @property
    def name(self) -> str:
        return "tabular"

    @property
    def prompt_tokens(self) -> int:
        digits = 0
        while self.vocab**digits < self.num_prompts:
            digits += 1
        return 1 + digits

    @property
    def inner_nodes(self) -> int:
        """Nodes at which a token is still to be said."""
        return (self.vocab**self.response_tokens - 1) // (self.vocab - 1)

    @property
    def nodes(self) -> int:
        """All nodes, leaves included."""
        return 1 + self.vocab * self.inner_nodes

    def prompts(self, split: str = "test") -> np.ndarray:
        """[num_prompts, P] int32."""
        digits = [self.vocab**power for power in range(self.prompt_tokens - 2, -1, -1)]
        index = np.arange(self.num_prompts)[:, None]
        written = index // np.array(digits, int).reshape(1, -1) % self.vocab
        return np.concatenate([np.full_like(index, BOS), written], axis=1).astype(np.int32)

    @cached_property
    def _enumerated(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = [
            (*said, *[PAD] * (self.response_tokens - length), length)
            for length in range(1, self.response_tokens + 1)
            for said in product(range(self.vocab), repeat=length)
            if EOS not in said[:-1] and (length == self.response_tokens or said[-1] == EOS)
        ]
        table = np.array(rows, np.int32)
        node = np.zeros(len(rows), np.int64)
        for t in range(self.response_tokens):
            node = np.where(t < table[:, -1], 1 + self.vocab * node + table[:, t], node)
        return table[:, :-1], table[:, -1], node

    @property
    def num_responses(self) -> int:
        """R"""
        return len(self._enumerated[0])

    @property
    def response_nodes(self) -> np.ndarray:
        """[R] the node at which each response ends."""
        return self._enumerated[2]

    def responses(self) -> Responses:
        """[num_prompts, R] every response to every prompt, in one order; numpy int32."""
        tokens, length, _ = self._enumerated
        lead = (self.num_prompts, len(tokens))
        prompt = np.broadcast_to(self.prompts()[:, None], (*lead, self.prompt_tokens))
        shown = np.broadcast_to(tokens, (*lead, self.response_tokens)), np.broadcast_to(length, lead)
        return Responses(prompt, *shown)  # type: ignore[arg-type]

    def demonstrations(self, split: str = "train") -> Responses:
        """[num_prompts * R] every response to every prompt, once."""
        return Responses(*(x.reshape(-1, *x.shape[2:]) for x in self.responses()))

    def decode(self, tokens: np.ndarray) -> str:
        """The ids themselves, up to the end token."""
        said = [int(token) for token in tokens]
        return " ".join(map(str, said[: said.index(EOS)] if EOS in said else said))

    @property
    def network(self) -> Network:
        """The policy as a `Network`: params {"table": [num_prompts, inner nodes, V]} of logits."""
        return _network(self)

    def distribution(self, params: Params) -> np.ndarray:
        """Probability of every response, [num_prompts, R] float64, from a policy's params."""
        log_prob = log_softmax(np.asarray(params["table"], np.float64), axis=-1)
        reach = np.zeros((self.num_prompts, self.nodes))
        first = 1
        for depth in range(self.response_tokens):
            width = self.vocab**depth
            level = slice(first - width, first)  # the nodes of this depth; their children follow as one block
            told = reach[:, level, None] + log_prob[:, level]
            reach[:, first : first + width * self.vocab] = told.reshape(self.num_prompts, -1)
            first += width * self.vocab
        return np.exp(reach[:, self.response_nodes])

    def params(self, distribution: np.ndarray) -> Params:
        """The policy that draws responses by these probabilities, [num_prompts, R], each above 0."""
        given = np.asarray(distribution, np.float64)
        require(
            given.shape == (self.num_prompts, self.num_responses) and bool((given > 0).all()),
            f"distribution must be [{self.num_prompts}, {self.num_responses}] numbers above 0",
        )
        mass = np.zeros((self.num_prompts, self.nodes))
        mass[:, self.response_nodes] = given
        for node in range(self.inner_nodes - 1, -1, -1):
            children = slice(1 + self.vocab * node, 1 + self.vocab * (node + 1))
            mass[:, node] += mass[:, children].sum(axis=1)
        branches = mass[:, 1:].reshape(self.num_prompts, self.inner_nodes, self.vocab)
        logits = np.log(np.where(branches > 0, branches, 1.0))  # nodes beyond an end token are never reached
        return {"table": jnp.asarray(logits - logits.mean(-1, keepdims=True), jnp.float32)}

    def reward(self, scores: np.ndarray) -> "TableReward":
        """The reward model that gives every response its score: [num_prompts, R]."""
        table = np.zeros((self.num_prompts, self.nodes), np.float32)
        table[:, self.response_nodes] = scores
        return TableReward(jnp.asarray(table), self)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TableReward:
    """A score for every response to every prompt."""

    table: Array
    """[num_prompts, nodes]"""
    environment: Tabular = field(metadata={"static": True})

    def __call__(self, responses: Responses) -> Array:
        world = self.environment
        node = jnp.zeros(responses.length.shape, jnp.int32)
        for t in range(min(responses.tokens.shape[-1], world.response_tokens)):
            node = jnp.where(t < responses.length, 1 + world.vocab * node + responses.tokens[..., t], node)
        return self.table[_prompt_index(world, responses.prompt), node]


def _prompt_index(world: Tabular, prompt: Array) -> Array:
    """Number of each prompt: [..., P] -> [...]."""
    index = jnp.zeros(prompt.shape[:-1], jnp.int32)
    for position in range(1, world.prompt_tokens):
        index = world.vocab * index + prompt[..., position]
    return jnp.minimum(index, world.num_prompts - 1)


@cache
def _network(world: Tabular) -> Network:
    vocab, last = world.vocab, world.inner_nodes - 1

    def after(node: Array, token: Array) -> Array:
        """What stands beyond an end may be anything: it leads to some inner node."""
        return jnp.minimum(1 + vocab * node + jnp.clip(token, 0, vocab - 1), last)

    def init(key: Key) -> Params:
        return {"table": jax.random.normal(key, (world.num_prompts, world.inner_nodes, vocab))}

    def hidden(params: Params, tokens: Array) -> Array:
        node = jnp.zeros(tokens.shape[0], jnp.int32)
        path = [node] * min(tokens.shape[1], world.prompt_tokens)
        for position in range(world.prompt_tokens, tokens.shape[1]):
            node = after(node, tokens[:, position])
            path.append(node)
        prompt = _prompt_index(world, tokens[:, : world.prompt_tokens])
        return params["table"][prompt[:, None], jnp.stack(path, axis=1)]

    def prefill(params: Params, prompts: Array) -> tuple[Array, Array]:
        return hidden(params, prompts), _prompt_index(world, prompts)

    def decode(params: Params, prompt: Array, path: Array, tokens: Array, step: Array) -> tuple[Array, Array]:
        node = after(path, tokens)
        return params["table"][prompt[:, None], node], node

    def root(groups: int, samples: int, tokens: int) -> Array:
        return jnp.zeros((groups, samples), jnp.int32)

    shape = Shape(vocab, vocab, 0, 1, 0)
    return Network(shape, init, hidden, lambda params, hidden: hidden, prefill, decode, root)
