"""Whatever is written for whatever key: valid settings, or one line that names the key."""

import string
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from synthetic_rm.config import ERRORS, one_line, register, to_settings
from synthetic_rm.entry import guarded, printable
from synthetic_rm.errors import InputError
from synthetic_rm.settings import Settings, flatten
from synthetic_rm.settings_checks import validate

CONF = Path(__file__).resolve().parents[1] / "conf"
KEYS = sorted(flatten(Settings()))
NUMBERS = [key for key, value in flatten(Settings()).items() if type(value) in (int, float)]
LINE = (
    "null true nan inf -inf 1e400 -0.0 0x10 1_000 ??? [] {} [1,[2]] {a:1} ${store} ${no} ${oc.env:NO} ${ ' !!a ../.. ~"
)
WORDS = st.sampled_from(LINE.split())
PLAIN = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.text(max_size=8)
    | WORDS
    | st.binary(max_size=4)
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner.filter(lambda x: x != "${"), max_size=3)  # told without its key before anyone hears of it
        | st.dictionaries(st.text(string.ascii_letters, max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def composed() -> Iterator[DictConfig]:
    register()
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        yield compose("config")


def one_line_names(error: BaseException, key: str) -> None:
    """The key itself, or the group that it is in where that takes no such value."""
    line = printable(one_line(error))
    assert line and "\n" not in line and "Traceback" not in line
    group = key.rpartition(".")[0]
    assert key in line or (group and group in line.replace("'", " ").replace("=", " ").split()), line


@given(st.sampled_from(KEYS), VALUES)
@settings(max_examples=100)
def test_any_value_of_any_key_is_valid_or_told_with_its_key(composed: DictConfig, key: str, value: Any) -> None:
    """What a file of conf/ may hold, or a programme may set: every type, as far as it fits into a configuration."""
    config = composed.copy()
    try:
        OmegaConf.update(config, key, value, merge=True)
        found = to_settings(config)
    except (InputError, *ERRORS) as error:
        one_line_names(error, key)
    else:
        assert_typed(found, Settings())
        validate(found)


def assert_typed(found: Any, like: Any) -> None:
    """Of the declared types: no text where a number belongs, no whole number cut from a fraction."""
    for field in fields(like):
        value, default = getattr(found, field.name), getattr(like, field.name)
        if is_dataclass(default):
            assert_typed(value, default)
        elif type(default) in (bool, int, float, str, list):
            assert type(value) is type(default), (field.name, value)


@given(st.sampled_from(KEYS), st.text(st.characters(codec="utf-8"), max_size=10) | WORDS)
@settings(max_examples=30)
def test_any_word_given_for_any_key_is_valid_or_told_on_one_line(composed: DictConfig, key: str, text: str) -> None:
    """What may be typed behind a key on the command line, Hydra's grammar included."""
    ended: list[BaseException] = []

    def tell(error: BaseException) -> str:
        ended.append(error)
        return one_line(error)

    def act() -> None:
        validate(to_settings(compose("config", overrides=[f"{key}={text}"])))

    code = guarded(act, refused=(*ERRORS, ValueError, RecursionError), tell=tell)
    assert code == (2 if ended else 0)
    assert all("\n" not in one_line(error) for error in ended)


@given(st.dictionaries(st.sampled_from(NUMBERS), st.integers(-2, 10**6) | st.floats(-1, 1e4), min_size=2, max_size=5))
@settings(max_examples=40)
def test_several_numbers_are_valid_together_or_one_of_their_keys_is_told(
    composed: DictConfig, changes: dict[str, Any]
) -> None:
    config = composed.copy()
    last = ""
    try:
        for last, value in changes.items():
            OmegaConf.update(config, last, value)
        found = to_settings(config)
    except (InputError, *ERRORS) as error:
        line = one_line(error)
        assert "\n" not in line and [key for key in changes if key in line], line
    else:
        assert {key: value for key, value in flatten(found).items() if key in changes} == changes
