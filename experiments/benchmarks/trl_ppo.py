"""PPO of TRL on the same shapes and batches. Needs torch, transformers and trl."""

import contextlib
import gc
import io
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import torch
import transformers
import trl
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

from trl.experimental.ppo import PPOConfig, PPOTrainer

from experiments.benchmarks.baseline import llama
from experiments.benchmarks.measure import Call, Size, seconds_of
from synthetic_rm.networks import transformer
from synthetic_rm.types import Shape


def versions() -> dict[str, str]:
    """Version of the library."""
    return {"trl": trl.__version__}


def _tokenizer(vocab: int) -> Any:
    """Ids as words: the trainer asks for the pad and the end token alone."""
    words = Tokenizer(WordLevel({f"t{i}": i for i in range(vocab)}, unk_token="t0"))
    named = {"pad_token": "t0", "bos_token": "t1", "eos_token": "t2", "unk_token": "t0"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, padding_side="left", **named)


class _Clock(transformers.TrainerCallback):
    """Seconds of every iteration and of the garbage collections in it; our calls follow the last of its turns."""

    def __init__(self, threads: Sequence[int], ours: Sequence[Call]):
        self.threads, self.ours = threads, ours
        self.theirs: list[tuple[float, float]] = []
        self.own: list[list[float]] = []
        self.collected = 0.0

    def collect(self, collect: Callable[..., int]) -> Callable[..., int]:
        """`gc.collect`, timed."""

        def timed(*args: Any) -> int:
            start = time.perf_counter()
            found = collect(*args)
            self.collected += time.perf_counter() - start
            return found

        return timed

    def _next(self) -> None:
        torch.set_num_threads(self.threads[len(self.theirs) % len(self.threads)])
        self.collected, self.start = 0.0, time.perf_counter()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._next()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.theirs.append((time.perf_counter() - self.start, self.collected))
        if len(self.theirs) % len(self.threads) == 0:
            self.own.append([seconds_of(call) for call in self.ours])
        self._next()


def iterations(
    shape: Shape, size: Size, rounds: int, threads: Sequence[int], ours: Sequence[Call]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Seconds of TRL's iterations with each number of threads, of the collections in them, of ours, taken in turns.

    After one round that is not timed: [rounds, threads], [rounds, threads], [rounds, calls]. Of the two collections
    of an iteration the second comes after its end and counts in the next.
    """
    trunk = transformer(shape).init(jax.random.key(0))
    policy, reference = (llama(shape, size, trunk) for _ in range(2))
    reader = transformers.LlamaConfig(**(policy.config.to_dict() | {"id2label": {0: "score"}}))
    reward, value = (transformers.LlamaForSequenceClassification(reader) for _ in range(2))
    rng = np.random.default_rng(0)
    prompts = [{"input_ids": row} for row in rng.integers(3, size.vocab, (4 * size.rows, size.prompt_tokens)).tolist()]
    clock = _Clock(threads, ours)
    transformers.logging.set_verbosity_error()
    quiet = contextlib.redirect_stdout(io.StringIO())
    with tempfile.TemporaryDirectory() as folder, quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        configuration = PPOConfig(
            output_dir=folder,
            per_device_train_batch_size=size.rows,
            gradient_accumulation_steps=1,
            num_mini_batches=size.minibatches,
            num_ppo_epochs=size.epochs,
            total_episodes=size.rows * len(threads) * (rounds + 1),
            response_length=size.response_tokens,
            local_rollout_forward_batch_size=size.rows,
            temperature=1.0,
            kl_coef=0.0,
            num_sample_generations=0,
            report_to="none",
            save_strategy="no",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            disable_tqdm=True,
            learning_rate=1e-5,
        )
        trainer = PPOTrainer(
            args=configuration,
            processing_class=_tokenizer(size.vocab),
            model=policy,
            ref_model=reference,
            reward_model=reward,
            value_model=value,
            train_dataset=prompts,
            eval_dataset=prompts[: size.rows],
            data_collator=lambda rows: {"input_ids": torch.tensor([row["input_ids"] for row in rows])},
            callbacks=[clock],
        )
        made = (configuration.batch_size, configuration.mini_batch_size)
        assert made == (size.rows, size.rows // size.minibatches), made
        collect, gc.collect = gc.collect, clock.collect(gc.collect)
        try:
            trainer.train()
        finally:
            gc.collect = collect
    theirs = np.array(clock.theirs).reshape(rounds + 1, len(threads), 2)[1:]
    return theirs[..., 0], theirs[..., 1], np.array(clock.own)[1:]
