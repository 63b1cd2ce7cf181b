"""F3: a reward model that is a decoder with a scalar head."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import jax
import jax.numpy as jnp

from synthetic_rm.errors import InputError
from synthetic_rm.types import Array, Key, Network, Params, Responses

Readout = Literal["last", "mean"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class NeuralReward:
    """score = scale * (head . hidden state + bias - shift), the hidden state as `readout` says.

    `shift` recentres the reference policy's mean score to 0 and `scale` recalibrates or normalises (paper, section
    2.2); both are 0 and 1 until `centred` is called, after training.
    """

    params: Params
    """{"trunk": of the network, "head": {"weight": [D], "bias": []}}"""
    shift: Array
    scale: Array
    network: Network = field(metadata={"static": True})
    readout: Readout = field(default="last", metadata={"static": True})

    def __call__(self, responses: Responses) -> Array:
        return self.scale * (raw_scores(self.network, self.params, responses, self.readout) - self.shift)

    def reader(self, prompt: Array | None) -> Callable[[Array, Array], Array]:
        """Scores of rows that hold several texts each, see `types.PackedReward`."""
        network, trunk, head = self.network, self.params["trunk"], self.params["head"]
        packed = network.packed
        if packed is None:
            raise InputError("reward model: its network reads rows of one text only")

        def token_scores(hidden: Array) -> Array:
            return jnp.matmul(hidden, head["weight"], precision="highest")

        before, prompt_score, cache = 0, jnp.float32(0.0), None
        if prompt is not None:
            hidden, cache = network.prefill(trunk, prompt[None])
            before, prompt_score = prompt.shape[0], token_scores(hidden).sum()

        def read(tokens: Array, length: Array) -> Array:
            place = jax.lax.broadcasted_iota(jnp.int32, (1, 1, tokens.shape[1]), 2)
            ends = jnp.cumsum(length, axis=1)[..., None]
            last = self.readout == "last"
            used = (place == ends - 1) if last else (place >= ends - length[..., None]) & (place < ends)
            each = token_scores(packed(trunk, cache, tokens, length))
            total = jnp.where(used, each[:, None], 0.0).sum(-1)
            score = total if last else (total + prompt_score) / jnp.maximum(before + length, 1)
            return self.scale * (score + head["bias"] - self.shift)

        return read

    def centred(self, shift: float | Array, scale: float | Array) -> Self:
        """The same model shifted and scaled."""
        return replace(self, shift=jnp.asarray(shift, jnp.float32), scale=jnp.asarray(scale, jnp.float32))


def neural_reward(network: Network, params: Params, readout: Readout = "last") -> NeuralReward:
    """A reward model as trained: not yet recentred."""
    return NeuralReward(params, jnp.float32(0.0), jnp.float32(1.0), network, readout)


def init_reward(network: Network, key: Key, trunk: Params | None = None) -> Params:
    """Reward parameters on a given trunk (a pretrained backbone), or on a fresh one. The key is consumed.

    The head is normal with deviation 1 / sqrt(D + 1) (Stiennon et al. 2020): on hidden states of unit mean square, as
    the final norm leaves them, first scores deviate by about 1.
    """
    trunk_key, head_key = jax.random.split(key)
    width = network.shape.width
    weight = jax.random.normal(head_key, (width,)) * (width + 1) ** -0.5
    fresh = network.init(trunk_key) if trunk is None else trunk
    return {"trunk": fresh, "head": {"weight": weight, "bias": jnp.zeros(())}}


def raw_scores(network: Network, params: Params, responses: Responses, readout: Readout = "last") -> Array:
    """Scalar head on a summary of the hidden states: float32 [...], for responses [...].

    "last": the state of the last response token, as in InstructGPT and the paper. "mean": their mean over prompt and
    response, which learns more from few labels but makes every score nearly a sum over tokens.
    """
    lead = responses.length.shape
    rows = jnp.concatenate([responses.prompt, responses.tokens], axis=-1)
    rows = rows.reshape(-1, rows.shape[-1])
    count = responses.prompt.shape[-1] + responses.length.reshape(-1, 1)
    position = jax.lax.broadcasted_iota(jnp.int32, rows.shape, 1)
    used = (position == count - 1 if readout == "last" else position < count).astype(jnp.float32)
    hidden = network.hidden(params["trunk"], rows)
    summary = jnp.einsum("bs,bsd->bd", used, hidden, precision="highest") / used.sum(1, keepdims=True)
    scores = jnp.matmul(summary, params["head"]["weight"], precision="highest") + params["head"]["bias"]
    return scores.reshape(lead)
