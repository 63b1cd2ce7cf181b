"""What the repository holds: nothing stray, nothing of one machine, and words that agree with each other."""

import ast
import importlib.metadata
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import synthetic_rm

ROOT = Path(__file__).resolve().parents[1]
CODE = ("synthetic_rm", "experiments")
TOP_LEVEL = {
    *CODE,
    "pyproject.toml",
    "conf",
    "notebooks",
    "tests",
    "results",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "CITATION.cff",
    "CONTRIBUTING.md",
    "Makefile",
    ".ci",
    "requirements.txt",
    ".gitignore",
}
MACHINE_PATH = re.compile(r"(^|[^A-Za-z0-9_.])/(work|root|home|opt)/", re.MULTILINE)
HOSTS = {"pypi": "org", "pythonhosted": "org", "anaconda": "(com|org)", "npmjs": "(com|org)", "pytorch": "org/whl"}
INDEXES = [*(rf"{name}\.{top}" for name, top in HOSTS.items()), "--(extra-)?index-url"]
PACKAGE_HOST = re.compile("|".join(INDEXES), re.IGNORECASE)
PICKLING = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


def tracked_files() -> list[str]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    files = [name for name in listing.stdout.split("\0") if name]
    assert "pyproject.toml" in files
    return files


def tracked_texts() -> Iterator[tuple[str, str]]:
    for name in tracked_files():
        content = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b""
        if b"\0" not in content:
            yield name, content.decode("utf-8", errors="replace")


def trees() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(path for folder in CODE for path in (ROOT / folder).rglob("*.py")):
        yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def imported_libraries(tree: ast.AST) -> set[str]:
    """Top-level names of the absolute imports of a syntax tree."""
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    froms = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level]
    names = [alias.name for node in imports for alias in node.names] + [module for module in froms if module]
    return {name.split(".")[0] for name in names}


def pickling(tree: ast.AST) -> set[str]:
    """What in a syntax tree pickles: imports, `allow_pickle` other than False, pandas' pickle methods."""
    found = imported_libraries(tree) & PICKLING
    for node in ast.walk(tree):
        match node:
            case ast.keyword(arg="allow_pickle", value=ast.Constant(value=False)):
                pass
            case ast.keyword(arg="allow_pickle"):
                found.add("allow_pickle")
            case ast.Attribute(attr="read_pickle" | "to_pickle" as method):
                found.add(method)
    return found


def commands_in(markdown: str) -> list[list[str]]:
    """The commands of a text's bash blocks, split into words."""
    blocks = re.findall(r"^```(?:bash|sh|console)\n(.*?)^```", markdown, re.MULTILINE | re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    steps = [step for line in lines for step in re.split(r"&&|;", line)]
    return [words for words in (shlex.split(step, comments=True) for step in steps) if words]


def make_targets(command: list[str]) -> set[str]:
    """The targets that a command asks of make."""
    asked = command[1:] if command[0] == "make" else []
    return {word for word in asked if not word.startswith("-") and "=" not in word}


def test_the_top_level_holds_nothing_stray() -> None:
    assert {name.split("/")[0] for name in tracked_files()} - TOP_LEVEL == set()


@pytest.mark.parametrize("pattern", [MACHINE_PATH, PACKAGE_HOST], ids=["machine path", "package host"])
def test_no_text_names_a_machine_path_or_a_package_host(pattern: re.Pattern[str]) -> None:
    hits = {name: match[0].strip() for name, text in tracked_texts() if (match := pattern.search(text))}
    assert hits == {}


def test_the_patterns_find_what_they_are_for() -> None:
    slash = "/"
    for text in (f"{slash}root/x", f'path = "{slash}work/x"', f"a\n{slash}home/me", f"file://{slash}opt/x"):
        assert MACHINE_PATH.search(text), text
    for text in ("results/home/x", "./work/x", "homework/x", f"{slash}workshop/x"):
        assert not MACHINE_PATH.search(text), text
    assert PACKAGE_HOST.search("https://" + ".".join(["pypi", "org"]))
    assert not PACKAGE_HOST.search("pypi")


def test_nothing_is_pickled() -> None:
    assert {path: found for path, tree in trees() if (found := pickling(tree))} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "def f():\n    from dill import load",
        "np.load(x, allow_pickle=True)",
        "pd.read_pickle(x)",
    ],
)
def test_pickling_is_caught(source: str) -> None:
    assert pickling(ast.parse(source))
    assert not pickling(ast.parse("import json\nnp.load(x, allow_pickle=False)"))


def test_every_imported_library_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    providers = importlib.metadata.packages_distributions()

    def declared(requirements: list[str]) -> set[str]:
        return {canonical(re.split(r"[\[<>=!~; ]", requirement)[0]) for requirement in requirements}

    def canonical(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    runtime = declared(project["dependencies"])
    optional = {name: declared(extra) for name, extra in project["optional-dependencies"].items()}
    extras = {
        "synthetic_rm/trackers.py": ("tensorboard", "wandb", "mlflow"),
        "synthetic_rm/sweep.py": ("submitit", "ray"),
        "synthetic_rm/config.py": ("ray",),
    }
    for path, tree in trees():
        allowed = runtime | (optional["benchmark"] if path.startswith("experiments/benchmarks/") else set())
        allowed |= set().union(*(optional[extra] for extra in extras.get(path, ())))
        local = {file.stem for file in (ROOT / path).parent.glob("*.py")} | set(CODE)
        for library in imported_libraries(tree) - sys.stdlib_module_names - local:
            names = {canonical(name) for name in providers.get(library, [library])}
            assert names & allowed, f"{path} imports {library}, which pyproject.toml does not declare"


def test_every_requirement_is_pinned_and_satisfies_the_declared_ones() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+( ; .+)?", line)] == []
    pins = {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower(): line.split("==")[1] for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for requirement in project["dependencies"] + project["optional-dependencies"]["dev"]:
        name, bound = requirement.split(">=")
        pinned = pins[name.lower()].split(" ")[0]
        assert [int(part) for part in pinned.split(".")] >= [int(part) for part in bound.split(".")], requirement


def test_the_readme_asks_make_only_for_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    commands = commands_in((ROOT / "README.md").read_text(encoding="utf-8"))
    asked = set().union(*(make_targets(command) for command in commands))
    assert {"figure1", "test"} <= asked <= targets
    scripts = {word for command in commands for word in command if re.fullmatch(r"experiments/[\w/]+\.py", word)}
    assert {script for script in scripts if not (ROOT / script).is_file()} == set()


def test_the_paper_is_made_of_experiments_that_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    told = re.search(r"^PAPER := (.+)$", makefile, re.MULTILINE)
    assert told is not None
    known = {path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml")}
    assert {"figure1", "data_size"} <= set(told[1].split()) <= known


def test_commands_are_read_out_of_bash_blocks_alone() -> None:
    bash = "```bash\ncd x && make figure1 -j PYTHON=python3  # make no\n$ make test\n```\n"
    text = f"make no\n{bash}```text\nmake no\n```\n"
    assert [make_targets(command) for command in commands_in(text)] == [set(), {"figure1"}, {"test"}]


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert project["version"] == str(citation["version"]) == synthetic_rm.__version__
