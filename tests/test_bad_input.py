"""Input that cannot be, given to the command: exit code 2, one line that says why, and nothing touched."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from entered import Command, Ended, at_once, contents, folders, refused
from scripts import free_port

from synthetic_rm import experiment, meeting, release
from synthetic_rm.environments.reviews.ratings import COLUMNS, DATA_SHA256, load_snippets
from synthetic_rm.errors import RunError
from synthetic_rm.experiment import result_config
from synthetic_rm.provenance import file_digest
from synthetic_rm.settings import RELEASES, BuildSettings, EnvironmentSettings, Settings, flatten

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "experiments" / "run.py"


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    return Command(monkeypatch, capsys, tmp_path / "work")


CASES: list[tuple[list[str], list[str]]] = [
    (["proxy.sizs=[2000]"], ["proxy.sizs"]),
    (["hydra.run.dir=/dev/null/x"], ["/dev/null/x"]),
    (["+proxy.sizs=[2000]"], ["proxy.sizs"]),
    (["proxy.seeds=two"], ["proxy.seeds", "two"]),
    (["scale=enormous"], ["scale/enormous", "laptop", "smoke"]),
    (["+experiment=figure99"], ["experiment/figure99", "figure1"]),
    (["scale=smoke", "best_of_n.max_n=513"], ["best_of_n.max_n=513", "best_of_n.samples=512"]),
    (["scale=smoke", "proxy.sizes=[2000,50]"], ["proxy.sizes", "50", "2100"]),
    (["comparisons.noise=0.9"], ["comparisons.noise=0.9", "0.5"]),
    (["comparisons.labels=gold"], ["comparisons.labels='gold'", "hard", "human"]),
    (["runtime.threads=100000"], ["runtime.threads=100000"]),
    (["environment.data=mine.tsv"], ["environment.data='mine.tsv'", "environment.release=null"]),
    (["scale=smoke", "environment.data=nowhere.tsv"], ["nowhere.tsv"]),
    (["environment.release=reviews-v0"], ["environment.release='reviews-v0'", "reviews-v1, reviews-v2"]),
    (["proxy.seeds"], ["proxy.seeds"]),
    (["environment.response_tokens=0"], ["environment.response_tokens=0"]),
    (["scale=smoke", "environment.build.gold_batch=641"], ["environment.build.gold_batch=641", "gold_groups=640"]),
    (["rl.method=dpo"], ["rl.method='dpo'", "ppo", "grpo"]),
    (["rl.kl_coef=-0.1"], ["rl.kl_coef=-0.1", "0 or more"]),
    (["rl.minibatches=7"], ["rl.minibatches=7", "256 responses", "rl.prompts=64"]),
    (["rl.kl_budget=0.1"], ["rl.kl_budget=0.1", "0.25 nats", "rl.spacing=0.5"]),
    (["rl.max_jump=40"], ["rl.max_jump=40", "rl.kl_budget=80"]),
    (["rl.method=rloo", "rl.samples=1"], ["rl.samples=1", "rl.method=rloo"]),
    (["rl.kl_target=5"], ["rl.kl_coef=0", "rl.kl_target=5"]),
    (["rl.proxy_seeds=11"], ["rl.proxy_seeds=11", "proxy.seeds=10"]),
    (["rl.gae_lambda=1.5"], ["rl.gae_lambda=1.5", "0 to 1"]),
    (["rl.prompts=40000"], ["rl.prompts=40000", "distinct training prompts"]),
    (["best_of_n.prompts=1528"], ["best_of_n.prompts=1528", "1527"]),
    (["proxy.seeds=true"], ["proxy.seeds", "true"]),
    (["proxy.seeds=1e3"], ["proxy.seeds", "1000.0"]),
    (["proxy.sizes=[]"], ["proxy.sizes=[]"]),
    (["proxy.learning_rate=nan"], ["proxy.learning_rate=nan", "below 10"]),
    (["comparisons.num=99999999999999999999"], ["comparisons.num=99999999999999999999", "2,147,483,647"]),
    (["comparisons.held_out=1"], ["comparisons.held_out=1.0", "below 1"]),
    (["comparisons.num=70", "comparisons.held_out=0.1"], ["proxy.batch=64", "63 comparisons"]),
    (["comparisons.labels=human", "comparisons.noise=0.2"], ["comparisons.noise=0.2", "labels=human"]),
    (["best_of_n.seed=-1"], ["best_of_n.seed=-1", "0 or more"]),
    (["fit.level=1.5"], ["fit.level=1.5", "below 1"]),
    (["runtime.dtype=int8"], ["runtime.dtype='int8'", "bfloat16"]),
    (["runtime.coordinator=here:port"], ["runtime.coordinator=here:port", "host:port, or auto"]),
    (["runtime.coordinator=here:70000"], ["runtime.coordinator=here:70000", "host:port"]),
    (["runtime.coordinator=here:7000"], ["runtime.processes=null", "runtime.coordinator=here:7000 needs a number"]),
    (["runtime.coordinator=here:7000", "runtime.processes=2"], ["runtime.process=null"]),
    (["runtime.coordinator=here:7000", "runtime.processes=0", "runtime.process=0"], ["runtime.processes=0"]),
    (["runtime.coordinator=here:7000", "runtime.processes=2", "runtime.process=2"], ["runtime.process=2", "0 to 1"]),
    (["runtime.processes=2"], ["runtime.processes=2", "runtime.coordinator=host:port"]),
    (["runtime.coordinator=auto", "runtime.process=1"], ["runtime.process=1", "runtime.coordinator=auto"]),
    (["runtime.coordinator=auto"], ["runtime.coordinator=auto", "cannot be used here"]),
    (["-m", "runtime.coordinator=auto", "proxy.seeds=1,2"], ["runtime.coordinator=auto", "null in a sweep"]),
    (["tracking.wandb=often"], ["tracking.wandb='often'", "offline"]),
    (['tracking.project=""'], ["tracking.project=''"]),
    (["experiment=oracel"], ["experiment"]),
    (["+experiment=oracel"], ["experiment/oracel", "oracle"]),
    (["+experiment=oracle", "proxy.seeds=0"], ["proxy.seeds=0", "1 or more"]),
    (["study=[{proxy.seeds: 2}, {proxy.seeds: many}]"], ["study[1]", "proxy.seeds", "many"]),
    (["study=[{output: here}]"], ["study[0]", "output"]),
    (["tracking.folder=${store}x${nothing}"], ["tracking.folder", "nothing"]),
    (["tracking.folder=${tracking.folder}"], ["tracking.folder"]),
    (["proxy.seeds=${oc.env:NOT_SET_ANYWHERE}"], ["NOT_SET_ANYWHERE"]),
    (["proxy.seeds=${unknown:3}"], ["proxy.seeds", "unknown"]),
    (["=3"], ["override"]),
    (["proxy.seeds=1", "proxy.seeds.more=2"], ["proxy.seeds"]),
    (["hydra/launcher=none_such"], ["hydra/launcher/none_such"]),
    (["--config-name=none_such"], ["none_such"]),
]


@pytest.mark.parametrize(("words", "named"), CASES, ids=[" ".join(words) for words, _ in CASES])
def test_input_that_cannot_be_is_told_on_one_line(
    command: Command, tmp_path: Path, words: list[str], named: list[str]
) -> None:
    refused(command(*words, *folders(tmp_path)), *named)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("process", [0, 1])
def test_processes_that_do_not_find_each_other_are_told(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, process: int
) -> None:
    monkeypatch.setattr(meeting, "PATIENCE", 0.3)
    where = f"127.0.0.1:{free_port()}"
    words = [f"runtime.coordinator={where}", "runtime.processes=2", f"runtime.process={process}"]
    refused(command("scale=smoke", *words, *folders(tmp_path)), where, "within 0.3 s")
    assert contents(tmp_path) == {}


def own_data(tmp_path: Path, content: bytes) -> str:
    (tmp_path / "mine.tsv").write_bytes(content)
    return f"environment.data={tmp_path / 'mine.tsv'}"


BROKEN = {
    "no header": b"1\t2\t3\n",
    "no rating": b"domain\tid\tratings\ttext\nmovie\t1\tgood\ta fine film\n",
    "binary": b"\xff\xfe\x00\x01" * 50,
    "empty": b"",
}


@pytest.mark.parametrize("content", BROKEN)
def test_ratings_that_cannot_be_read_are_named(command: Command, tmp_path: Path, content: str) -> None:
    words = ["scale=smoke", "runtime.progress=false", own_data(tmp_path, BROKEN[content])]
    refused(command(*words, *folders(tmp_path)), "mine.tsv")
    assert set(contents(tmp_path)) == {"mine.tsv"}  # no artifact, no configuration of a run that never was


Edit = Callable[[list[list[str]]], list[list[str]]]


def some_data(tmp_path: Path, edit: Edit) -> str:
    """One in 60 of the shipped snippets as [domain, id, ratings, text], edited, in a file of the user's own."""
    rows = [[s.domain, s.id, " ".join(map(str, s.ratings)), s.text] for s in load_snippets()[::60]]
    return own_data(tmp_path, "".join("\t".join(row) + "\n" for row in [list(COLUMNS), *edit(rows)]).encode())


