"""The snippets are what the card says, damage is noticed, and the splits leak nothing."""

import gzip
import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from synthetic_rm.environments.reviews import ratings
from synthetic_rm.environments.reviews.ratings import Snippet, load_snippets, split_snippets
from synthetic_rm.errors import InputError

HEADER = "domain\tid\tratings\ttext\n"


@pytest.fixture(scope="module")
def snippets() -> list[Snippet]:
    return load_snippets()


def _one_line(error: pytest.ExceptionInfo[InputError], *parts: str) -> None:
    message = str(error.value)
    assert "\n" not in message
    assert all(part in message for part in parts), message


def test_shipped_table_is_the_published_one(snippets: list[Snippet]) -> None:
    table = gzip.decompress(ratings.DATA_PATH.read_bytes())
    assert hashlib.sha256(table).hexdigest() == ratings.DATA_SHA256
    counts = Counter(snippet.domain for snippet in snippets)
    assert counts == {"movie": 10605, "product": 3708, "editorial": 5190, "tweet": 4005}
    assert sum(len(snippet.ratings) for snippet in snippets) == 517_812
    assert snippets[2] == Snippet(
        "movie",
        "3",
        "effective but too tepid biopic",
        (-1, 0, -1, 0, -1, -1, -1, -1, 0, -2, 1, 1, -1, -1, -1),
    )
    assert all(snippet.text == snippet.text.lower() for snippet in snippets)


def test_another_table_in_its_place_is_refused_by_hash(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    changed = gzip.decompress(ratings.DATA_PATH.read_bytes()).replace(b"tepid", b"vapid", 1)
    path = tmp_path / "human_ratings.tsv.gz"
    path.write_bytes(gzip.compress(changed))
    monkeypatch.setattr(ratings, "DATA_PATH", path)
    with pytest.raises(InputError) as error:
        load_snippets()
    _one_line(error, str(path), ratings.DATA_SHA256, hashlib.sha256(changed).hexdigest())
    assert len(load_snippets(path)) == 23_508  # named by the user, it is the user's own


@pytest.mark.parametrize("damage", ["truncated", "flipped", "not gzip", "missing"])
def test_damaged_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, damage: str) -> None:
    content = bytearray(ratings.DATA_PATH.read_bytes())
    path = tmp_path / "human_ratings.tsv.gz"
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
    elif damage == "not gzip":
        path.write_bytes(b"<html>not found</html>")
    monkeypatch.setattr(ratings, "DATA_PATH", path)
    with pytest.raises(InputError) as error:
        load_snippets()
    _one_line(error, str(path), ratings.DATA_SHA256)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("text\trating\ngood\t1\n", "header"),
        (HEADER, "no snippets"),
        (HEADER + "movie\t1\t1 2\tgood\nmovie\t2\t1 2\n", "line 3: 3 columns"),
        (HEADER + "movie\t1\t1 two\tgood\n", "line 2: ratings are '1 two'"),
        (HEADER + "movie\t1\t5\tgood\n", "line 2: ratings are '5'"),
        (HEADER + "movie\t1\t\tgood\n", "line 2: ratings are ''"),
        (HEADER + "movie\t1\t1 2\t \n", "line 2: domain, id and text"),
    ],
)
def test_malformed_table_is_named_with_its_line(tmp_path: Path, content: str, complaint: str) -> None:
    path = tmp_path / "mine.tsv"
    path.write_text(content)
    with pytest.raises(InputError) as error:
        load_snippets(path)
    _one_line(error, str(path), complaint)


def test_own_table_may_be_plain_text_with_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "mine.tsv"
    path.write_bytes((HEADER + "jokes\ta\t4 -4\tGÜT \u2028 one\n").replace("\n", "\r\n").encode())
    assert load_snippets(path) == [Snippet("jokes", "a", "güt \u2028 one", (4, -4))]


def test_splits_partition_the_snippets_and_share_no_text(snippets: list[Snippet]) -> None:
    splits = split_snippets(snippets)
    assert sorted(snippet for part in splits for snippet in part) == sorted(snippets)
    texts = [{snippet.text for snippet in part} for part in splits]
    assert not (texts[0] & texts[1] or texts[0] & texts[2] or texts[1] & texts[2])
    assert len(set.union(*texts)) < len(snippets)  # so that there were equal texts to keep together


def test_splits_are_stratified_by_domain(snippets: list[Snippet]) -> None:
    total = Counter(snippet.domain for snippet in snippets)
    for part, fraction in zip(split_snippets(snippets, seed=3), (0.8, 0.1, 0.1), strict=True):
        counts = Counter(snippet.domain for snippet in part)
        for domain, count in total.items():
            assert abs(counts[domain] - fraction * count) < 0.004 * count  # repeated texts go together


def test_splits_depend_on_the_seed_and_not_on_the_order(snippets: list[Snippet]) -> None:
    shuffled = [snippets[i] for i in np.random.default_rng(0).permutation(len(snippets))]
    assert split_snippets(shuffled) == split_snippets(snippets)
    first, other = ({s.text for s in split_snippets(snippets, seed=seed).test} for seed in (0, 1))
    assert len(first & other) < 0.15 * len(first)  # independent splits share a tenth


def test_a_text_of_several_domains_splits_alike_in_any_order() -> None:
    both = [Snippet(domain, str(i), f"text {i}", (1,)) for domain in "ab" for i in range(30)]
    extra = [Snippet("a", f"more {i}", f"other text {i}", (1,)) for i in range(30)]
    assert split_snippets(both + extra) == split_snippets(extra + both[::-1])


def test_splits_are_random_within_a_domain(snippets: list[Snippet]) -> None:
    splits = split_snippets(snippets)
    means = [np.mean([np.mean(s.ratings) for s in part if s.domain == "movie"]) for part in splits]
    assert np.ptp(means) < 0.25  # standard error of a tenth of the film reviews: 0.06


@pytest.mark.parametrize("fractions", [(0.8, 0.1, 0.2), (1.1, -0.1, 0.0)])
def test_fractions_that_are_none_are_refused(fractions: tuple[float, float, float]) -> None:
    with pytest.raises(InputError, match="fractions"):
        split_snippets([], fractions=fractions)
