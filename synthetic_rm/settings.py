"""F7: what a run is made of, as typed, frozen settings, and the checks that need no compile.

`config.py` makes Hydra groups of these; library users can build them directly. Every default is the laptop preset's.
"""

import math
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from synthetic_rm.comparisons import held_out_groups
from synthetic_rm.errors import InputError, require
from synthetic_rm.ladder import shape_for_budget
from synthetic_rm.types import Shape

LABELS = ("hard", "soft", "sampled", "human")
INITS = ("scratch", "backbone")
READOUTS = ("last", "mean")
DTYPES = ("float32", "bfloat16")
RELEASES = ("reviews-v1",)
MOST = 2**31 - 1
"""the largest whole number of any key: seeds and array sizes are 32-bit"""


@dataclass(frozen=True)
class BuildSettings:
    """How reference, gold and backbones are trained where they do not come from a release."""

    reference_size: int = 166_000
    gold_size: int = 430_000
    backbone_sizes: list[int] = field(default_factory=lambda: [2_000, 4_000, 9_000, 20_000, 80_000])
    reference_steps: int = 2_000
    gold_steps: int = 1_500
    """language-model steps before gold's ranking loss"""
    backbone_steps: int = 1_000
    batch: int = 96
    """snippets in a language-model batch"""
    sft_epochs: float = 1.0
    gold_groups: int = 16_000
    """K-way groups of human-rated snippets that gold is trained on"""
    gold_group_size: int = 8
    gold_batch: int = 16
    """groups in a batch"""
    gold_learning_rate: float = 1e-3
    gold_readout: str = "mean"
    """hidden state under gold's head: the mean over prompt and response, or the "last" one"""
    gold_token_dropout: float = 0.15
    """share of the tokens hidden while gold is trained: it keeps the model from learning snippets by heart"""
    calibration_samples: int = 8_192
    """reference responses over which gold is recentred and scaled"""
    seed: int = 0


@dataclass(frozen=True)
class EnvironmentSettings:
    name: str = "reviews"
    release: str | None = "reviews-v1"
    """frozen reference, gold, backbones and tokenizer; null: train them here, as `build` says"""
    data: str | None = None
    """ratings file to build from; null: the one shipped with the package"""
    vocab: int = 1_024
    prompt_tokens: int = 5
    response_tokens: int = 27
    build: BuildSettings = field(default_factory=BuildSettings)


@dataclass(frozen=True)
class ComparisonSettings:
    num: int = 6_000
    """groups of responses drawn, the held-out ones included"""
    group_size: int = 2
    labels: str = "hard"
    noise: float = 0.0
    """share of labels turned round"""
    held_out: float = 0.1
    """share of the groups held out, to validate and recalibrate: their prompts are not used in training"""
    seed: int = 0


@dataclass(frozen=True)
class ProxySettings:
    sizes: list[int] = field(default_factory=lambda: [2_000, 4_000, 9_000, 20_000, 80_000])
    """parameter budgets, embeddings included"""
    seeds: int = 6
    init: str = "scratch"
    readout: str = "mean"
    """hidden state under the head: the "mean" over prompt and response, or the "last" response token's"""
    epochs: float = 1.0
    batch: int = 64
    """groups in a batch"""
    learning_rate: float | None = None
    """peak learning rate; null: the rule of `training.reward.reward_learning_rate`"""
    vmap_width: int = 1
    """seeds under one vmap; 1 is fastest on a CPU, the number of seeds on an accelerator"""


@dataclass(frozen=True)
class BestOfNSettings:
    prompts: int = 64
    samples: int = 4_096
    """N: the largest n"""
    points: int = 33
    """values of n, spread evenly in ln n from 1 to `max_n`"""
    max_n: int | None = None
    """largest n of the curve; null: all samples"""
    prompts_at_once: int = 8
    samples_at_once: int = 32
    table_prompts: int = 4
    """prompts in the table of sample responses"""
    seed: int = 0


@dataclass(frozen=True)
class FitSettings:
    resamples: int = 2_000
    level: float = 0.95
    held_out_kl: float = 6.0
    """nats: forms are fitted up to here and scored beyond"""


@dataclass(frozen=True)
class RuntimeSettings:
    threads: int = 0
    """CPU threads; 0: all that the process may use"""
    dtype: str = "float32"
    """type of matrix products; sums stay float32"""
    progress: bool = True


@dataclass(frozen=True)
class Settings:
    """One experiment at one scale."""

    scale: str = "laptop"
    experiment: str = "figure1"
    output: str = "results/run"
    store: str = "results/store"
    environment: EnvironmentSettings = field(default_factory=EnvironmentSettings)
    comparisons: ComparisonSettings = field(default_factory=ComparisonSettings)
    proxy: ProxySettings = field(default_factory=ProxySettings)
    best_of_n: BestOfNSettings = field(default_factory=BestOfNSettings)
    fit: FitSettings = field(default_factory=FitSettings)
    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)


