"""The store's command tells, verifies and prunes; what cannot be is told on one line."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from scripts import load_script
from stored import cut, digits, failed, family_of, flip, listing

from synthetic_rm import store as store_module
from synthetic_rm.store import Artifact
from synthetic_rm.storekeeping import scan


@pytest.fixture
def family(tmp_path: Path) -> dict[str, Artifact]:
    return family_of(tmp_path / "store")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("store")


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(script: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    def run(*words: str) -> tuple[int, str, str]:
        try:
            code = script.main([*words, "--store", str(tmp_path / "store")])
        except SystemExit as error:
            code = error.code
        return (code, *capsys.readouterr())

    return run


def test_the_list_names_every_stage_and_its_relations(
    tmp_path: Path, family: dict[str, Artifact], command: Command
) -> None:
    failed(tmp_path / "store", "pool")
    code, out, err = command("list")
    assert (code, err) == (0, "")
    rows = {
        row[1]: row for line in out.splitlines() if len(row := line.split()) > 5 and row[0] in store_module.VERSIONS
    }
    assert set(rows) >= {artifact.key[:8] for artifact in family.values()} and len(rows) == 5
    assert "+1 not here" in " ".join(rows[family["comparisons"].key[:8]])
    assert "proxy x2" in " ".join(rows[family["comparisons"].key[:8]])
    assert family["2"].key[:8] in rows[family["scores"].key[:8]]
    assert "failed" in out and "RuntimeError: diverged" in out and "4 finished stages, 1 other" in out


def test_verify_ends_with_1_where_something_is_damaged(family: dict[str, Artifact], command: Command) -> None:
    assert command("verify") == (0, "4 stages verified, 0 damaged\n", "")
    flip(family["4"].path)
    code, out, err = command("verify")
    told, last = out.splitlines()
    assert (code, err, last) == (1, "", "4 stages verified, 1 damaged")
    assert told.startswith(f"damaged: {family['4'].path}: ") and "params.bin" in told


def test_a_dry_run_tells_what_pruning_removes_and_removes_nothing(
    tmp_path: Path, family: dict[str, Artifact], command: Command
) -> None:
    root = tmp_path / "store"
    cut(family["4"].path)
    failed(root, "pool")
    before = listing(root)
    code, dry, _ = command("prune", "--dry-run")
    assert code == 0 and "2 of 5 would be removed" in dry and listing(root) == before
    code, out, _ = command("prune")
    assert code == 0 and out == dry.replace("would be removed", "removed")
    assert digits(scan(root)) == {family[name].key[:20] for name in ("comparisons", "2", "scores")}
    assert "0 of 3 removed" in command("prune")[1]
    assert "3 of 3 removed" in command("prune", "--older-than", "0")[1]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["list"], "is not a folder"),
        (["burn"], "burn"),
        (["prune", "--older-than", "-1"], "--older-than=-1: allowed is 0 days or more"),
        (["prune", "--older-than", "nan"], "--older-than=nan"),
        (["prune", "--older-than", "long"], "--older-than"),
        (["list", "--all"], "--all"),
    ],
)
def test_what_cannot_be_is_told_on_one_line(command: Command, words: list[str], named: str) -> None:
    code, out, err = command(*words)
    assert (code, out) == (2, "") and len(err.splitlines()) == 1
    assert err.startswith("error: ") and named in err


@pytest.mark.parametrize(
    ("seconds", "told"), [(-3, "0 s"), (59.9, "59 s"), (60, "1 min"), (7300, "2 h"), (200_000, "2 d")]
)
def test_ages_are_told_in_their_largest_unit(script: ModuleType, seconds: float, told: str) -> None:
    assert script.age(seconds) == told
