"""Defaults hold, each value that cannot be is named with its key, and nothing that can be is refused."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthetic_rm.errors import InputError
from synthetic_rm.settings import DTYPES, LABELS, METHODS, PLATFORMS, VALUE_STARTS, Settings, flatten
from synthetic_rm.settings_checks import validate

BUILT = {"environment.release": None}
NAN, INF = float("nan"), float("inf")


def changed(changes: dict[str, Any], settings: Any = None) -> Any:
    """Settings with the values at dotted keys replaced."""
    settings = Settings() if settings is None else settings
    for key, value in changes.items():
        head, _, rest = key.partition(".")
        settings = dataclasses.replace(
            settings, **{head: changed({rest: value}, getattr(settings, head)) if rest else value}
        )
    return settings


def refused(changes: dict[str, Any]) -> str:
    with pytest.raises(InputError) as error:
        validate(changed(changes))
    message = str(error.value)
    assert "\n" not in message
    return message


def test_defaults_are_valid_and_cannot_be_changed_in_place() -> None:
    settings = Settings()
    validate(settings)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.proxy.seeds = 3  # type: ignore[misc]
    assert Settings().proxy.sizes is not settings.proxy.sizes


def test_flat_keys_are_those_of_every_field_and_find_their_value() -> None:
    flat = flatten(changed({"best_of_n.samples": 77, "environment.build.seed": 5}))
    assert (flat["best_of_n.samples"], flat["environment.build.seed"]) == (77, 5)
    assert not any(dataclasses.is_dataclass(value) for value in flat.values())
    groups = [f.name for f in dataclasses.fields(Settings) if dataclasses.is_dataclass(getattr(Settings(), f.name))]
    assert len(groups) == 9 and all(any(key.startswith(f"{group}.") for key in flat) for group in groups)
    assert list(flat) == list(flatten(Settings()))


BAD: list[tuple[str, Any]] = [
    ("environment.name", "tabular"),
    ("environment.release", "reviews-v0"),
    ("environment.release", ""),
    ("environment.vocab", 259),
    ("environment.prompt_tokens", 1),
    ("environment.response_tokens", 0),
    ("environment.build.reference_steps", 0),
    ("environment.build.batch", -1),
    ("environment.build.gold_groups", 0),
    ("environment.build.gold_group_size", 1),
    ("environment.build.calibration_samples", 0),
    ("environment.build.seed", -1),
    ("environment.build.sft_epochs", 0.0),
    ("environment.build.sft_epochs", NAN),
    ("environment.build.gold_learning_rate", -0.001),
    ("environment.build.gold_learning_rate", NAN),
    ("environment.build.gold_readout", "max"),
    ("environment.build.gold_token_dropout", 1.0),
    ("environment.build.gold_token_dropout", NAN),
    ("comparisons.num", 1),
    ("comparisons.group_size", 1),
    ("comparisons.labels", "Hard"),
    ("comparisons.labels", "gold"),
    ("comparisons.noise", -0.01),
    ("comparisons.noise", 0.51),
    ("comparisons.noise", NAN),
    ("comparisons.held_out", 0.0),
    ("comparisons.held_out", 1.0),
    ("comparisons.seed", -3),
    ("proxy.seeds", 0),
    ("proxy.init", "random"),
    ("proxy.readout", "first"),
    ("proxy.epochs", 0.0),
    ("proxy.epochs", INF),
    ("proxy.batch", 0),
    ("proxy.batch", 27_001),
    ("proxy.num_comparisons", 0),
    ("proxy.num_comparisons", 27_001),
    ("proxy.learning_rate", 0.0),
    ("proxy.learning_rate", INF),
    ("proxy.vmap_width", 0),
    ("best_of_n.prompts", 1),
    ("best_of_n.samples", 0),
    ("best_of_n.samples", 2),
    ("best_of_n.points", 1),
    ("best_of_n.points", 2),
    ("best_of_n.max_n", 0),
    ("policy.size", 0),
    ("policy.size", 50),
    ("best_of_n.max_n", 2),
    ("best_of_n.max_n", 4_097),
    ("best_of_n.prompts_at_once", 0),
    ("best_of_n.samples_at_once", -8),
    ("best_of_n.table_prompts", 0),
    ("best_of_n.seed", -1),
    ("rl.method", "reinforce"),
    ("rl.proxy_seeds", 0),
    ("rl.proxy_seeds", 11),
    ("rl.policy_seeds", 0),
    ("rl.prompts", 0),
    ("rl.samples", 0),
    ("rl.epochs", 0),
    ("rl.minibatches", 0),
    ("rl.minibatches", 7),
    ("rl.learning_rate", 0.0),
    ("rl.value_learning_rate", NAN),
    ("rl.value_start", "gold"),
    ("rl.warmup", -1.0),
    ("rl.warmup", INF),
    ("rl.clip", 0.0),
    ("rl.value_clip", -0.2),
    ("rl.gae_lambda", 1.01),
    ("rl.gamma", -0.1),
    ("rl.gamma", NAN),
    ("rl.kl_coef", -0.01),
    ("rl.kl_coef", NAN),
    ("rl.kl_coef", INF),
    ("rl.kl_target", 0.0),
    ("rl.ptx_coef", -1.0),
    ("rl.ptx_rows", 0),
    ("rl.kl_budget", 0.25),
    ("rl.kl_budget", INF),
    ("rl.spacing", 0.0),
    ("rl.spacing", 10.0),
    ("rl.max_jump", 10.0),
    ("rl.max_jump", 0.0),
    ("rl.max_steps", 0),
    ("rl.measure_every", 0),
    ("rl.measure_samples", 1),
    ("rl.vmap_width", 0),
    ("rl.table_prompts", 0),
    ("rl.seed", -1),
    ("fit.rl_held_out_kl", 0.0),
    ("fit.resamples", 99),
    ("fit.level", 1.0),
    ("fit.level", NAN),
    ("fit.held_out_kl", 0.0),
    ("runtime.threads", -1),
    ("runtime.dtype", "float16"),
    ("runtime.platform", "gpu"),
    ("runtime.devices", []),
    ("runtime.devices", [0, -1]),
    ("runtime.memory_fraction", 0.0),
    ("runtime.memory_fraction", 1.0),
    ("runtime.memory_fraction", NAN),
    ("output", ""),
    ("store", ""),
]


@pytest.mark.parametrize(("key", "value"), BAD, ids=[f"{key}={value!r}" for key, value in BAD])
def test_a_value_that_cannot_be_is_named_with_its_key(key: str, value: Any) -> None:
    """Fewer than 3 values of n leave no curve to fit: known before anything is trained."""
    message = refused({key: value})
    assert f"{key}=" in message and str(value) in message.partition(f"{key}=")[2]


@pytest.mark.parametrize("key", ["best_of_n.samples", "comparisons.num", "runtime.threads", "comparisons.seed"])
def test_a_number_beyond_every_array_is_named_with_its_key(key: str) -> None:
    """A seed of more than 32 bits would be cut to another; 10^400 is more than a float holds."""
    for value in (2**40, 10**400):
        assert f"{key}={value}" in refused({key: value})


SIZES: list[tuple[dict[str, Any], list[str]]] = [
    ({"proxy.sizes": []}, ["proxy.sizes=[]"]),
    ({"proxy.sizes": [2_000, 9_000, 2_000]}, ["proxy.sizes=[2000, 9000, 2000]"]),
    ({"proxy.sizes": [2_000, 50]}, ["proxy.sizes", "50", "2100"]),
    ({"proxy.sizes": [-4]}, ["proxy.sizes", "-4"]),
    ({"proxy.sizes": [0]}, ["proxy.sizes", "0"]),
    ({"proxy.sizes": [10**400]}, ["proxy.sizes"]),
    ({"proxy.sizes": [9_000, 9_001]}, ["proxy.sizes", "9000", "9001"]),
    (BUILT | {"environment.build.reference_size": 60}, ["environment.build.reference_size", "60"]),
    (BUILT | {"environment.build.gold_size": 10**15}, ["environment.build.gold_size", str(10**15)]),
    (BUILT | {"environment.build.backbone_sizes": [2_000, 7]}, ["environment.build.backbone_sizes", "7"]),
    (
        BUILT | {"proxy.init": "backbone", "proxy.sizes": [2_000, 40_000]},
        ["proxy.sizes=[40000]", "environment.build.backbone_sizes"],
    ),
]


@pytest.mark.parametrize(("changes", "named"), SIZES, ids=[" ".join(named)[:60] for _, named in SIZES])
def test_a_size_that_no_shape_comes_near_or_that_is_there_twice_is_named(
    changes: dict[str, Any], named: list[str]
) -> None:
    """Budgets that fall on one shape would count its seeds twice."""
    message = refused(changes)
    assert [text for text in named if text not in message] == [], message


COMBINATIONS: list[tuple[dict[str, Any], list[str]]] = [
    ({"best_of_n.samples": 100, "best_of_n.max_n": 101}, ["best_of_n.max_n=101", "best_of_n.samples=100"]),
    ({"comparisons.num": 70, "comparisons.held_out": 0.1}, ["proxy.batch=64", "63"]),
    ({"comparisons.num": 2, "comparisons.held_out": 0.9, "proxy.batch": 1}, ["proxy.batch=1", " 0 "]),
    ({"environment.data": "mine.tsv"}, ["environment.data='mine.tsv'", "environment.release=null"]),
    ({"comparisons.labels": "human", "comparisons.noise": 0.2}, ["comparisons.noise=0.2", "labels=human"]),
    ({"rl.prompts": 10, "rl.samples": 3, "rl.minibatches": 4}, ["rl.minibatches=4", "30 responses"]),
    ({"rl.method": "grpo", "rl.samples": 1}, ["rl.samples=1", "rl.method=grpo"]),
    ({"rl.kl_target": 5.0}, ["rl.kl_coef=0.0", "rl.kl_target=5.0"]),
    ({"rl.kl_budget": 4.0, "rl.spacing": 2.0}, ["rl.kl_budget=4.0", "rl.spacing=2.0"]),
    ({"rl.kl_budget": 9.0, "rl.max_jump": 3.0}, ["rl.max_jump=3.0", "rl.kl_budget=9.0"]),
    ({"proxy.seeds": 2, "rl.proxy_seeds": 3}, ["rl.proxy_seeds=3", "proxy.seeds=2"]),
]


@pytest.mark.parametrize(("changes", "named"), COMBINATIONS, ids=[named[0] for _, named in COMBINATIONS])
def test_values_that_cannot_be_together_are_named(changes: dict[str, Any], named: list[str]) -> None:
    message = refused(changes)
    assert [text for text in named if text not in message] == [], message


@pytest.mark.parametrize(
    "changes",
    [
        {"best_of_n.samples": 100, "best_of_n.max_n": 100},
        {"best_of_n.samples": 3, "best_of_n.points": 3},
        {"comparisons.num": 71, "comparisons.held_out": 0.1},
        BUILT | {"environment.data": "mine.tsv"},
        {"proxy.learning_rate": None, "proxy.sizes": [2_000]},
        {"comparisons.noise": 0.5, "comparisons.labels": "soft"},
        BUILT | {"proxy.init": "backbone", "proxy.sizes": [2_000, 80_000]},
        {"environment.build.reference_size": 60},  # not used with a release
        {"proxy.seeds": 2, "rl.method": None},
        {"rl.prompts": 5, "rl.samples": 3, "rl.minibatches": 15, "rl.kl_budget": 0.26, "rl.max_jump": 0.4},
        {"rl.samples": 1, "rl.gae_lambda": 0.0, "rl.gamma": 1.0, "rl.warmup": 0.0, "rl.kl_coef": 0.0},
    ],
)
def test_values_at_the_edge_of_what_is_allowed_are(changes: dict[str, Any]) -> None:
    validate(changed(changes))


counts = st.integers(3, 100_000)
VALID: dict[str, st.SearchStrategy[Any]] = {
    "environment.release": st.sampled_from(["reviews-v1", "reviews-v2", None]),
    "environment.prompt_tokens": st.integers(2, 50),
    "environment.response_tokens": st.integers(1, 500),
    "environment.build.gold_groups": st.integers(16, 100_000),
    "environment.build.gold_learning_rate": st.floats(1e-6, 0.5),
    "environment.build.sft_epochs": st.floats(0.01, 50),
    "comparisons.num": st.integers(100, 1_000_000),
    "comparisons.held_out": st.floats(0.01, 0.3),
    "comparisons.group_size": st.integers(2, 9),
    "comparisons.labels": st.sampled_from([kind for kind in LABELS if kind != "human"]),
    "comparisons.noise": st.floats(0, 0.5),
    "comparisons.seed": st.integers(0, 2**31 - 1),
    "proxy.sizes": st.lists(
        st.sampled_from([2_000, 6_000, 20_000, 70_000, 300_000, 2_000_000]), min_size=1, unique=True
    ),
    "proxy.seeds": counts,
    "rl.method": st.sampled_from([*METHODS, None]),
    "rl.value_start": st.sampled_from(VALUE_STARTS),
    "rl.prompts": counts.map(lambda count: 4 * count),
    "rl.samples": st.integers(2, 64),
    "rl.kl_coef": st.floats(0, 10),
    "rl.gae_lambda": st.floats(0, 1),
    "rl.clip": st.floats(1e-3, 5),
    "rl.value_clip": st.none() | st.floats(1e-3, 5),
    "rl.kl_budget": st.floats(1.1, 1e4),
    "rl.spacing": st.floats(0.01, 1.0),
    "rl.max_jump": st.floats(0.01, 1.0),
    "proxy.epochs": st.floats(0.01, 100),
    "proxy.learning_rate": st.none() | st.floats(1e-9, 9),
    "best_of_n.prompts": counts,
    "best_of_n.samples": st.integers(5_000, 1_000_000),
    "best_of_n.max_n": st.none() | st.integers(3, 4_096),
    "best_of_n.points": st.integers(3, 200),
    "fit.resamples": st.integers(100, 10**6),
    "fit.level": st.floats(0.01, 0.999),
    "fit.held_out_kl": st.floats(0.1, 20),
    "runtime.dtype": st.sampled_from(DTYPES),
    "runtime.progress": st.booleans(),
    "runtime.checkpoint_seconds": st.none() | st.floats(0, 1e6),
    "runtime.platform": st.sampled_from([*PLATFORMS, None]),
    "runtime.devices": st.none() | st.lists(st.integers(0, 15), min_size=1),
    "runtime.memory_fraction": st.none() | st.floats(0.01, 0.99),
}
NEEDED: dict[str, st.SearchStrategy[Any]] = {"proxy.init": st.just("scratch")}  # "backbone" would need its backbones


@given(st.fixed_dictionaries(NEEDED, optional=VALID))
def test_whatever_can_be_is_accepted(changes: dict[str, Any]) -> None:
    settings = changed(changes)
    validate(settings)
    assert {key: flatten(settings)[key] for key in changes} == changes