def few_editorials(rows: list[list[str]]) -> list[list[str]]:
    return [*(row for row in rows if row[0] != "editorial"), *[row for row in rows if row[0] == "editorial"][:6]]


def alike(rows: list[list[str]]) -> list[list[str]]:
    return [[*row[:3], f"it is a fine film of the kind that i would see again {row[3]}"] for row in rows]


TOO_LITTLE: dict[str, tuple[Edit, list[str], list[str]]] = {
    "three snippets": (lambda rows: rows[:3], [], ["environment.data=", "3 snippets", "the split test"]),
    "vocabulary": (lambda rows: rows[:40], ["environment.vocab=1500"], ["environment.vocab=1500", "at most"]),
    "long prompts": (list, ["environment.prompt_tokens=400"], ["environment.prompt_tokens=400", "train"]),
    "one beginning": (alike, [], ["environment.prompt_tokens=5", "validation"]),
    "few of a domain": (few_editorials, [], ["environment.build.gold_group_size=8", "editorial", "train"]),
    "few prompts": (list, ["best_of_n.prompts=300"], ["best_of_n.prompts=300", "distinct prompts"]),
    "few to compare": (
        list,
        ["comparisons={labels: human, group_size: 30}", "environment.build.gold_group_size=2"],
        ["comparisons.group_size=30", "validation"],
    ),
    "few to train on": (list, ["environment.build.batch=2000"], ["environment.build.batch=2000"]),
    "one rating": (lambda rows: [[*r[:2], r[2].split()[0], r[3]] for r in rows], [], ["environment.data=", "1 rating"]),
    "a domain of one": (lambda rows: [["mine", "1", "1 2", "what is this about"], *rows], [], ["gold_group_size=8"]),
    "overall": (lambda rows: [["overall", *row[1:]] for row in rows], [], ["environment.data=", "'overall'"]),
}


