"""Every file of conf/ composes into valid settings, and what Hydra cannot use is told on one line."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir

from synthetic_rm.config import ERRORS, one_line, register, to_settings
from synthetic_rm.errors import InputError
from synthetic_rm.settings import READOUTS, Settings, flatten

CONF = Path(__file__).resolve().parents[1] / "conf"
SCALES = sorted(path.stem for path in (CONF / "scale").glob("*.yaml"))
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))

SMALL_ALONE = {("pod", "kl_penalty"), ("pod", "policy_size"), ("pod", "data_size_rl")}
"""experiments that name small proxies where a scale has none: told, see conf/CLUSTER.md"""


def settings_of(*overrides: str) -> Settings:
    register()
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        return to_settings(compose("config", overrides=list(overrides)))


def values_of(path: Path, prefix: str = "") -> dict[str, Any]:
    """Dotted keys and values that a file of conf/ sets."""
    return _flat(yaml.safe_load(path.read_text()), prefix)


def _flat(values: dict[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def test_every_file_is_of_a_known_group() -> None:
    known = {"config.yaml", *(f"scale/{name}.yaml" for name in SCALES), *(f"experiment/{e}.yaml" for e in EXPERIMENTS)}
    known |= {"CLUSTER.md", "hydra/launcher/slurm.yaml"}
    assert {path.relative_to(CONF).as_posix() for path in CONF.rglob("*") if path.is_file()} == known
    assert {"laptop", "smoke", "gpu"} <= set(SCALES) and "figure1" in EXPERIMENTS


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("experiment", [None, *EXPERIMENTS])
def test_every_scale_and_experiment_compose_into_what_their_files_say(scale: str, experiment: str | None) -> None:
    chosen = [f"scale={scale}", *([f"+experiment={experiment}"] if experiment else [])]
    if (scale, experiment) in SMALL_ALONE:
        with pytest.raises(InputError, match=r"proxy\.sizes"):
            settings_of(*chosen)
        chosen.append("proxy.sizes=[12000000]")
    wanted = flatten(Settings()) | values_of(CONF / "scale" / f"{scale}.yaml")
    if experiment:
        wanted |= values_of(CONF / "experiment" / f"{experiment}.yaml")
    if (scale, experiment) in SMALL_ALONE:
        wanted["proxy.sizes"] = [12_000_000]
    found = flatten(settings_of(*chosen))
    assert found == wanted
    assert found["scale"] == scale and found["experiment"] == (experiment or "figure1")


def test_the_default_is_the_laptop_and_the_defaults_of_the_settings() -> None:
    assert settings_of() == settings_of("scale=laptop") == Settings()


def test_every_key_can_be_overridden_and_keeps_its_type() -> None:
    def other(value: Any) -> Any:
        match value:
            case bool():
                return not value
            case int():
                return value + 1
            case float():
                return value * 0.75 + 0.01
            case list():
                return [*value[1:]]
        return value

    flat = flatten(Settings())
    fixed: dict[str, Any] = {
        "environment.vocab": 1100,
        "environment.release": None,
        "environment.data": "a b.tsv",
        "output": "o",
    }
    fixed |= {"store": "s", "proxy.learning_rate": 0.125, "best_of_n.max_n": 9, "comparisons.labels": "soft"}
    for key in ("proxy.readout", "environment.build.gold_readout"):
        fixed[key] = next(readout for readout in READOUTS if readout != flat[key])
    fixed |= {"proxy.init": "scratch", "runtime.dtype": "bfloat16"}
    fixed |= {"rl.method": "rloo", "rl.value_start": "fresh", "rl.minibatches": 5, "rl.value_clip": 0.3}
    fixed |= {"rl.kl_target": 4.5, "tracking.wandb": "offline", "tracking.mlflow": "local", "tracking.folder": "t"}
    fixed |= {"runtime.platform": "cpu", "runtime.devices": [1, 0], "runtime.memory_fraction": 0.25}
    fixed |= {"runtime.coordinator": "here:7000", "runtime.processes": 3, "runtime.process": 2}
    fixed |= {"tracking.project": "mine", "study": [{"proxy.epochs": 3.0}], "proxy.num_comparisons": 900}
    fixed |= {"policy.size": 40_000, "runtime.mesh": [2, 4], "runtime.memory_gb": 12.5}
    wanted = {key: other(value) for key, value in flat.items()} | fixed
    unset = {key for key, value in wanted.items() if value == flat[key]}
    assert unset == {"environment.name", "scale", "experiment"}
    groups = {"scale": "smoke", "experiment": "figure1"}  # chosen by name, not set
    texts = {key: yaml.safe_dump(value, default_flow_style=True).split("\n")[0] for key, value in wanted.items()}
    found = settings_of("scale=smoke", *(f"{key}={text}" for key, text in texts.items() if key not in groups))
    assert flatten(found) == wanted | groups
    assert dataclasses.is_dataclass(found) and isinstance(found.comparisons.noise, float)


BAD = [
    ("proxy.seeds=two", ["proxy.seeds", "two", "nteger"]),
    ("proxy.seeds=2.5", ["proxy.seeds", "2.5", "nteger"]),
    ("proxy.seeds=null", ["proxy.seeds", "null", "Optional"]),
    ("proxy.seeds=[1]", ["proxy.seeds"]),
    ("proxy.sizes=2000", ["proxy.sizes", "2000"]),
    ("proxy.sizes=[2000,big]", ["proxy.sizes", "big", "nteger"]),
    ("proxy.epochs=ten", ["proxy.epochs", "ten", "loat"]),
    ("runtime.progress=perhaps", ["runtime.progress", "perhaps", "ool"]),
    ("proxy=3", ["proxy", "3"]),
    ("environment=null", ["environment"]),
    ("proxy.sizs=[2000]", ["proxy.sizs"]),
    ("+proxy.sizs=[2000]", ["proxy.sizs"]),
    ("sead=3", ["sead"]),
    ("+sead=3", ["sead"]),
    ("+environment.build.sead=3", ["environment.build.sead"]),
    ("+more={a: 1}", ["more"]),
    ("~proxy.seeds", ["proxy.seeds"]),
    ("scale=enormous", ["scale/enormous", *SCALES]),
    ("+experiment=figure99", ["experiment/figure99", *EXPERIMENTS]),
    ("+scales=smoke", ["scales"]),
    ("proxy.seeds", ["proxy.seeds"]),
    ("proxy.seeds=[1", ["proxy.seeds=[1"]),
    ("proxy.seeds=${nothing}", ["proxy.seeds", "nothing"]),
    ("output=???", ["output"]),
    ("comparisons.noise=0.7", ["comparisons.noise=0.7", "0.5"]),
]


@pytest.mark.parametrize(("override", "named"), BAD, ids=[override for override, _ in BAD])
def test_what_cannot_be_used_is_told_on_one_line_that_names_it(override: str, named: list[str]) -> None:
    with pytest.raises((InputError, *ERRORS)) as error:
        settings_of(override)
    line = one_line(error.value)
    assert line and "\n" not in line
    assert [text for text in named if text not in line] == [], line


def test_one_line_is_never_empty() -> None:
    assert one_line(ValueError()) == "ValueError"
    assert one_line(ValueError("\n a\n\n  b ")) == "a b"
