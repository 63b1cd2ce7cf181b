"""The reviews environment: continue the first few tokens of a human-rated snippet."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer

from synthetic_rm.environments.reviews import human, ratings, tokenizer
from synthetic_rm.environments.reviews.human import LabelKind, RaterAgreement
from synthetic_rm.errors import InputError, require
from synthetic_rm.types import Comparisons, Responses

SPLITS = ("train", "validation", "test")


class Part(NamedTuple):
    """One split, encoded: N snippets long enough to have a prompt and a response."""

    responses: Responses
    """[N] numpy arrays"""
    complete: np.ndarray
    """[N] whether the response holds the snippet to its end"""
    histograms: np.ndarray
    """[N, 9] raters per rating"""
    domains: np.ndarray
    """[N]"""


@dataclass(frozen=True)
class Reviews:
    """Human-rated snippets as an `Environment`: prompt = begin token and first tokens, response = the rest.

    Snippets are split 80/10/10, by text and stratified by domain; a response longer than `response_tokens` is cut.
    Prompts are split too: the splits share neither snippets nor `prompts`.
    """

    tokenizer: Tokenizer
    prompt_tokens: int = 5
    response_tokens: int = 27
    data: Path | None = None
    """the user's own ratings in the format of the shipped file; None: the shipped file"""

    @property
    def name(self) -> str:
        return "reviews"

    @property
    def vocab(self) -> int:
        return int(self.tokenizer.get_vocab_size())

    @cached_property
    def parts(self) -> dict[str, Part]:
        """The encoded splits."""
        splits = split_texts(self.data)
        return {name: self._encode(splits[name]) for name in SPLITS}

    def _encode(self, snippets: list[ratings.Snippet]) -> Part:
        rows = tokenizer.encode_snippets(
            self.tokenizer,
            [s.text for s in snippets],
            prompt_tokens=self.prompt_tokens,
            response_tokens=self.response_tokens,
        )
        kept = [snippets[i] for i in rows.index]
        return Part(
            Responses(rows.prompt, rows.response, rows.length),  # type: ignore[arg-type]
            rows.complete,
            human.rating_histograms([s.ratings for s in kept]),
            np.array([s.domain for s in kept]),
        )

    def prompts(self, split: str) -> np.ndarray:
        """[N, P] distinct prompts of a split, in a fixed shuffled order; no prompt is in two splits.

        Snippets of different splits may begin alike: a prompt belongs to the first of `SPLITS` that has it, so none
        of "validation" occurs in "train", and none of "test" in either. Of the shipped data's 1,587 prompts of
        validation and 1,527 of test remain (of 2,189 and 2,153), beside 14,598 of training.
        """
        require(split in SPLITS, f"split {split!r}: allowed are {', '.join(SPLITS)}")
        return self.split_prompts[split]

    @cached_property
    def split_prompts(self) -> dict[str, np.ndarray]:
        """The prompts of every split."""
        found: dict[str, np.ndarray] = {}
        earlier: set[tuple[int, ...]] = set()
        for split in SPLITS:
            distinct = np.unique(np.asarray(self.part(split).responses.prompt), axis=0)
            rows = [tuple(row) for row in distinct.tolist()]
            own = distinct[np.array([row not in earlier for row in rows], bool)]
            earlier.update(rows)
            found[split] = own[np.random.default_rng(0).permutation(len(own))]
        return found

    def demonstrations(self, split: str) -> Responses:
        return Responses(*(jnp.asarray(x) for x in self.part(split).responses))

    def decode(self, tokens: np.ndarray) -> str:
        return tokenizer.decode(self.tokenizer, tokens)

    def part(self, split: str) -> Part:
        """The encoded snippets of a split and their ratings."""
        require(split in SPLITS, f"split {split!r}: allowed are {', '.join(SPLITS)}")
        return self.parts[split]

    def human_comparisons(
        self, split: str, rng: np.random.Generator, *, group_size: int, num_groups: int, kind: LabelKind
    ) -> Comparisons:
        """K-way groups of human-written snippets of one domain, labelled by their raters (see `human_labels`).

        The K responses of a group answer different prompts: raters saw whole snippets, never two to one prompt.
        """
        part = self.part(split)
        index = human.human_groups(part.histograms, part.domains, rng, group_size=group_size, num_groups=num_groups)
        labels = human.human_labels(part.histograms[index], rng, kind=kind)
        grouped = Responses(*(jnp.asarray(np.asarray(x)[index]) for x in part.responses))
        return Comparisons(grouped, jnp.asarray(labels.target), jnp.asarray(labels.weight))

    def rater_agreement(self, split: str, *, num_pairs: int = 20_000) -> RaterAgreement:
        """How far the raters agree with each other on the snippets of a split: the ceiling of a reward model."""
        part = self.part(split)
        return human.rater_agreement(part.histograms, part.domains, np.random.default_rng(0), num_pairs=num_pairs)

    def agreement_with_raters(self, split: str, scores: np.ndarray, *, num_pairs: int = 20_000) -> dict[str, float]:
        """Share of random within-domain pairs of snippets that `scores` [N] orders as people do, ties dropped.

        "rater": as one rater of each snippet does, drawn at random. "majority": as most pairs of their raters do.
        """
        part = self.part(split)
        rng = np.random.default_rng(1)
        index = human.human_groups(part.histograms, part.domains, rng, group_size=2, num_groups=num_pairs)
        above = scores[index[:, 0]] > scores[index[:, 1]]
        found = {}
        for kind in ("rater", "majority"):
            labels = human.human_labels(part.histograms[index], rng, kind=kind)
            counted = labels.weight[:, 0] > 0
            found[kind] = float(np.mean(above[counted] == (labels.target[counted, 0] > 0.5)))
        return found


def split_texts(data: Path | None = None) -> dict[str, list[ratings.Snippet]]:
    """The snippets of every split, as text."""
    splits = ratings.split_snippets(ratings.load_snippets(data))
    return dict(zip(SPLITS, (list(part) for part in splits), strict=True))


def train_reviews_tokenizer(data: Path | None = None, vocab: int = 1024) -> Tokenizer:
    """The tokenizer of the environment: learned on the training split alone.

    Raises:
        InputError: the file cannot be read, or its texts have no merges for so large a vocabulary.
    """
    texts = [s.text for s in split_texts(data)["train"]]
    try:
        return tokenizer.train_tokenizer(texts, vocab)
    except InputError as error:
        raise InputError(f"environment.vocab={vocab}: {error}") from error