@pytest.mark.parametrize("case", TOO_LITTLE)
def test_data_that_does_not_suffice_is_told_before_anything_is_trained(
    command: Command, tmp_path: Path, case: str
) -> None:
    edit, words, named = TOO_LITTLE[case]
    asked = ["scale=smoke", "environment.vocab=300", some_data(tmp_path, edit), *words, *folders(tmp_path)]
    refused(command("runtime.progress=false", *asked), *named)
    stages = {Path(name).parts[1] for name in contents(tmp_path) if name.startswith("store")}
    assert stages <= {"tokenizer"} and not (tmp_path / "output").exists()


@pytest.mark.parametrize("key", ["output", "store"])
@pytest.mark.parametrize("place", ["file", "file/inside", "x" * 300, "y/" * 3000])
def test_a_folder_that_cannot_be_is_told_before_anything_is_made(
    command: Command, tmp_path: Path, key: str, place: str
) -> None:
    (tmp_path / "file").write_text("mine")
    words = ["scale=smoke", *folders(tmp_path / "other"), f"{key}={tmp_path / place}"]
    refused(command(*words), f"{key}={tmp_path}")
    assert {name: content for name, (content, _) in contents(tmp_path).items()} == {"file": b"mine"}


@pytest.fixture
def released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A release to look at, of files that hold anything."""
    folder = tmp_path / "releases" / RELEASES[-1]
    folder.mkdir(parents=True)
    names = ["tokenizer.json", "reference.safetensors", "gold.safetensors", "backbone-2000.safetensors"]
    for name in names:
        (folder / name).write_bytes(name.encode() * 100)
    defaults = EnvironmentSettings()
    manifest = {
        "files": {name: {"sha256": file_digest(folder / name), "bytes": 1} for name in names},
        "build": asdict(BuildSettings(backbone_sizes=[2000])),
        "data_sha256": DATA_SHA256,
        "metrics": {},
        **{key: getattr(defaults, key) for key in ("vocab", "prompt_tokens", "response_tokens")},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.setattr(release, "ROOT", folder.parent)
    return folder


@pytest.mark.parametrize("name", ["gold.safetensors", "tokenizer.json", "backbone-2000.safetensors"])
def test_a_flipped_byte_of_a_release_is_told_with_both_hashes(
    command: Command, released: Path, tmp_path: Path, name: str
) -> None:
    content = bytearray((released / name).read_bytes())
    recorded = file_digest(released / name)
    content[77] ^= 4
    (released / name).write_bytes(content)
    before = contents(tmp_path)
    ended = command(*folders(tmp_path))
    refused(ended, str(released / name), recorded[:16], file_digest(released / name)[:16])
    assert contents(tmp_path) == before


def test_a_release_that_is_not_whole_or_has_another_vocabulary_is_told(
    command: Command, released: Path, tmp_path: Path
) -> None:
    refused(command("environment.vocab=1000", *folders(tmp_path)), "environment.vocab=1000", "1024", "reviews-v2")
    refused(command("proxy.init=backbone", *folders(tmp_path)), "proxy.sizes=", "proxy.init=backbone", "[2000]")
    (released / "gold.safetensors").unlink()
    refused(command(*folders(tmp_path)), str(released / "gold.safetensors"), "missing")
    (released / "manifest.json").unlink()
    refused(command(*folders(tmp_path)), str(released / "manifest.json"))
    assert not (tmp_path / "output").exists() and not (tmp_path / "store").exists()


def held_output(tmp_path: Path, content: str) -> Path:
    folder = tmp_path / "output"
    folder.mkdir()
    (folder / "config.yaml").write_text(content)
    (folder / "records.csv").write_text("run\nmine\n")
    return folder


def test_results_of_another_configuration_are_left_alone(command: Command, tmp_path: Path) -> None:
    flat = result_config(Settings(scale="smoke")) | {"proxy.seeds": 7}
    nested: dict[str, dict[str, object]] = {}
    for key, value in flat.items():
        *groups, last = key.split(".")
        place: dict[str, object] = nested  # type: ignore[assignment]
        for group in groups:
            place = place.setdefault(group, {})  # type: ignore[assignment]
        place[last] = value
    folder = held_output(tmp_path, yaml.safe_dump(nested))
    before = contents(folder)
    ended = command("scale=smoke", *folders(tmp_path))
    refused(ended, f"output={folder}", "another output")
    named = next(key for key in flatten(Settings()) if f"{key}=" in ended.err.split("with ")[1])
    assert named in flat
    assert contents(folder) == before


@pytest.mark.parametrize("content", ["", "[1, 2]", "a: [", "\x00", "scale: smoke\nproxy: 3\n"])
def test_a_folder_whose_configuration_cannot_be_read_is_left_alone(
    command: Command, tmp_path: Path, content: str
) -> None:
    folder = held_output(tmp_path, content)
    before = contents(folder)
    refused(command("scale=smoke", *folders(tmp_path)), f"output={folder}")
    assert contents(folder) == before


def test_a_run_without_a_result_ends_with_one_line_and_code_1(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object) -> None:
        raise RunError("nothing to fit: runs.csv says which")

    at_once(monkeypatch)
    monkeypatch.setattr(experiment, "overoptimization_tables", fail)
    ended = command("scale=smoke", "runtime.progress=false", *folders(tmp_path))
    assert ended == Ended(1, "", "error: nothing to fit: runs.csv says which\n")


@pytest.mark.parametrize("word", ["best_of_n.max_n=513", "proxy.seeds=2.5"])
def test_the_command_itself_ends_so(tmp_path: Path, word: str) -> None:
    """Once in a process of its own: what Hydra refuses and what the settings refuse."""
    asked = [sys.executable, str(SCRIPT), "scale=smoke", word, *folders(tmp_path)]
    done = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    refused(Ended(done.returncode, done.stdout, done.stderr), word)
    assert list(tmp_path.iterdir()) == []
