"""Human comparisons made from individual raters' ratings, and how far the raters agree among themselves.

A rater of one snippet and a rater of another make a comparison: the snippet rated higher is preferred, equal
ratings are a tie. Ratings are kept as histograms over -4..4, from which such probabilities follow exactly,
raters of a snippet being exchangeable. The K(K-1)/2 comparisons of a K-way group come in the order of
`itertools.combinations(range(K), 2)`.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from synthetic_rm.environments.reviews import agreement
from synthetic_rm.environments.reviews.agreement import Agreement
from synthetic_rm.environments.reviews.ratings import MAX_RATING, MIN_RATING
from synthetic_rm.errors import InputError, require

NUM_RATINGS = MAX_RATING - MIN_RATING + 1
LabelKind = Literal["rater", "majority", "share"]


class HumanLabels(NamedTuple):
    """Labels of comparisons.

    Attributes:
        target: [groups, comparisons] float32 in [0, 1], preference for the first snippet; 0.5 where dropped.
        weight: [groups, comparisons] float32, 1, or 0 where the comparison is dropped.
    """

    target: np.ndarray
    weight: np.ndarray


class RaterAgreement(NamedTuple):
    """Agreement of the raters, by domain and "overall" (all pairs alike); `rater_agreement` defines each."""

    rater_vs_rater: dict[str, Agreement]
    rater_vs_majority: dict[str, Agreement]
    rater_vs_own_majority: dict[str, Agreement]
    half_vs_half: dict[str, Agreement]
    mean_vs_mean: dict[str, Agreement]
    decisive: dict[str, Agreement]


def rating_histograms(ratings: Sequence[Sequence[int]]) -> np.ndarray:
    """Raters who gave each rating -4..4: [snippets, 9] int64, from one tuple of ratings per snippet."""
    owner = np.repeat(np.arange(len(ratings)), [len(listed) for listed in ratings])
    value = np.array([rating for listed in ratings for rating in listed], dtype=np.int64) - MIN_RATING
    allowed = value.size == 0 or (value.min() >= 0 and value.max() < NUM_RATINGS)
    require(bool(allowed), f"ratings outside {MIN_RATING}..{MAX_RATING}")
    flat = np.bincount(owner * NUM_RATINGS + value, minlength=len(ratings) * NUM_RATINGS)
    return flat.reshape(len(ratings), NUM_RATINGS)


def preference_share(a: np.ndarray, b: np.ndarray) -> float:
    """P(r_a > r_b) / (P(r_a > r_b) + P(r_b > r_a)) over all pairs of raters; NaN if all tie.

    Args:
        a: [raters of a] ratings.
        b: [raters of b] ratings.
    """
    order = np.sign(np.subtract.outer(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)))
    decisive = np.count_nonzero(order)
    return float(np.count_nonzero(order > 0) / decisive) if decisive else float("nan")


def preference_shares(hist: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`preference_share` of every pair of every group, from histograms.

    Args:
        hist: [groups, K, 9] raters per rating.

    Returns:
        share: [groups, K(K-1)/2], P(r_i > r_j | no tie) for i < j; NaN where all pairs of raters tie.
        decisive: [groups, K(K-1)/2], P(no tie) among pairs of a rater of i and a rater of j.

    Raises:
        InputError: another shape, or K below 2.
    """
    hist = _check_groups(hist)
    above = np.cumsum(hist, axis=-1) - hist  # raters who gave less than each rating
    wins = hist @ np.swapaxes(above, -1, -2)
    first, second = np.triu_indices(hist.shape[1], k=1)
    win, loss = wins[:, first, second], wins[:, second, first]
    raters = hist.sum(axis=-1)
    pairs = raters[:, first] * raters[:, second]
    share = np.divide(win, win + loss, out=np.full(win.shape, np.nan), where=win + loss > 0)
    return share, (win + loss) / np.maximum(pairs, 1)


