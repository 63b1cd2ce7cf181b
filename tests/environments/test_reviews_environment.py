"""The environment's splits, prompts, responses and human comparisons against the snippets they are made of."""

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from synthetic_rm.environments.reviews import ratings
from synthetic_rm.environments.reviews.environment import SPLITS, Reviews, split_texts, train_reviews_tokenizer
from synthetic_rm.environments.reviews.ratings import COLUMNS, Snippet, load_snippets
from synthetic_rm.environments.reviews.tokenizer import train_tokenizer
from synthetic_rm.errors import InputError

PROMPT, RESPONSE, VOCAB = 4, 40, 400


def write_data(path: Path, snippets: list[Snippet]) -> Path:
    rows = [(s.domain, s.id, " ".join(map(str, s.ratings)), s.text) for s in snippets]
    path.write_text("".join("\t".join(row) + "\n" for row in (COLUMNS, *rows)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One in 25 of the shipped snippets, as a user's own file."""
    return write_data(tmp_path_factory.mktemp("data") / "ratings.tsv", load_snippets()[::25])


@pytest.fixture(scope="module")
def reviews(data: Path) -> Reviews:
    return Reviews(train_reviews_tokenizer(data, VOCAB), PROMPT, RESPONSE, data)


def test_what_an_environment_says_of_itself(reviews: Reviews) -> None:
    assert (reviews.name, reviews.vocab) == ("reviews", VOCAB)
    assert (reviews.prompt_tokens, reviews.response_tokens) == (PROMPT, RESPONSE)
    assert set(vars(reviews)) <= {
        "tokenizer",
        "prompt_tokens",
        "response_tokens",
        "data",
        "parts",
        "split_prompts",
    }  # and no gold


def test_splits_share_no_text_and_hold_every_snippet(data: Path) -> None:
    splits = split_texts(data)
    assert tuple(splits) == SPLITS
    texts = {name: {s.text for s in part} for name, part in splits.items()}
    assert not texts["train"] & texts["test"] and not texts["train"] & texts["validation"]
    assert not texts["validation"] & texts["test"]
    everything = [s for part in splits.values() for s in part]
    assert Counter(everything) == Counter(load_snippets(data))
    assert len(splits["train"]) == pytest.approx(0.8 * len(everything), rel=0.05)


def test_the_tokenizer_is_learned_on_the_training_split_alone(data: Path, tmp_path: Path) -> None:
    learned = train_reviews_tokenizer(data, VOCAB).to_str()
    assert learned == train_tokenizer([s.text for s in split_texts(data)["train"]], VOCAB).to_str()
    held_out = {s.text for name in ("validation", "test") for s in split_texts(data)[name]}
    changed = [s._replace(ratings=(1, 2)) if s.text in held_out else s for s in load_snippets(data)]
    assert train_reviews_tokenizer(write_data(tmp_path / "b.tsv", changed), VOCAB).to_str() == learned
    everything = train_tokenizer([s.text for s in load_snippets(data)], VOCAB).to_str()
    assert everything != learned


@pytest.mark.parametrize("split", SPLITS)
def test_prompts_and_responses_are_the_texts(reviews: Reviews, split: str) -> None:
    part = reviews.part(split)
    texts = Counter(s.text for s in split_texts(reviews.data)[split])
    assert 0.05 < part.complete.mean() < 0.95
    found: Counter[str] = Counter()
    for prompt, tokens, length, complete in zip(*part.responses, part.complete, strict=True):
        assert prompt[0] == 1 and 1 <= length <= RESPONSE
        text = reviews.decode(np.concatenate([prompt, tokens[:length]]))
        if complete:
            found[text] += 1
            assert tokens[length - 1] == 2
        else:
            assert length == RESPONSE and any(whole.startswith(text.rstrip("\ufffd")) for whole in texts)
    assert sum(found.values()) > 10 and all(n <= texts[text] for text, n in found.items())
    assert len(part.histograms) == len(part.domains) == len(part.complete) == len(part.responses.length)


def test_ratings_stay_with_their_snippets(reviews: Reviews) -> None:
    part = reviews.part("test")
    rated = {s.text: s for s in split_texts(reviews.data)["test"]}
    checked = 0
    for prompt, tokens, length, complete, histogram, domain in zip(
        *part.responses, part.complete, part.histograms, part.domains, strict=True
    ):
        if complete:
            snippet = rated[reviews.decode(np.concatenate([prompt, tokens[:length]]))]
            expected = np.bincount(np.array(snippet.ratings) + 4, minlength=9)
            np.testing.assert_array_equal(histogram, expected)
            checked += domain == snippet.domain
    assert checked > 10


@pytest.mark.parametrize("split", SPLITS)
def test_prompts_are_distinct_complete_and_in_a_fixed_order_that_is_not_sorted(reviews: Reviews, split: str) -> None:
    prompts = reviews.prompts(split)
    rows = [tuple(row) for row in prompts.tolist()]
    assert len(set(rows)) == len(rows)
    seen = {name: {tuple(row) for row in np.asarray(reviews.part(name).responses.prompt).tolist()} for name in SPLITS}
    earlier = [row for name in SPLITS[: SPLITS.index(split)] for row in seen[name]]
    assert set(rows) == seen[split].difference(earlier) and len(rows) > 10
    assert rows != sorted(rows)
    np.testing.assert_array_equal(prompts, Reviews(reviews.tokenizer, PROMPT, RESPONSE, reviews.data).prompts(split))


def test_no_prompt_is_in_two_splits(reviews: Reviews) -> None:
    splits = [{tuple(row) for row in reviews.prompts(split).tolist()} for split in SPLITS]
    assert sum(len(rows) for rows in splits) == len(set.union(*splits))


def test_demonstrations_are_the_encoded_split(reviews: Reviews) -> None:
    for a, b in zip(reviews.demonstrations("validation"), reviews.part("validation").responses, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", ["share", "majority", "rater"])
def test_human_comparisons_are_of_one_domain_and_labelled_by_those_who_rated(reviews: Reviews, kind: str) -> None:
    part = reviews.part("train")
    rows = {
        (*prompt.tolist(), *tokens.tolist()): i
        for i, (prompt, tokens) in enumerate(zip(part.responses.prompt, part.responses.tokens, strict=True))
    }
    options = {"group_size": 3, "num_groups": 60, "kind": kind}
    found = reviews.human_comparisons("train", np.random.default_rng(0), **options)  # type: ignore[arg-type]
    assert found.target.shape == found.weight.shape == (60, 3) and found.responses.tokens.shape == (60, 3, RESPONSE)
    mean = (part.histograms * np.arange(-4, 5)).sum(1) / part.histograms.sum(1)
    agreeing = []
    columns = (found.responses.prompt, found.responses.tokens, found.target, found.weight)
    for prompts, tokens, targets, weights in zip(*(np.asarray(x).tolist() for x in columns), strict=True):
        index = [rows[(*p, *t)] for p, t in zip(prompts, tokens, strict=True)]
        assert len(set(index)) == 3 and len({part.domains[i] for i in index}) == 1
        for (a, b), target, weight in zip(((0, 1), (0, 2), (1, 2)), targets, weights, strict=True):
            if weight and abs(mean[index[a]] - mean[index[b]]) > 2:
                agreeing.append((target > 0.5) == (mean[index[a]] > mean[index[b]]))
    assert len(agreeing) > 20 and np.mean(agreeing) > 0.9


def test_agreement_is_high_for_the_raters_own_mean_and_turns_round_with_the_scores(reviews: Reviews) -> None:
    part = reviews.part("test")
    mean = (part.histograms * np.arange(-4, 5)).sum(1) / part.histograms.sum(1)
    mean = mean + 1e-6 * np.arange(len(mean))  # no ties
    best, worst = (reviews.agreement_with_raters("test", sign * mean) for sign in (1, -1))
    random = reviews.agreement_with_raters("test", np.random.default_rng(0).normal(size=len(mean)))
    assert best["majority"] > 0.95 and 0.7 < best["rater"] < best["majority"]
    for kind, share in best.items():
        assert share + worst[kind] == pytest.approx(1)
        assert abs(random[kind] - 0.5) < 0.1
    assert reviews.agreement_with_raters("test", mean) == best


def test_raters_agree_with_each_other_less_than_with_their_majority(reviews: Reviews) -> None:
    found = reviews.rater_agreement("test", num_pairs=4000)
    one, many = found.rater_vs_rater["overall"].value, found.rater_vs_majority["overall"].value
    assert 0.5 < one < many < found.rater_vs_own_majority["overall"].value < 1
    assert reviews.rater_agreement("test", num_pairs=4000) == found


def test_another_split_is_refused_by_name(reviews: Reviews) -> None:
    with pytest.raises(InputError, match=r"'dev'.*train, validation, test"):
        reviews.prompts("dev")


def test_the_shipped_ratings_are_the_default(monkeypatch: pytest.MonkeyPatch, data: Path) -> None:
    monkeypatch.setattr(ratings, "DATA_PATH", data)
    monkeypatch.setattr(ratings, "DATA_SHA256", hashlib.sha256(data.read_bytes()).hexdigest())
    assert split_texts() == split_texts(data)
