"""How a command ends: its exit code, one line or a traceback, and what is kept."""

import errno
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthetic_rm.entry import TRACEBACK, Parser, foreseen, guarded, printable, traceback_kept
from synthetic_rm.errors import InputError, RunError, Stopped

Capture = pytest.CaptureFixture[str]


class Odd(BaseException):
    pass


def ends(error: BaseException | None, capsys: Capture, **options: object) -> tuple[int, str]:
    def act() -> None:
        if error is not None:
            raise error

    code = guarded(act, **options)  # type: ignore[arg-type]
    out, err = capsys.readouterr()
    assert out == ""
    return code, err


def test_a_command_that_is_done_ends_with_its_own_code(capsys: Capture) -> None:
    assert ends(None, capsys) == (0, "")
    assert [guarded(lambda code=code: code) for code in (None, 0, 1, 7)] == [0, 0, 1, 7]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("proxy.seeds=0:\n allowed is 1"), 2, "error: proxy.seeds=0: allowed is 1"),
        (InputError(), 2, "error: InputError"),
        (RunError("nothing to fit"), 1, "error: nothing to fit"),
        (KeyboardInterrupt(), 130, "stopped: the same command goes on from what the store has"),
        (Stopped(143), 143, "stopped: the same command goes on from what the store has"),
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), 2, "error: a/b: cannot be used (No space left on de"),
        (PermissionError(errno.EACCES, "Permission denied", "a"), 2, "error: a: cannot be used (Permission denied)"),
        (OSError(errno.EROFS, "Read-only file system"), 2, "error: a file: cannot be used (Read-only file system)"),
        (MemoryError("Unable to allocate 9 TiB"), 2, "error: memory: not enough for this configuration (Unable to all"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory\nallocating"), 2, "error: memory: not enough for this conf"),
        (InputError("environment.data=a\x1b[2J\u202e\udcff"), 2, r"error: environment.data=a\x1b[2J\u202e\udcff"),
    ],
)
def test_what_can_be_foreseen_is_told_on_one_line(
    error: BaseException, code: int, line: str, capsys: Capture, tmp_path: Path
) -> None:
    ended, err = ends(error, capsys)
    assert ended == code and err.startswith(line) and err.count("\n") == 1 and err.endswith("\n")
    with pytest.raises((InputError, RunError, Stopped, KeyboardInterrupt)), traceback_kept(tmp_path / "run"):
        raise error
    assert list(tmp_path.iterdir()) == []


def test_what_else_means_bad_input_can_be_said_and_told_otherwise(capsys: Capture) -> None:
    assert ends(Odd("a"), capsys, refused=(Odd,), tell=lambda error: f"<{error}>") == (2, "error: <a>\n")
    with pytest.raises(Odd):
        ends(Odd("a"), capsys)
    with pytest.raises(SystemExit):
        ends(SystemExit(3), capsys)


UNFORESEEN = [
    KeyError("x"),
    ValueError("shapes\ndiffer"),
    AssertionError(),
    FileNotFoundError(2, "gone", "b"),
    OSError(),
]


@pytest.mark.parametrize("error", UNFORESEEN, ids=repr)
def test_what_cannot_be_foreseen_keeps_its_traceback(error: Exception, capsys: Capture, tmp_path: Path) -> None:
    code, err = ends(error, capsys)
    assert code == 1 and err.startswith("Traceback") and f"\n{type(error).__name__}" in err

    def act() -> None:
        with traceback_kept(tmp_path / "a" / "run"):
            raise error

    code = guarded(act)
    err, kept = capsys.readouterr().err, tmp_path / "a" / "run" / TRACEBACK
    assert code == 1 and err.startswith(f"error: unforeseen {type(error).__name__}: ") and err.count("\n") == 1
    assert str(kept) in err
    told = kept.read_text()
    assert told.startswith("Traceback") and "raise error" in told
    assert [line for line in str(error).splitlines() if line not in told] == []


def test_a_traceback_that_cannot_be_kept_is_shown(capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")

    def act() -> None:
        with traceback_kept(tmp_path / "file"):
            raise KeyError("x")

    assert guarded(act) == 1 and "KeyError: 'x'" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_words_that_a_command_does_not_know_are_told_on_one_line(capsys: Capture) -> None:
    parser = Parser()
    parser.add_argument("--size", type=int)
    for words in (["--size", "x\ny"], ["--nope"], ["--size"]):
        with pytest.raises(SystemExit) as ended:
            parser.parse_args(words)
        err = capsys.readouterr().err
        assert ended.value.code == 2 and err.startswith("error: ") and err.count("\n") == 1


@given(st.text())
def test_a_line_shows_all_that_it_holds(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable() and (shown == text) == text.isprintable()
    assert foreseen(ValueError(text)) is None or text.startswith("RESOURCE_EXHAUSTED")