def human_groups(
    hist: np.ndarray, domains: np.ndarray, rng: np.random.Generator, *, group_size: int, num_groups: int
) -> np.ndarray:
    """Draw K-way groups of distinct snippets of one domain, every snippet about equally often.

    Within a domain only: ratings spread differently by domain (of films one in four is 3 or 4 from neutral,
    of editorials one in twenty) and nothing says that the raters were the same, so across domains a
    comparison would tell the subject and the scale rather than the opinion. Each domain gets groups in
    proportion to its rated snippets; shuffled passes over them are cut into groups, so the uses of two
    snippets of a domain differ by at most 1.

    Args:
        hist: [snippets, 9] raters per rating; snippets nobody rated are left out.
        domains: [snippets] domain of each snippet.
        group_size: K, snippets per group.
        num_groups: groups in all.

    Returns:
        index: [num_groups, K] int64, positions of snippets, groups in random order.

    Raises:
        InputError: `group_size` below 2 or above the rated snippets of a domain, or `num_groups` below 1.
    """
    require(group_size >= 2, f"group_size = {group_size}: allowed is 2 or more")
    require(num_groups >= 1, f"num_groups = {num_groups}: allowed is 1 or more")
    hist, domains = _check_snippets(hist, domains)
    rated = hist.sum(axis=-1) > 0
    members = [np.flatnonzero(rated & (domains == domain)) for domain in np.unique(domains[rated])]
    require(bool(members), "hist: nobody rated any snippet")
    fewest = min(len(rows) for rows in members)
    require(group_size <= fewest, f"group_size = {group_size}: a domain has only {fewest} rated snippets")
    quota = num_groups * np.array([len(rows) for rows in members]) / sum(len(rows) for rows in members)
    counts = np.floor(quota).astype(int)
    counts[np.argsort(counts - quota, kind="stable")[: num_groups - counts.sum()]] += 1
    drawn = [rows[_cover(len(rows), group_size, int(count), rng)] for rows, count in zip(members, counts, strict=True)]
    return rng.permutation(np.concatenate(drawn))


def human_labels(hist: np.ndarray, rng: np.random.Generator, *, kind: LabelKind) -> HumanLabels:
    """Label the comparisons of groups as people do.

    Args:
        hist: [groups, K, 9] raters per rating.
        kind: "rater": one rater drawn per snippet and group, who stands in all its comparisons; ties are
            dropped, as in InstructGPT (Ouyang et al. 2022, appendix C). "majority": what most pairs of raters
            that do not tie say, dropped when exactly half. "share": the share of those pairs itself as a soft
            label, dropped if undefined.

    Returns:
        `HumanLabels`, [groups, K(K-1)/2] each.

    Raises:
        InputError: another kind or shape.
    """
    hist = _check_groups(hist)
    if kind == "rater":
        drawn = _draw_rater(hist, rng)
        first, second = np.triu_indices(hist.shape[1], k=1)
        unrated = hist.sum(axis=-1) == 0
        order = np.sign(drawn[:, first] - drawn[:, second])
        order[unrated[:, first] | unrated[:, second]] = 0
    elif kind == "majority":
        order = np.sign(np.nan_to_num(preference_shares(hist)[0], nan=0.5) - 0.5)
    elif kind == "share":
        share = preference_shares(hist)[0]
        return HumanLabels(np.nan_to_num(share, nan=0.5).astype(np.float32), (~np.isnan(share)).astype(np.float32))
    else:
        raise InputError(f"kind = {kind!r}: allowed are rater, majority, share")
    return HumanLabels(((order + 1) / 2).astype(np.float32), (order != 0).astype(np.float32))