def flatten(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted keys and plain values: {"proxy.seeds": 4, ...}."""
    flat: dict[str, Any] = {}
    for item in fields(settings):
        value, key = getattr(settings, item.name), f"{prefix}{item.name}"
        flat.update(flatten(value, f"{key}.") if is_dataclass(value) else {key: value})
    return flat


def _one_of(flat: dict[str, Any], key: str, allowed: tuple[str, ...]) -> None:
    require(flat[key] in allowed, f"{key}={flat[key]!r}: allowed are {', '.join(allowed)}")


def _at_least(flat: dict[str, Any], low: float, *keys: str) -> None:
    for key in keys:
        value = flat[key]
        high = MOST if isinstance(value, int) else math.inf
        good = value is None or low <= value <= high
        require(
            good, f"{key}={value}: allowed is {low:g} or more" + (f", up to {MOST:,}" if value and value > high else "")
        )


def _between(flat: dict[str, Any], key: str, low: float, high: float) -> None:
    require(low < flat[key] < high, f"{key}={flat[key]}: allowed is above {low:g} and below {high:g}")


def validate(settings: Settings) -> None:
    """Check every value and every combination that can be checked before a model is built.

    Raises:
        InputError: one line with the key, the value, and what is allowed.
    """
    flat = flatten(settings)
    _one_of(flat, "environment.name", ("reviews",))
    _one_of(flat, "comparisons.labels", LABELS)
    _one_of(flat, "proxy.init", INITS)
    _one_of(flat, "proxy.readout", READOUTS)
    _one_of(flat, "environment.build.gold_readout", READOUTS)
    _one_of(flat, "runtime.dtype", DTYPES)
    if settings.environment.release is not None:
        _one_of(flat, "environment.release", RELEASES)
    positive = [f"environment.build.{f.name}" for f in fields(BuildSettings) if f.type in (int, "int")]
    _at_least(flat, 1, *(key for key in positive if not key.endswith("seed")))
    _at_least(flat, 0, "environment.build.seed", "comparisons.seed", "best_of_n.seed", "runtime.threads")
    _at_least(flat, 2, "environment.prompt_tokens", "comparisons.group_size", "environment.build.gold_group_size")
    _at_least(flat, 2, "best_of_n.prompts", "comparisons.num")
    _at_least(flat, 1, "environment.response_tokens", "proxy.seeds", "proxy.batch", "proxy.vmap_width")
    _at_least(flat, 3, "best_of_n.samples", "best_of_n.max_n", "best_of_n.points")
    _at_least(flat, 1, "best_of_n.prompts_at_once", "best_of_n.samples_at_once", "best_of_n.table_prompts")
    _at_least(flat, 260, "environment.vocab")
    _at_least(flat, 100, "fit.resamples")
    _between(flat, "fit.level", 0, 1)
    dropout = settings.environment.build.gold_token_dropout
    require(0 <= dropout < 1, f"environment.build.gold_token_dropout={dropout}: allowed is 0 to below 1")
    _between(flat, "comparisons.held_out", 0, 1)
    for key in ("proxy.epochs", "environment.build.sft_epochs", "fit.held_out_kl"):
        _between(flat, key, 0, math.inf)
    _between(flat, "environment.build.gold_learning_rate", 0, 10)
    for key in ("output", "store"):
        require(flat[key] != "", f"{key}='': allowed is the path of a folder")
    if settings.proxy.learning_rate is not None:
        _between(flat, "proxy.learning_rate", 0, 10)
    require(
        0 <= settings.comparisons.noise <= 0.5, f"comparisons.noise={settings.comparisons.noise}: allowed is 0 to 0.5"
    )
    _validate_combinations(settings)


def _validate_combinations(settings: Settings) -> None:
    sizes, best_of_n, environment = settings.proxy.sizes, settings.best_of_n, settings.environment
    require(len(sizes) > 0, "proxy.sizes=[]: at least one size is needed")
    require(len(set(sizes)) == len(sizes), f"proxy.sizes={list(sizes)}: a size is given twice")
    largest = best_of_n.max_n
    require(
        largest is None or largest <= best_of_n.samples,
        f"best_of_n.max_n={largest}: allowed is up to best_of_n.samples={best_of_n.samples}",
    )
    training = settings.comparisons.num - held_out_groups(settings.comparisons.num, settings.comparisons.held_out)
    require(
        settings.proxy.batch <= training,
        f"proxy.batch={settings.proxy.batch}: allowed is up to the {training} comparisons to train on",
    )
    require(
        environment.release is None or (environment.data is None),
        f"environment.data={environment.data!r}: needs environment.release=null, a release has its own data",
    )
    if settings.comparisons.labels == "human" and settings.comparisons.noise > 0:
        raise InputError(f"comparisons.noise={settings.comparisons.noise}: allowed with labels=human is 0")
    _validate_sizes(settings)


def _validate_sizes(settings: Settings) -> None:
    environment = settings.environment
    shapes = [_shape("proxy.sizes", size, environment.vocab) for size in settings.proxy.sizes]
    for size, shape in zip(settings.proxy.sizes, shapes, strict=True):
        same = [other for other, found in zip(settings.proxy.sizes, shapes, strict=True) if found == shape]
        require(same == [size], f"proxy.sizes={list(settings.proxy.sizes)}: {same} are one and the same model")
    if environment.release is None:
        build = environment.build
        require(
            build.gold_batch <= build.gold_groups,
            f"environment.build.gold_batch={build.gold_batch}: allowed is up to "
            f"environment.build.gold_groups={build.gold_groups}",
        )
        _shape("environment.build.reference_size", build.reference_size, environment.vocab)
        _shape("environment.build.gold_size", build.gold_size, environment.vocab)
        for size in build.backbone_sizes:
            _shape("environment.build.backbone_sizes", size, environment.vocab)
        if settings.proxy.init == "backbone":
            missing = sorted(set(settings.proxy.sizes) - set(build.backbone_sizes))
            require(
                not missing,
                f"proxy.sizes={missing}: proxy.init=backbone needs them in environment.build.backbone_sizes",
            )


def _shape(key: str, size: int, vocab: int) -> Shape:
    try:
        return shape_for_budget(size, vocab)
    except InputError as error:
        raise InputError(f"{key}: {error}") from error
