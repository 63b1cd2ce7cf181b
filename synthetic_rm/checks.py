"""F7: what the data must hold for a run: told on one line before anything is trained."""

from pathlib import Path

import numpy as np

from synthetic_rm.environments.reviews.environment import SPLITS, Reviews, split_texts
from synthetic_rm.errors import InputError, require
from synthetic_rm.settings import EnvironmentSettings, Settings


def check_data(settings: EnvironmentSettings) -> None:
    """Read the user's own ratings, if there are any, and see that every split gets some.

    Raises:
        InputError: the file cannot be read, holds something else or too little; the key is named.
    """
    if settings.data is None:
        return
    try:
        splits = split_texts(Path(settings.data))
    except InputError as error:
        raise InputError(f"environment.data={settings.data}: {error}") from error
    total = sum(len(part) for part in splits.values())
    for split, part in splits.items():
        require(bool(part), f"environment.data={settings.data}: {total} snippets leave none for the split {split}")


def check_prompts(settings: Settings, environment: Reviews) -> None:
    """Refuse more evaluation prompts than there are: they are not used twice."""
    wanted, found = settings.best_of_n.prompts, len(environment.prompts("test"))
    require(wanted <= found, f"best_of_n.prompts={wanted}: allowed is up to {found}, the distinct prompts held out")


def check_environment(settings: Settings, environment: Reviews) -> None:
    """See that the encoded snippets suffice for every stage of a run. Costs their encoding, no compile.

    Raises:
        InputError: a split without snippets or prompts, or more of them asked for than there are; the key is named.
    """
    s = settings.environment
    for split in SPLITS:
        require(
            len(environment.part(split).complete) > 0,
            f"environment.prompt_tokens={s.prompt_tokens}: no snippet of the split {split} has so many tokens",
        )
        require(
            len(environment.prompts(split)) > 0,
            f"environment.prompt_tokens={s.prompt_tokens}: the split {split} has no prompt that an earlier one has not",
        )
    check_prompts(settings, environment)
    if settings.rl.method is not None:
        wanted, found = settings.rl.prompts, len(environment.prompts("train"))
        require(wanted <= found, f"rl.prompts={wanted}: allowed is up to {found}, the distinct training prompts")
    if settings.comparisons.labels == "human":
        for split in ("train", "validation"):
            _check_groups(environment, split, "comparisons.group_size", settings.comparisons.group_size)
    if s.release is None:
        _check_build(s, environment)


def _check_build(settings: EnvironmentSettings, environment: Reviews) -> None:
    build, snippets = settings.build, len(environment.part("train").complete)
    require(
        build.batch <= snippets,
        f"environment.build.batch={build.batch}: allowed is up to {snippets}, the snippets to train on",
    )
    _check_groups(environment, "train", "environment.build.gold_group_size", build.gold_group_size)
    test, key = environment.part("test"), f"environment.data={settings.data}"
    _, counts = np.unique(test.domains, return_counts=True)
    require(int(counts.min()) >= 2, f"{key}: a domain has 1 snippet in the split test, allowed is 2 or more to compare")
    require("overall" not in test.domains, f"{key}: domain 'overall' is taken by the sum of all domains")
    raters = int(test.histograms.sum(axis=1).min())
    require(raters >= 2, f"{key}: a snippet of the split test has 1 rating, allowed is 2 or more to agree")


def _check_groups(environment: Reviews, split: str, key: str, size: int) -> None:
    domains, counts = np.unique(environment.part(split).domains, return_counts=True)
    fewest = int(counts.argmin())
    require(
        size <= counts[fewest],
        f"{key}={size}: allowed is up to {counts[fewest]}, the snippets of {domains[fewest]} in the split {split}",
    )
