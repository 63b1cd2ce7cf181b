"""F7: what a run is made of, as typed, frozen settings. `settings_checks.py` says which of them can be.

`config.py` makes Hydra groups of these; library users can build them directly. Every default is the laptop preset's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

LABELS = ("hard", "soft", "sampled", "human")
INITS = ("scratch", "backbone")
READOUTS = ("last", "mean")
DTYPES = ("float32", "bfloat16")
RELEASES = ("reviews-v1", "reviews-v2")
METHODS = ("ppo", "rloo", "grpo", "dr_grpo")
VALUE_STARTS = ("proxy", "reference", "fresh")
WANDB_MODES = ("offline", "online")
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


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
    gold_learning_rate: float = 2e-3
    gold_readout: str = "last"
    """hidden state under gold's head: the "last" response token's, or the "mean" over prompt and response"""
    gold_token_dropout: float = 0.15
    """share of the tokens hidden while gold is trained: it keeps the model from learning snippets by heart"""
    calibration_samples: int = 8_192
    """reference responses over which gold is recentred and scaled"""
    seed: int = 0


@dataclass(frozen=True)
class EnvironmentSettings:
    name: str = "reviews"
    release: str | None = "reviews-v2"
    """frozen reference, gold, backbones and tokenizer; null: train them here, as `build` says"""
    data: str | None = None
    """ratings file to build from; null: the one shipped with the package"""
    vocab: int = 1_024
    prompt_tokens: int = 5
    response_tokens: int = 27
    build: BuildSettings = field(default_factory=BuildSettings)


@dataclass(frozen=True)
class ComparisonSettings:
    num: int = 30_000
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
    seeds: int = 10
    init: str = "backbone"
    """trunk to start from: a pretrained "backbone" as in the paper, or a fresh one ("scratch")"""
    readout: str = "last"
    """hidden state under the head: the "last" token's as in the paper, or the "mean" over prompt and response"""
    num_comparisons: int | None = None
    """groups learnt from, the first of those that are not held out, so that few are among many; null: all of them"""
    epochs: float = 1.0
    batch: int = 64
    """groups in a batch"""
    learning_rate: float | None = None
    """peak learning rate; null: the rule of `training.reward.reward_learning_rate`"""
    vmap_width: int = 1
    """seeds under one vmap; 1 is fastest on a CPU, the number of seeds on an accelerator"""


@dataclass(frozen=True)
class PolicySettings:
    size: int | None = None
    """parameter budget of the policy that is optimized, embeddings included, trained as the reference is; null: the
    reference itself, which draws the comparisons whatever is optimized"""


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
class RLSettings:
    """Policy gradient against the proxies; rewards are in standard deviations of the proxy over reference responses."""

    method: str | None = "ppo"
    """or "rloo", "grpo", "dr_grpo"; null: no RL"""
    proxy_seeds: int = 3
    """proxies of each size that are optimized against, of the `proxy.seeds` there are"""
    policy_seeds: int = 1
    """runs against each of them"""
    prompts: int = 64
    """training prompts answered in an iteration"""
    samples: int = 4
    """responses to each of them"""
    epochs: int = 1
    """passes over the responses of an iteration"""
    minibatches: int = 4
    """parts of a pass, an update each"""
    learning_rate: float = 3e-4
    warmup: float = 5.0
    """iterations of linear warm-up"""
    value_learning_rate: float = 3e-3
    value_start: str = "proxy"
    """network and trunk that the value function starts from: the "proxy", the "reference", or a "fresh" reference"""
    clip: float = 0.2
    """largest relative change of a token's probability that is rewarded"""
    value_clip: float | None = None
    gae_lambda: float = 0.95
    gamma: float = 1.0
    kl_coef: float = 0.0
    """penalty on ln(policy / reference) of every token, in rewards per nat"""
    kl_target: float | None = None
    """nats that an adaptive `kl_coef` steers to; null: it is fixed"""
    ptx_coef: float = 0.0
    """weight of the language-model loss on demonstrations (InstructGPT's PPO-ptx)"""
    ptx_rows: int = 32
    """demonstrations in each update's language-model loss"""
    kl_budget: float = 80.0
    """nats: a run ends at the first rollout beyond"""
    spacing: float = 0.5
    """of the points measured, in sqrt(KL)"""
    max_jump: float = 1.0
    """growth of sqrt(KL) beyond which an iteration is undone and taken again at half the rate"""
    max_steps: int = 120
    """iterations: a run ends after so many"""
    measure_every: int = 30
    """iterations after which a run that reached no new point is measured all the same"""
    measure_samples: int = 4
    """responses to each held-out prompt (those of `best_of_n`) at each point"""
    vmap_width: int = 1
    """runs under one vmap; 1 is fastest on a CPU, the number of runs on an accelerator"""
    table_prompts: int = 3
    """prompts in the table of samples along a run"""
    seed: int = 0


