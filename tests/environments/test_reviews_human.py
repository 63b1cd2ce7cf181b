"""Comparisons and agreement against explicit enumeration of raters, and the data card against the data."""

import itertools
import re
from collections import Counter

import numpy as np
import pytest

from synthetic_rm.environments.reviews import agreement, human, ratings
from synthetic_rm.environments.reviews.tokenizer import encode_batch, train_tokenizer
from synthetic_rm.errors import InputError

CARD = (ratings.DATA_PATH.parent / "README.md").read_text()


def _random_ratings(rng: np.random.Generator, count: int, raters: int = 5) -> list[tuple[int, ...]]:
    """Few, clustered ratings, so that ties are common and the numbers of raters differ."""
    return [
        tuple(np.clip(rng.normal(rng.normal(0, 2), 1, size=rng.integers(2, raters + 1)).round(), -4, 4).astype(int))
        for _ in range(count)
    ]


def _sign(a: int | float, b: int | float) -> int:
    return int(a > b) - int(a < b)


def _majority(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    return _sign(sum(_sign(x, y) for x in a for y in b), 0)


def test_preference_shares_equal_enumeration_of_rater_pairs() -> None:
    rng = np.random.default_rng(0)
    listed = _random_ratings(rng, 40)
    listed[:4] = [(2,), (2, 2), (1, 2), (3,)]
    hist = human.rating_histograms(listed).reshape(10, 4, 9)
    share, decisive = human.preference_shares(hist)
    assert np.isnan(share[0, 0])
    for group in range(10):
        for column, (i, j) in enumerate(itertools.combinations(range(4), 2)):
            signs = [_sign(x, y) for x, y in itertools.product(listed[4 * group + i], listed[4 * group + j])]
            wins, losses = signs.count(1), signs.count(-1)
            expected = wins / (wins + losses) if wins + losses else np.nan
            np.testing.assert_allclose(share[group, column], expected, rtol=1e-12)
            np.testing.assert_allclose(decisive[group, column], (wins + losses) / len(signs), rtol=1e-12)
            single = human.preference_share(np.array(listed[4 * group + i]), np.array(listed[4 * group + j]))
            np.testing.assert_allclose(single, expected, rtol=1e-12)


@pytest.mark.parametrize(("group_size", "num_groups"), [(2, 1), (4, 250), (6, 97), (7, 3)])
def test_groups_are_distinct_of_one_domain_and_even(group_size: int, num_groups: int) -> None:
    domains = np.array(["b"] * 7 + ["a"] * 40 + ["c"] * 23)[np.random.default_rng(1).permutation(70)]
    hist = np.ones((70, 9))
    index = human.human_groups(hist, domains, np.random.default_rng(2), group_size=group_size, num_groups=num_groups)
    assert index.shape == (num_groups, group_size)
    assert all(len(set(row)) == group_size and len(set(domains[row])) == 1 for row in index.tolist())
    for domain, size in Counter(domains).items():
        groups = (domains[index[:, 0]] == domain).sum()
        assert abs(groups - num_groups * size / 70) < 1
        uses = np.bincount(index.ravel(), minlength=70)[domains == domain]
        assert np.ptp(uses) <= 1


def test_groups_pair_all_with_all_and_leave_out_the_unrated() -> None:
    hist = np.ones((12, 9))
    hist[5] = 0
    index = human.human_groups(hist, np.full(12, "a"), np.random.default_rng(0), group_size=2, num_groups=5500)
    assert 5 not in index
    pairs = np.array(list(Counter(tuple(sorted(row)) for row in index.tolist()).values()))
    assert len(pairs) == 55
    assert np.abs(pairs - 100).max() < 50  # 5 standard deviations


def test_majority_and_share_labels_follow_the_shares_and_drop_ties() -> None:
    hist = human.rating_histograms([(2, 2), (2,), (1, 3), (3, 4), (-4,), (2, 1, 3)]).reshape(2, 3, 9)
    share, _ = human.preference_shares(hist)
    np.testing.assert_array_equal(share, [[np.nan, 0.5, 0.5], [1, 1, 0]])
    majority = human.human_labels(hist, np.random.default_rng(0), kind="majority")
    np.testing.assert_array_equal(majority.weight, [[0, 0, 0], [1, 1, 1]])
    np.testing.assert_array_equal(majority.target, [[0.5, 0.5, 0.5], [1, 1, 0]])
    soft = human.human_labels(hist, np.random.default_rng(0), kind="share")
    np.testing.assert_array_equal(soft.weight, [[0, 1, 1], [1, 1, 1]])
    np.testing.assert_array_equal(soft.target, [[0.5, 0.5, 0.5], [1, 1, 0]])


def test_rater_labels_have_the_frequencies_of_rater_pairs_and_are_transitive() -> None:
    listed = [(1, 2, 2, 4), (2, 3), (-1, 2, 2)]
    hist = np.broadcast_to(human.rating_histograms(listed), (40_000, 3, 9))
    share, decisive = human.preference_shares(hist[:1])
    labels = human.human_labels(hist, np.random.default_rng(0), kind="rater")
    np.testing.assert_allclose(labels.weight.mean(axis=0), decisive[0], atol=0.012)  # 5 standard errors
    won = (labels.target * labels.weight).sum(axis=0) / labels.weight.sum(axis=0)
    np.testing.assert_allclose(won, share[0], atol=0.015)
    assert set(np.unique(labels.target[labels.weight == 0])) == {0.5}
    first, last, middle = (2 * labels.target - 1).T  # 0 over 1, 0 over 2, 1 over 2
    assert not ((first > 0) & (middle > 0) & (last <= 0)).any()  # one rater per snippet orders the group
    untied = human.human_labels(np.eye(9)[None, [0, 8, 4]], np.random.default_rng(0), kind="rater")
    np.testing.assert_array_equal(untied.target, [[0, 0, 1]])


@pytest.mark.parametrize("kind", ["rater", "majority", "share"])
def test_a_snippet_that_nobody_rated_is_compared_with_none(kind: human.LabelKind) -> None:
    hist = human.rating_histograms([(4,), (), (-4,)])[None]
    labels = human.human_labels(hist, np.random.default_rng(0), kind=kind)
    np.testing.assert_array_equal(labels.weight, [[0, 1, 0]])
    np.testing.assert_array_equal(labels.target, [[0.5, 1, 0.5]])


def test_pair_agreements_equal_enumeration_of_raters() -> None:
    listed = _random_ratings(np.random.default_rng(3), 30)
    first, second = listed[:15], listed[15:]
    a, b = human.rating_histograms(first), human.rating_histograms(second)
    found = [f(a, b) for f in (agreement.rater_against_rater, agreement.rater_against_rest)]
    found.append(agreement.rater_against_all(a, b))
    for pair, (x, y) in enumerate(zip(first, second, strict=True)):
        judged: tuple[list[int], list[int], list[int]] = ([], [], [])
        for i, j in itertools.product(range(len(x)), range(len(y))):
            single = _sign(x[i], y[j])
            rest_x, rest_y = x[:i] + x[i + 1 :], y[:j] + y[j + 1 :]
            judged[0].extend(single * _sign(p, q) for p in rest_x for q in rest_y)
            judged[1].append(single * _majority(rest_x, rest_y))
            judged[2].append(single * _majority(x, y))
        for (agree, counted), products in zip(found, judged, strict=True):
            np.testing.assert_allclose(agree[pair], products.count(1) / len(products), atol=1e-12)
            np.testing.assert_allclose(counted[pair], 1 - products.count(0) / len(products), atol=1e-12)


def test_halves_partition_the_raters_at_random() -> None:
    hist = np.tile(human.rating_histograms([(1, 1, 1, 2, 3)]), (20_000, 1))
    first, second = agreement.split_raters(hist, np.random.default_rng(0))
    np.testing.assert_array_equal(first + second, hist)
    assert (first.sum(axis=1) == 2).all()
    np.testing.assert_allclose(first.mean(axis=0), 0.4 * hist[0], atol=0.025)
    np.testing.assert_allclose((first[:, 5] == 2).mean(), 0.3, atol=0.02)  # C(3,2) of C(5,2): not replaced


def test_agreement_of_raters_with_a_known_answer() -> None:
    """Every snippet is loved or hated; a rater sees that with probability 0.8, or else says the opposite.

    Of two snippets of unlike kinds a comparison is decisive when both raters see or both miss, and right
    with probability s = .64 / .68; of like kinds it is decisive with probability .32, and a fair coin. With
    equally many pairs of either sort, two decisive comparisons agree with probability
    (.68^2 (s^2 + (1-s)^2) + .32^2 / 2) / (.68^2 + .32^2).
    """
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 2, size=(1200, 1))
    seen = np.where(rng.random((1200, 60)) < 0.8, kind, 1 - kind)
    hist = human.rating_histograms((6 * seen - 3).tolist())
    domains = np.repeat(["a", "b"], 600)
    found = human.rater_agreement(hist, domains, rng, num_pairs=6000)
    right = 0.64 / 0.68
    expected = (0.68**2 * (right**2 + (1 - right) ** 2) + 0.32**2 / 2) / (0.68**2 + 0.32**2)
    for domain in ("overall", "a", "b"):
        value, error, _ = found.rater_vs_rater[domain]
        assert abs(value - expected) < 4 * error + 0.002
        assert 0 < error < 0.03
        assert found.rater_vs_majority[domain].value < found.rater_vs_own_majority[domain].value
    assert abs(found.decisive["overall"].value - 0.5) < 0.01
    unanimous = human.rater_agreement(
        5 * np.eye(9, dtype=int)[rng.integers(0, 9, 200)], np.full(200, "a"), rng, num_pairs=300
    )
    assert [figure["a"].value for figure in unanimous[:-1]] == [1.0] * 5


