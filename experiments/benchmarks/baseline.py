"""The same models and losses in PyTorch, with the decoder and `generate` of transformers. Needs both."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import torch
import transformers

from experiments.benchmarks.measure import LEARNING_RATE, Call, Size, reward_params, tokens_of
from synthetic_rm.ladder import shape_of_width
from synthetic_rm.networks import ROTARY_BASE, transformer
from synthetic_rm.types import BOS, PAD, Params, Shape

LINEAR = {
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "attention_out": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
NORMS = {"attention_norm": "input_layernorm", "feed_forward_norm": "post_attention_layernorm"}


def versions() -> dict[str, str]:
    """Versions of the two libraries."""
    return {"torch": torch.__version__, "transformers": transformers.__version__}


def llama(shape: Shape, size: Size, trunk: Params) -> Any:
    """transformers' causal decoder of the given shape with the given weights, its embeddings tied."""
    configuration = transformers.LlamaConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.width,
        intermediate_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=size.length,
        rope_parameters={"rope_type": "default", "rope_theta": ROTARY_BASE},
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
        bos_token_id=BOS,
        eos_token_id=None,
        pad_token_id=PAD,
    )
    model = transformers.LlamaForCausalLM(configuration)
    weights = {name: torch.from_numpy(np.array(x, np.float32)) for name, x in _named(trunk)}
    model.model.load_state_dict(weights)
    return model


def _named(trunk: Params) -> Iterator[tuple[str, np.ndarray]]:
    trunk = jax.tree.map(np.asarray, trunk)
    yield "embed_tokens.weight", trunk["embed"]["embedding"]
    yield "norm.weight", trunk["norm"]["scale"]
    for i, block in trunk["blocks"].items():
        yield from ((f"layers.{i}.{theirs}.weight", block[ours]["kernel"].T) for ours, theirs in LINEAR.items())
        yield from ((f"layers.{i}.{theirs}.weight", block[ours]["scale"]) for ours, theirs in NORMS.items())


def scores(trunk: Any, head: Any, tokens: Any) -> Any:
    """Scalar head on the last hidden state: [B, S] tokens -> [B]."""
    return head(trunk(input_ids=tokens, use_cache=False).last_hidden_state[:, -1])[:, 0]


def calls(width: int, size: Size, threads: int) -> tuple[dict[str, Call], np.ndarray]:
    """The calls named as in `measure.works`, and the scores [G N] of the same weights on the same rows."""
    torch.set_num_threads(threads)
    shape = shape_of_width(width, size.vocab)
    params = reward_params(transformer(shape))
    model, reader = (llama(shape, size, params["trunk"]) for _ in range(2))
    head = torch.nn.Linear(width, 1)
    head.load_state_dict({"weight": torch.tensor(np.array(params["head"]["weight"])[None]), "bias": torch.zeros(1)})
    tokens = torch.from_numpy(tokens_of(size)).long()
    prompts = tokens[:: size.samples, : size.prompt_tokens].repeat_interleave(size.samples, 0)

    @torch.inference_mode()
    def generate() -> Any:
        drawn = model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            max_new_tokens=size.response_tokens,
        )
        assert drawn.shape == (size.rows, size.length), drawn.shape
        return drawn

    @torch.inference_mode()
    def score() -> Any:
        return scores(reader.model, head, tokens)

    def pair_loss() -> Any:
        first, second = scores(reader.model, head, tokens).reshape(-1, 2).T
        return torch.nn.functional.softplus(second - first).mean()

    def text_loss() -> Any:
        logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    agreed = score().numpy().copy()
    train_rewards = _training(pair_loss, [*reader.model.parameters(), *head.parameters()], size.steps)
    train_text = _training(text_loss, list(model.parameters()), size.steps)
    return {
        "sampling": generate,
        "scoring": score,
        "reward training": train_rewards,
        "language-model training": train_text,
    }, agreed


def _training(loss: Callable[[], Any], parameters: list[Any], steps: int) -> Call:
    adam = torch.optim.Adam(parameters, lr=LEARNING_RATE, betas=(0.9, 0.98))

    def train() -> None:
        for _ in range(steps):
            adam.zero_grad()
            loss().backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            adam.step()

    return train