def rater_agreement(
    hist: np.ndarray, domains: np.ndarray, rng: np.random.Generator, *, num_pairs: int
) -> RaterAgreement:
    """How far raters agree on which of two random snippets of one domain is the better.

    Pairs come from `human_groups`. Each figure is a ratio of expectations over pairs and raters: of two
    judgements of the same pair, P(both prefer the same snippet) / P(neither is a tie). Raters are averaged
    over exactly, except for the halves, which are split once per pair. Standard errors allow for snippets
    shared by pairs.

    - rater_vs_rater: a comparison by single raters (one of each snippet) against another, no rater in both.
    - rater_vs_majority: a comparison by single raters against the majority of the pairs of all other raters.
      A reward model scored on single raters' comparisons cannot be expected to do better than the majority of
      endless raters; this falls short of that ceiling, because the other raters are few.
    - rater_vs_own_majority: the same with the raters themselves among the majority, which exceeds that
      ceiling. The ceiling lies between the two.
    - half_vs_half: majorities of pairs of raters from random halves of each snippet's raters. Full panels of
      raters would agree more often than halves do.
    - mean_vs_mean: the same halves, each preferring the snippet of the higher mean rating.
    - decisive: P(no tie) of a comparison by single raters; no agreement, but what the dropped ties leave.

    Args:
        hist: [snippets, 9] raters per rating, two or more raters each.
        domains: [snippets] domain of each snippet.
        num_pairs: pairs of snippets in all, shared among the domains in proportion to their snippets.

    Raises:
        InputError: `num_pairs` below 1, a snippet of one rater, a domain of one snippet or named "overall".
    """
    hist, domains = _check_snippets(hist, domains)
    require(bool((hist.sum(axis=-1) >= 2).all()), "hist: a snippet has fewer than 2 raters, allowed is 2 or more")
    require("overall" not in domains, 'domains: "overall" is taken by the sum of all domains')
    pairs = human_groups(hist, domains, rng, group_size=2, num_groups=num_pairs)
    a, b = hist[pairs[:, 0]], hist[pairs[:, 1]]
    by_majority, by_mean = agreement.half_against_half(a, b, rng)
    _, decisive = preference_shares(hist[pairs])
    domain_of = domains[pairs[:, 0]]
    chosen = {"overall": np.ones(len(pairs), dtype=bool)}
    chosen |= {str(domain): domain_of == domain for domain in np.unique(domain_of)}

    def pool(counts: agreement.Counts) -> dict[str, Agreement]:
        agree, counted = counts
        return {
            name: agreement.pooled_agreement((agree[rows], counted[rows]), pairs[rows]) for name, rows in chosen.items()
        }

    return RaterAgreement(
        rater_vs_rater=pool(agreement.rater_against_rater(a, b)),
        rater_vs_majority=pool(agreement.rater_against_rest(a, b)),
        rater_vs_own_majority=pool(agreement.rater_against_all(a, b)),
        half_vs_half=pool(by_majority),
        mean_vs_mean=pool(by_mean),
        decisive=pool((decisive[:, 0], np.ones(len(pairs)))),
    )


def agreement_table(found: RaterAgreement) -> str:
    """The agreement in percent, with standard errors, as a Markdown table of one row per domain."""
    lines = [
        f"| domain | {' | '.join(RaterAgreement._fields)} |",
        "|---" * (len(RaterAgreement._fields) + 1) + "|",
    ]
    for domain in found.decisive:
        cells = (figure[domain] for figure in found)
        lines.append(f"| {domain} | " + " | ".join(f"{100 * c.value:.1f} ± {100 * c.se:.1f}" for c in cells) + " |")
    return "\n".join(lines)


def _cover(size: int, group_size: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """[count, group_size] positions below `size`: shuffled passes, no position twice in a group."""
    sequence = np.empty(0, dtype=np.int64)
    passes = []
    total = 0
    while total < count * group_size:
        carried = sequence[len(sequence) - total % group_size :]  # the unfinished group of the last pass
        shuffled = rng.permutation(size)
        repeated = np.isin(shuffled, carried)
        sequence = np.concatenate([shuffled[~repeated], shuffled[repeated]])
        passes.append(sequence)
        total += size
    joined = np.concatenate(passes) if passes else sequence
    return joined[: count * group_size].reshape(count, group_size)


def _draw_rater(hist: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[...] index 0..8 of the rating of one rater drawn per histogram."""
    rank = rng.random(hist.shape[:-1]) * hist.sum(axis=-1)
    return (rank[..., None] >= np.cumsum(hist, axis=-1)).sum(axis=-1)


def _check_groups(hist: np.ndarray) -> np.ndarray:
    hist = np.asarray(hist, dtype=np.float64)
    valid = hist.ndim == 3 and hist.shape[1] >= 2 and hist.shape[2] == NUM_RATINGS
    require(valid, f"hist: shape is {hist.shape}, allowed is [groups, K >= 2, {NUM_RATINGS}]")
    return hist


def _check_snippets(hist: np.ndarray, domains: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    hist, domains = np.asarray(hist, dtype=np.int64), np.asarray(domains, dtype=str)
    valid = hist.ndim == 2 and hist.shape[1] == NUM_RATINGS and domains.shape == hist.shape[:1]
    require(
        valid,
        f"hist, domains: shapes are {hist.shape}, {domains.shape}, allowed are [N, {NUM_RATINGS}] and [N]",
    )
    return hist, domains
