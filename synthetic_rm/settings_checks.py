"""F7: the checks of settings that need no data and no compile: one line with the key, the value, what is allowed."""

import math
import unicodedata
from dataclasses import fields
from typing import Any

from synthetic_rm.comparisons import held_out_groups
from synthetic_rm.errors import InputError, require
from synthetic_rm.ladder import shape_for_budget
from synthetic_rm.settings import (
    DTYPES,
    INITS,
    LABELS,
    METHODS,
    PLATFORMS,
    READOUTS,
    RELEASES,
    VALUE_STARTS,
    WANDB_MODES,
    BuildSettings,
    RLSettings,
    Settings,
    flatten,
)
from synthetic_rm.types import Shape

MOST = 2**31 - 1
"""the largest whole number of any key but `BUDGETS`: seeds and array sizes are 32-bit"""
BUDGETS = ("environment.build.reference_size", "environment.build.gold_size")
"""parameters of a network: no array is so long"""


def _one_of(flat: dict[str, Any], key: str, allowed: tuple[str, ...]) -> None:
    require(flat[key] in allowed, f"{key}={flat[key]!r}: allowed are {', '.join(allowed)}")


def _at_least(flat: dict[str, Any], low: float, *keys: str) -> None:
    for key in keys:
        value = flat[key]
        high = MOST if isinstance(value, int) and key not in BUDGETS else math.inf
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
    _validate_texts(flat)
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
    _at_least(flat, 0, "runtime.checkpoint_seconds")
    _at_least(flat, 2, "environment.prompt_tokens", "comparisons.group_size", "environment.build.gold_group_size")
    _at_least(flat, 2, "best_of_n.prompts", "comparisons.num")
    _at_least(flat, 1, "environment.response_tokens", "proxy.seeds", "proxy.batch", "proxy.vmap_width")
    _at_least(flat, 1, "proxy.num_comparisons")
    _at_least(flat, 3, "best_of_n.samples", "best_of_n.max_n", "best_of_n.points")
    _at_least(flat, 1, "best_of_n.prompts_at_once", "best_of_n.samples_at_once", "best_of_n.table_prompts")
    _at_least(flat, 260, "environment.vocab")
    _at_least(flat, 100, "fit.resamples")
    _between(flat, "fit.level", 0, 1)
    dropout = settings.environment.build.gold_token_dropout
    require(0 <= dropout < 1, f"environment.build.gold_token_dropout={dropout}: allowed is 0 to below 1")
    _between(flat, "comparisons.held_out", 0, 1)
    for key in ("proxy.epochs", "environment.build.sft_epochs", "fit.held_out_kl", "fit.rl_held_out_kl"):
        _between(flat, key, 0, math.inf)
    _between(flat, "environment.build.gold_learning_rate", 0, 10)
    _validate_rl(settings, flat)
    memory, mesh = settings.runtime.memory_gb, settings.runtime.mesh
    require(memory is None or 0 < memory < math.inf, f"runtime.memory_gb={memory}: allowed is above 0, in GB")
    require(
        mesh is None or (len(mesh) == 2 and min(mesh) >= 1),
        f"runtime.mesh={mesh}: allowed are two numbers of 1 or more, as [8, 1]",
    )
    for key in ("output", "store", "tracking.folder"):
        require(flat[key] != "", f"{key}='': allowed is the path of a folder")
    if settings.runtime.platform is not None:
        _one_of(flat, "runtime.platform", PLATFORMS)
    if settings.runtime.memory_fraction is not None:
        _between(flat, "runtime.memory_fraction", 0, 1)
    devices = settings.runtime.devices
    good = devices is None or (devices != [] and min(devices) >= 0)
    require(good, f"runtime.devices={devices}: allowed are numbers of devices, from 0, or null for all")
    if settings.tracking.wandb is not None:
        _one_of(flat, "tracking.wandb", WANDB_MODES)
    for key in ("tracking.mlflow", "tracking.project"):
        require(flat[key] != "", f"{key}='': allowed is a name")
    if settings.proxy.learning_rate is not None:
        _between(flat, "proxy.learning_rate", 0, 10)
    require(
        0 <= settings.comparisons.noise <= 0.5, f"comparisons.noise={settings.comparisons.noise}: allowed is 0 to 0.5"
    )
    _validate_combinations(settings)


