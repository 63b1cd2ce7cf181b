"""The command that tells what a run costs, and the page that quotes it."""

import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest
from scripts import load_script

from synthetic_rm.hosts import check

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "conf" / "CLUSTER.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("cost")


def test_the_table_has_every_stage_and_their_sum(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["--tflops", "0.05", "scale=laptop", "proxy.sizes=[2000,80000]"]) == 0
    out = capsys.readouterr().out
    for name in ("comparisons", "proxies 2,000", "proxies 80,000", "pool", "gold score the pool", "RL against", "all"):
        assert name in out
    assert "1 x 80 GB, 0.05 TFLOP/s" in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--tflops", "0"], "--tflops 0.0: allowed is above 0"),
        (["--tflops", "1", "--devices", "2", "scale=pod"], "--devices 2: runtime.mesh=[1, 8] has 8"),
        (["--tflops", "1", "proxy.sizs=[1]"], "proxy.sizs"),
        (["--tflops", "1", "+experiment=oracle"], "experiment=oracle: nothing of it is trained"),
        (["--tflops", "1", "scale=vast"], "scale/vast"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_bad_input_is_told_on_one_line(
    script: ModuleType, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    assert script.main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("error: ") and told in err


ROWS = re.findall(r"^\| `(scale=pod [^`]*)` \| ([\d,.]+) \| ([\d,.]+) \| ([\d.]+) \|$", PAGE, re.MULTILINE)


def test_the_page_quotes_several_runs() -> None:
    assert len(ROWS) >= 3


@pytest.mark.parametrize(("words", "flops", "hours", "memory"), ROWS, ids=[row[0] for row in ROWS])
def test_the_numbers_on_the_page_are_the_models(
    script: ModuleType, words: str, flops: str, hours: str, memory: str
) -> None:
    devices, rate = re.search(r"(\d+) devices that sustain (\d+) TFLOP/s each", PAGE).groups()  # type: ignore[union-attr]
    found = script.stages(script.composed(words.split()), int(devices), 80.0)
    total = sum(stage.flops for stage in found)
    assert flops == f"{total / 1e18:,.1f}"
    assert hours == f"{total / (int(devices) * float(rate) * 1e12) / 3600:,.1f}"
    assert memory == f"{max(stage.resident + stage.memory.total for stage in found) / 1e9:.0f}"


COMMANDS = re.findall(r"^ *python experiments/run\.py (.*?)(?=\n```|\npython)", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("command", COMMANDS, ids=[str(i) for i in range(len(COMMANDS))])
def test_the_commands_on_the_page_compose(script: ModuleType, command: str) -> None:
    """With the first of the sizes that a sweep asks for."""
    words = [
        re.sub(r"(\[\d+\])(,\[\d+\])+", r"\1", word)
        for word in shlex.split(command.replace("\\\n", " "))
        if word != "-m"
    ]
    if "hydra/launcher=slurm" in words:
        pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    if "hydra/launcher=ray" in words:
        pytest.importorskip("hydra_plugins.hydra_ray_launcher")
    settings = script.composed(words)
    check(*(getattr(settings.runtime, name) for name in ("coordinator", "processes", "process")))
    assert settings.scale == "pod" and settings.output.startswith("results/pod")


def test_the_page_has_a_command_for_every_launcher_and_the_grid() -> None:
    assert len(COMMANDS) >= 7
    for words in (
        "runtime.coordinator=auto",
        "runtime.coordinator=node1:7777",
        "-m hydra/launcher=slurm",
        "-m hydra/launcher=ray",
        "+experiment=data_size",
        "+experiment=policy_size",
    ):
        assert any(words in command for command in COMMANDS), words
