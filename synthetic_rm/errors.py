"""Input that cannot be: raised anywhere in the package, shown as one line by the entry points (exit code 2)."""


class InputError(ValueError):
    """Bad input: the message is one line that names the key, the value, and what is allowed."""


def require(condition: bool, message: str) -> None:
    """Raise `InputError(message)` unless `condition` holds."""
    if not condition:
        raise InputError(message)
