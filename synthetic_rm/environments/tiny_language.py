"""F4: a language of short sequences, spoken by a random softmax policy: small enough to enumerate, to be learnt."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from synthetic_rm.environments.tabular import Tabular
from synthetic_rm.types import Responses

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class TinyLanguage(Tabular):
    """Every prompt has a table of its own that says how people answer it; demonstrations are drawn from it.

    All prompts are in every split: what is measured over them is measured over the whole population.
    """

    num_prompts: int = 16
    vocab: int = 5
    response_tokens: int = 4
    num_demonstrations: int = 1024
    """in every split"""
    sharpness: float = 1.5
    """deviation of the speakers' logits"""
    seed: int = 0

    @property
    def name(self) -> str:
        return "tiny_language"

    @cached_property
    def speakers(self) -> np.ndarray:
        """[num_prompts, R] how people answer."""
        rng = np.random.default_rng(self.seed)
        shape = (self.num_prompts, self.inner_nodes, self.vocab)
        return self.distribution({"table": self.sharpness * rng.standard_normal(shape)})

    def demonstrations(self, split: str = "train") -> Responses:
        """[num_demonstrations] answers of people to random prompts."""
        rng = np.random.default_rng([self.seed, 1 + SPLITS.index(split)])
        prompt = rng.integers(self.num_prompts, size=self.num_demonstrations)
        below = self.speakers.cumsum(axis=1)[prompt]
        said = (below < rng.random(len(prompt))[:, None] * below[:, -1:]).sum(axis=1)
        shown = self.responses()
        return Responses(*(x[prompt, said] for x in shown))
