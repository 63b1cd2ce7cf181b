"""Every environment of the package keeps the contract of `types.Environment`."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contracts.implementations import modules_of

from synthetic_rm import environments
from synthetic_rm.environments.reviews.environment import Reviews, train_reviews_tokenizer
from synthetic_rm.environments.reviews.ratings import COLUMNS, load_snippets
from synthetic_rm.environments.tabular import Tabular
from synthetic_rm.environments.tiny_language import TinyLanguage
from synthetic_rm.scoring import check_responses
from synthetic_rm.types import BOS, Environment

MEMBERS = {name for name in vars(Environment) if not name.startswith("_")}


def found() -> dict[str, type]:
    """Every class of `environments` that has all members of the contract."""
    classes = [c for module in modules_of(environments) for c in vars(module).values() if inspect.isclass(c)]
    return {c.__name__: c for c in classes if set(dir(c)) >= MEMBERS and c.__module__.startswith(environments.__name__)}


def reviews(folder: Path) -> Reviews:
    rows = [(s.domain, s.id, " ".join(map(str, s.ratings)), s.text) for s in load_snippets()[::40]]
    path = folder / "ratings.tsv"
    path.write_text("".join("\t".join(row) + "\n" for row in (COLUMNS, *rows)), encoding="utf-8")
    return Reviews(train_reviews_tokenizer(path, 300), 4, 12, path)


MAKE: dict[str, Callable[[Path], Any]] = {
    "Reviews": reviews,
    "Tabular": lambda _: Tabular(num_prompts=7, vocab=4, response_tokens=2),
    "TinyLanguage": lambda _: TinyLanguage(num_demonstrations=50),
}


def test_every_environment_is_tested() -> None:
    assert set(found()) == set(MAKE), "give the new environment a maker in MAKE"


@pytest.fixture(scope="module", params=sorted(found()))
def environment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return MAKE[request.param](tmp_path_factory.mktemp("environment"))


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_prompts_and_demonstrations_are_what_networks_can_read(environment: Any, split: str) -> None:
    prompts = environment.prompts(split)
    assert prompts.shape[1] == environment.prompt_tokens and len(prompts) > 1
    assert prompts.dtype.kind in "iu" and prompts.min() >= 0 and prompts.max() < environment.vocab
    assert (prompts[:, 0] == BOS).all()
    np.testing.assert_array_equal(prompts, environment.prompts(split))
    shown = environment.demonstrations(split)
    check_responses(shown, environment.vocab)
    assert shown.tokens.shape[1] == environment.response_tokens
    assert shown.prompt.shape[1] == environment.prompt_tokens
    assert isinstance(environment.decode(np.asarray(shown.tokens)[0, : int(shown.length[0])]), str)


def test_an_environment_holds_no_reward_model(environment: Any) -> None:
    """Nothing in it scores responses: gold is out of reach of whoever holds an environment."""
    held = {name: value for name, value in vars(environment).items() if hasattr(value, "centred") or callable(value)}
    assert held == {}
    assert environment.name and environment.name == environment.name.lower()
