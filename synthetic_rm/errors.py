"""What a run can end with: raised anywhere in the package, shown as one line by the entry points."""


class InputError(ValueError):
    """Input that cannot be: one line that names the key, the value, and what is allowed; exit code 2."""


class RunError(RuntimeError):
    """A run that ended without a result though its input was good: one line, exit code 1."""


class Stopped(SystemExit):
    """The process was asked to end, and what was under way is safe; its code is 128 and the signal's number."""


def require(condition: bool, message: str) -> None:
    """Raise `InputError(message)` unless `condition` holds."""
    if not condition:
        raise InputError(message)


def one_line(error: BaseException) -> str:
    """The message of an exception on one line; its type where there is no message."""
    return " ".join(str(error).split()) or type(error).__name__


def named(error: BaseException) -> str:
    """The type and the message of an exception on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
