"""Where a result comes from is told truly: digests, commit, changes, versions, the command."""

import hashlib
import io
import json
import re
import shlex
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

import synthetic_rm
from synthetic_rm import provenance
from synthetic_rm.progress import Reporter
from synthetic_rm.provenance import commit, describe, digest, file_digest, versions
from synthetic_rm.runtime import processors

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=50)
@given(plain, plain)
def test_digests_are_equal_where_the_values_are(a: object, b: object) -> None:
    canonical = [json.dumps(value, sort_keys=True) for value in (a, b)]
    assert (digest(a) == digest(b)) == (canonical[0] == canonical[1])


def test_a_digest_knows_values_not_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    values = [{"a": 1}, {"a": 1.0}, {"a": "1"}, {"a": None}, {"b": 1}, {"a": [1]}, {"a": True}, [1, 2], [2, 1]]
    assert len({digest(value) for value in values}) == len(values)
    assert digest({"é": "ü"}) == hashlib.sha256(b'{"\\u00e9":"\\u00fc"}').hexdigest()
    with pytest.raises(TypeError):
        digest({"a": object()})


def test_a_file_digest_is_that_of_its_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(content)
    assert file_digest(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of one commit that looks like this one; the package is taken to lie in it."""
    install(tmp_path / "synthetic_rm", monkeypatch)
    for name in ("experiments/run.py", "conf/config.yaml", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1\n")
    name_project(tmp_path, "synthetic-rm")
    commit_all(tmp_path)
    return tmp_path


def install(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a package there and take it for the one that runs."""
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("1\n")
    monkeypatch.setattr(synthetic_rm, "__file__", str(package / "__init__.py"))


def name_project(folder: Path, name: str) -> None:
    (folder / "pyproject.toml").write_text(f'[project]\nname = "{name}"\n')


def commit_all(folder: Path) -> None:
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "one")


def test_the_commit_is_that_of_the_package(repository: Path) -> None:
    found, dirty = commit()
    assert found == git(repository, "rev-parse", "HEAD") and len(found) == 40
    assert dirty is False