def test_standard_error_is_the_spread_over_fresh_snippets() -> None:
    values, errors = [], []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        centre = rng.normal(0, 1, size=(120, 1))
        hist = human.rating_histograms(
            np.clip(np.round(centre + rng.normal(size=(120, 6))), -4, 4).astype(int).tolist()
        )
        found = human.rater_agreement(hist, np.full(120, "a"), rng, num_pairs=600).rater_vs_rater["overall"]
        values.append(found.value)
        errors.append(found.se)
    assert 0.75 < np.mean(errors) / np.std(values) < 1.3  # errors of independent pairs would be far smaller


def test_bad_input_is_refused() -> None:
    rng, hist, domains = np.random.default_rng(0), np.ones((4, 9), dtype=int), np.array(["a", "a", "a", "b"])
    with pytest.raises(InputError, match="group_size = 2: a domain has only 1"):
        human.human_groups(hist, domains, rng, group_size=2, num_groups=5)
    with pytest.raises(InputError, match="group_size = 1"):
        human.human_groups(hist, domains, rng, group_size=1, num_groups=5)
    with pytest.raises(InputError, match="num_groups = 0"):
        human.human_groups(hist, domains, rng, group_size=2, num_groups=0)
    with pytest.raises(InputError, match="shapes are"):
        human.human_groups(hist[:, :5], domains, rng, group_size=2, num_groups=5)
    with pytest.raises(InputError, match="shape is"):
        human.preference_shares(hist)
    with pytest.raises(InputError, match="kind = 'crowd'"):
        human.human_labels(hist[None], rng, kind="crowd")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="fewer than 2 raters"):
        human.rater_agreement(np.eye(9, dtype=int)[:4], domains, rng, num_pairs=5)
    with pytest.raises(InputError, match="ratings outside"):
        human.rating_histograms([(1, 5)])


