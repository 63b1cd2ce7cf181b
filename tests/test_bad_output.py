"""An output folder that cannot be written, is being written, or holds what would do harm: one line, nothing touched."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from entered import Command, at_once, contents, exit_code, files_up_to, folders, refused
from filelock import FileLock
from scripts import load_script

from synthetic_rm import analytic_experiment, experiment
from synthetic_rm.entry import TRACEBACK


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    return Command(monkeypatch, capsys, tmp_path / "work")


@pytest.mark.parametrize("words", [["scale=smoke"], ["+experiment=oracle"]], ids=["trained", "analytic"])
class TestOutput:
    def test_a_disk_that_is_full(
        self, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str]
    ) -> None:
        at_once(monkeypatch)
        with files_up_to(100):
            ended = command(*words, *folders(tmp_path))
        refused(ended, f"output={tmp_path / 'output'}", os.strerror(errno.EFBIG))
        assert not (tmp_path / "output" / "config.yaml").exists()

    def test_a_folder_that_may_only_be_read(
        self, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str]
    ) -> None:
        monkeypatch.setattr(os, "access", lambda place, mode: Path(place) != tmp_path)
        refused(command(*words, *folders(tmp_path)), f"output={tmp_path / 'output'}", "can be written")
        assert contents(tmp_path) == {}

    def test_a_folder_that_turns_out_to_be_one(
        self, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str]
    ) -> None:
        made = Path.mkdir

        def refuse(path: Path, *options: Any, **named: Any) -> None:
            if path == tmp_path / "output":
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            made(path, *options, **named)

        at_once(monkeypatch)
        monkeypatch.setattr(Path, "mkdir", refuse)
        refused(command(*words, *folders(tmp_path)), f"output={tmp_path / 'output'}", os.strerror(errno.EROFS))

    def test_another_run_that_writes_there(
        self, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str]
    ) -> None:
        at_once(monkeypatch)
        (tmp_path / "output").mkdir()
        with FileLock(tmp_path / "output" / ".lock"):
            refused(command(*words, *folders(tmp_path)), f"output={tmp_path / 'output'}", "another run writes there")
        assert set(contents(tmp_path)) <= {"output/.lock"}

    def test_what_was_not_foreseen_keeps_its_traceback(
        self, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str]
    ) -> None:
        def fail(*_: object) -> None:
            raise KeyError("a mistake of ours")

        at_once(monkeypatch)
        monkeypatch.setattr(experiment, "overoptimization_tables", fail)
        monkeypatch.setitem(analytic_experiment.CURVES, "oracle", fail)  # type: ignore[arg-type]
        ended, kept = command(*words, *folders(tmp_path)), tmp_path / "output" / TRACEBACK
        last = ended.err.splitlines()[-1]
        assert (ended.code, ended.out) == (1, "") and "Traceback" not in ended.err
        assert last.startswith("error: unforeseen KeyError: ") and str(kept) in last
        assert "in fail" in kept.read_text() and not (tmp_path / "output" / ".lock").exists()


LAUGHS = "a: &a [1, 2]\nb: &b [*a, *a]\nc: {d: *b}\n"


@pytest.mark.parametrize("content", [LAUGHS, "a: " * 9000, "[" * 9000, "a: !!python/object/apply:os.getcwd []"])
def test_a_configuration_made_to_do_harm_is_told(command: Command, tmp_path: Path, content: str) -> None:
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "config.yaml").write_text(content)
    (tmp_path / "output" / "records.csv").write_text("run\nmine\n")
    before = contents(tmp_path)
    refused(command("scale=smoke", *folders(tmp_path)), f"output={tmp_path / 'output'}", "config.yaml")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["plan", "figures", "store", "build_environment"])
@pytest.mark.parametrize("word", ["--nope", "--size=x\ny"])
def test_words_that_a_command_does_not_know_are_told(
    name: str, word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = load_script(name)
    monkeypatch.setattr("sys.argv", [name, word])
    assert exit_code(script.main) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