SITE = "env/lib/python3.11/site-packages/synthetic_rm"
FOREIGN = {
    "not tracked there": (SITE, "env/\n", "theirs"),
    "tracked deep inside it": (SITE, "", "theirs"),
    "tracked deep inside a fork of ours": (SITE, "", "synthetic-rm"),
    "tracked at its top": ("synthetic_rm", "", "theirs"),
    "at the top of ours, not tracked": ("synthetic_rm", "synthetic_rm/\n", "synthetic-rm"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_the_commit_of_a_foreign_repository_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    place, ignored, project = FOREIGN[case]
    install(tmp_path / place, monkeypatch)
    name_project(tmp_path, project)
    (tmp_path / ".gitignore").write_text(ignored)
    commit_all(tmp_path)
    assert commit() == ("unknown", False)


@pytest.mark.parametrize("project", [None, "", "[project", "project = 3", "[project]\nversion = '1'", "\xff\xfe"])
def test_a_repository_without_a_readable_name_is_not_ours(repository: Path, project: str | None) -> None:
    (repository / "pyproject.toml").unlink()
    if project is not None:
        (repository / "pyproject.toml").write_bytes(project.encode("latin-1"))
    assert commit() == ("unknown", False)


def test_the_commit_is_found_through_a_link_and_in_a_second_worktree(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    head = git(repository, "rev-parse", "HEAD")
    (elsewhere / "link").symlink_to(repository)
    git(repository, "worktree", "add", "-q", str(elsewhere / "second"))
    for name in ("link", "second"):
        monkeypatch.setattr(synthetic_rm, "__file__", str(elsewhere / name / "synthetic_rm" / "__init__.py"))
        assert commit() == (head, False)


CODE = ["synthetic_rm/__init__.py", "synthetic_rm/new.py", "experiments/run.py", "conf/a.yaml"]


@pytest.mark.parametrize("name", CODE)
def test_code_that_differs_from_the_commit_is_told(repository: Path, name: str) -> None:
    (repository / name).write_text("2\n")
    assert commit() == (git(repository, "rev-parse", "HEAD"), True)


def test_what_is_not_code_does_not_count_as_a_change(repository: Path) -> None:
    (repository / "README.md").write_text("2\n")
    (repository / "results.csv").write_text("2\n")
    assert commit()[1] is False


def test_without_a_repository_or_git_the_commit_is_unknown(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("installed") / "synthetic_rm" / "__init__.py"
    elsewhere.parent.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(synthetic_rm, "__file__", str(elsewhere))
        assert commit() == ("unknown", False)
    monkeypatch.setenv("PATH", "")
    assert commit() == ("unknown", False)


def test_versions_are_those_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = versions()
    assert set(found) == {"python", "synthetic_rm", *provenance.LIBRARIES}
    assert all(found[name] == version(name) for name in provenance.LIBRARIES)
    assert found["synthetic_rm"] == synthetic_rm.__version__

    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(provenance, "version", absent)
    assert set(versions()) == {"python", "synthetic_rm"}


def test_a_description_is_plain_and_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    found = describe("cpu: test")
    assert json.loads(json.dumps(found)) == found
    assert {"commit", "dirty", "versions", "device", "cpu", "threads", "started", "command"} <= set(found)
    assert found["device"] == "cpu: test" and found["threads"] == processors() >= 1
    assert abs(datetime.now(UTC) - datetime.fromisoformat(found["started"])) < timedelta(minutes=1)


def test_the_command_can_be_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words with spaces, quotes and braces come back as they were; the folder of the script is left out."""
    words = ["comparisons={labels: human, noise: 0}", "output=my results", "environment.data='a\"b.tsv'", "scale=smoke"]
    monkeypatch.setattr(provenance.sys, "argv", ["/somewhere/experiments/run.py", *words])
    found = shlex.split(describe("cpu")["command"])
    assert found[-len(words) :] == words
    assert not any(word.startswith("/") for word in found)


def test_a_report_is_quiet_when_asked_and_draws_no_bars_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for enabled, expected in ((False, ""), (True, "say [this]\n")):
        reporter = Reporter(enabled)
        reporter.say("say [this]")
        with reporter.bar("work", 3, "steps") as bar:
            bar.advance(1, "loss 0.1")
        out, err = capsys.readouterr()
        assert (out, err) == ("", expected)


def test_a_bar_counts_what_is_done_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = Reporter()
    text = io.StringIO()
    reporter.console, reporter._bars = Console(file=text, force_terminal=True, width=120), True
    with reporter.bar("work", 4, "steps") as bar:
        bar.advance(1)
        bar.advance(2, "loss 0.125", tokens=50)
        bar.advance(0, tokens=70)
        assert bar._done == {"steps": 3, "tokens": 120}
        assert bar._progress is not None
        bar._progress.refresh()
    assert "work" in text.getvalue() and "75%" in text.getvalue()
    assert re.search(r"\d steps/s [\d,]+ tokens/s", text.getvalue())


def test_bars_that_threads_have_open_at_a_time_share_the_terminal() -> None:
    reporter = Reporter()
    text = io.StringIO()
    reporter.console, reporter._bars = Console(file=text, force_terminal=True, width=120), True
    both = threading.Barrier(2, timeout=60)

    def work(title: str) -> tuple[Any, dict[str, float]]:
        with reporter.bar(title, 4, "steps") as bar:
            both.wait()
            bar.advance(3)
            both.wait()
            return bar._progress, bar._done

    with ThreadPoolExecutor(2) as pool:
        (first, done), (second, _) = pool.map(work, ["one", "other"])
    assert first is second and first.finished and done == {"steps": 3}
    with reporter.bar("after", 1, "steps") as bar:
        bar._progress.refresh()  # type: ignore[union-attr]
    assert all(title in text.getvalue() for title in ("one", "other", "after"))