def _validate_texts(flat: dict[str, Any]) -> None:
    for key, value in flat.items():
        if isinstance(value, str):
            good = not any(unicodedata.category(character) in ("Cc", "Cs") for character in value)
            require(good, f"{key}={value!a}: allowed are characters that can be written, no control characters")


def _validate_rl(settings: Settings, flat: dict[str, Any]) -> None:
    rl = settings.rl
    if rl.method is not None:
        _one_of(flat, "rl.method", METHODS)
    _one_of(flat, "rl.value_start", VALUE_STARTS)
    counts = [f"rl.{f.name}" for f in fields(RLSettings) if f.type in (int, "int") and f.name != "seed"]
    _at_least(flat, 1, *counts)
    _at_least(flat, 0, "rl.seed", "rl.kl_coef", "rl.warmup", "rl.ptx_coef")
    _at_least(flat, 2, "rl.measure_samples")
    for key in ("rl.learning_rate", "rl.value_learning_rate"):
        _between(flat, key, 0, 10)
    for key in ("rl.clip", "rl.value_clip", "rl.kl_target", "rl.kl_budget", "rl.spacing", "rl.max_jump"):
        if flat[key] is not None:
            _between(flat, key, 0, math.inf)
    for key in ("rl.kl_coef", "rl.warmup", "rl.ptx_coef"):
        require(flat[key] < math.inf, f"{key}={flat[key]}: allowed is 0 or more, and finite")
    for key in ("rl.gae_lambda", "rl.gamma"):
        require(0 <= flat[key] <= 1, f"{key}={flat[key]}: allowed is 0 to 1")
    batch = rl.prompts * rl.samples
    require(
        batch % rl.minibatches == 0,
        f"rl.minibatches={rl.minibatches}: does not divide the {batch} responses of rl.prompts={rl.prompts} x "
        f"rl.samples={rl.samples}",
    )
    require(
        rl.spacing**2 < rl.kl_budget,
        f"rl.kl_budget={rl.kl_budget}: allowed is above {rl.spacing**2:g} nats, where rl.spacing={rl.spacing} has its "
        "first point",
    )
    require(
        rl.max_jump**2 < rl.kl_budget,
        f"rl.max_jump={rl.max_jump}: a step could jump over the whole range up to rl.kl_budget={rl.kl_budget} nats, "
        f"allowed is below {math.sqrt(rl.kl_budget):g}",
    )
    if rl.method in ("rloo", "grpo", "dr_grpo"):
        require(rl.samples > 1, f"rl.samples={rl.samples}: rl.method={rl.method} needs 2 or more, a group to compare")
    if rl.kl_target is not None:
        require(rl.kl_coef > 0, f"rl.kl_coef={rl.kl_coef}: rl.kl_target={rl.kl_target} needs one above 0 to steer")
    if rl.method is not None:
        seeds = settings.proxy.seeds
        require(
            rl.proxy_seeds <= seeds,
            f"rl.proxy_seeds={rl.proxy_seeds}: allowed is up to proxy.seeds={seeds}, the proxies there are",
        )


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
    learnt = settings.proxy.num_comparisons
    require(
        learnt is None or learnt <= training,
        f"proxy.num_comparisons={learnt}: allowed is up to {training}, the comparisons that are not held out",
    )
    require(
        settings.proxy.batch <= (learnt or training),
        f"proxy.batch={settings.proxy.batch}: allowed is up to the {learnt or training} comparisons to train on",
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
    if settings.policy.size is not None:
        _shape(f"policy.size={settings.policy.size}", settings.policy.size, environment.vocab)
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