@dataclass(frozen=True)
class FitSettings:
    resamples: int = 2_000
    level: float = 0.95
    held_out_kl: float = 6.0
    """nats of best-of-n: forms are fitted up to here and scored beyond"""
    rl_held_out_kl: float = 25.0
    """the same for RL"""


@dataclass(frozen=True)
class RuntimeSettings:
    threads: int = 0
    """CPU threads; 0: all that the process may use"""
    dtype: str = "float32"
    """type of matrix products; sums stay float32"""
    memory_gb: float | None = None
    """GB of 10^9 bytes of one device that a run reckons with; null: asked of the device or of the machine"""
    mesh: list[int] | None = None
    """[devices that share every batch, devices that share every network's parameters]; null: all share batches"""
    progress: bool = True
    checkpoint_seconds: float | None = 20.0
    """between two checkpoints of a stage's loop, more where one takes long; null: only where the process is stopped"""
    platform: str | None = None
    """"cpu", "cuda", "rocm" or "tpu": the one that jax must use; null: the best there is"""
    devices: list[int] | None = None
    """accelerators that the process may see, by the driver's numbers; null: all that it was given"""
    memory_fraction: float | None = None
    """share of an accelerator's memory taken at the start; null: jax's own"""
    coordinator: str | None = None
    """of several processes that make the run together, where the first one listens: "host:port", or "auto" where Slurm,
    Open MPI or a TPU tells; null: one process makes it"""
    processes: int | None = None
    """how many there are, with "host:port\""""
    process: int | None = None
    """which of them this is, from 0, with "host:port\""""


@dataclass(frozen=True)
class TrackingSettings:
    """Where metrics go besides metrics.jsonl in the output folder; a tracker that fails never fails a run."""

    tensorboard: bool = False
    wandb: str | None = None
    """Weights & Biases: "offline" or "online"; null: not used"""
    mlflow: str | None = None
    """"local" or the URI of a server; null: not used"""
    folder: str = "results/tracking"
    """where TensorBoard's, offline and local files lie, for all runs together"""
    project: str = "synthetic_rm"


@dataclass(frozen=True)
class Settings:
    """One experiment at one scale."""

    scale: str = "laptop"
    experiment: str = "figure1"
    """a label of the results; "oracle" and "heavy_tails" alone name experiments without training"""
    output: str = "results/run"
    """of a sweep: the folder of its points' folders"""
    store: str = "results/store"
    study: list[dict[str, Any]] = field(default_factory=list)
    """points that are run one after another and told together, each what it changes: {"proxy.epochs": 4.0, ...};
    empty: the one point that all other keys say"""
    environment: EnvironmentSettings = field(default_factory=EnvironmentSettings)
    comparisons: ComparisonSettings = field(default_factory=ComparisonSettings)
    proxy: ProxySettings = field(default_factory=ProxySettings)
    policy: PolicySettings = field(default_factory=PolicySettings)
    best_of_n: BestOfNSettings = field(default_factory=BestOfNSettings)
    rl: RLSettings = field(default_factory=RLSettings)
    fit: FitSettings = field(default_factory=FitSettings)
    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)
    tracking: TrackingSettings = field(default_factory=TrackingSettings)
    fail_fast: bool = False
    """whether the first point of a sweep that fails keeps the others from being begun"""


def flatten(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted keys and plain values: {"proxy.seeds": 4, ...}."""
    flat: dict[str, Any] = {}
    for item in fields(settings):
        value, key = getattr(settings, item.name), f"{prefix}{item.name}"
        flat.update(flatten(value, f"{key}.") if is_dataclass(value) else {key: value})
    return flat


def varied(settings: Any, changes: Mapping[str, Any]) -> Any:
    """The settings with the values of some dotted keys replaced."""
    for key, value in changes.items():
        head, _, rest = key.partition(".")
        settings = replace(settings, **{head: varied(getattr(settings, head), {rest: value}) if rest else value})
    return settings


def points_of(settings: Settings) -> list[Settings]:
    """The points that a run is made of: those of `study`, each without a study, or the settings themselves."""
    alone = replace(settings, study=[])
    return [varied(alone, point) for point in settings.study] or [alone]