def _card_table(first_column: str, second_column: str) -> dict[str, list[str]]:
    lines = CARD.split(f"| {first_column} | {second_column} |")[1].split("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in rows}


def test_card_gives_the_agreement_that_the_test_split_has() -> None:
    test = ratings.split_snippets(ratings.load_snippets()).test
    hist = human.rating_histograms([snippet.ratings for snippet in test])
    domains = np.array([snippet.domain for snippet in test])
    found = human.rater_agreement(hist, domains, np.random.default_rng(0), num_pairs=20_000)
    card = _card_table("domain", "rater_vs_rater")
    assert list(card) == ["overall", *np.unique(domains)]
    for domain, cells in card.items():
        for name, figure, cell in zip(found._fields, found, cells, strict=True):
            value, error = (float(number) / 100 for number in cell.split(" ± "))
            assert abs(value - figure[domain].value) < 0.0006, (domain, name)  # printed to 0.1%
            assert abs(error - figure[domain].se) < 0.0006, (domain, name)
    assert human.agreement_table(found) in CARD
    low, high = found.rater_vs_majority["overall"].value, found.rater_vs_own_majority["overall"].value
    assert f"{100 * low:.1f} to {100 * high:.1f}%" in re.sub(r"\s+", " ", CARD)


def test_card_gives_the_sizes_and_tokens_that_the_data_have() -> None:
    everything = ratings.load_snippets()
    splits = ratings.split_snippets(everything)
    tokenizer = train_tokenizer([snippet.text for snippet in splits.train])
    texts = [snippet.text for snippet in everything]
    encoded = encode_batch(tokenizer, texts)
    tokens_of = {text: len(ids) for text, ids in zip(texts, encoded, strict=True)}
    for domain, cells in _card_table("domain", "snippets").items():
        parts = [[s for s in part if domain in ("all", s.domain)] for part in (everything, *splits)]
        raters = [len(snippet.ratings) for snippet in parts[0]]
        means = [sum(snippet.ratings) / len(snippet.ratings) for snippet in parts[0]]
        tokens = [tokens_of[snippet.text] for snippet in parts[0]]
        assert cells == [
            *(f"{len(part):,}" for part in parts),
            f"{min(raters)} to {max(raters)}",
            f"{np.mean(means):.2f} ± {np.std(means):.2f}",
            f"{np.mean(tokens):.1f}",
            *(f"{np.percentile(tokens, level):.0f}" for level in (50, 95)),
        ]
