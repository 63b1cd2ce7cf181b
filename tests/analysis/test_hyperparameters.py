"""The paper's Table 1, whole, beside the configuration of a run."""

import pandas as pd

from synthetic_rm.analysis.hyperparameters import hyperparameters
from synthetic_rm.analysis.tables import ABSENT

PAPER = ["1.67e-2", "64", "4e-3", "256", "256", "128", "0.2", "0.95"]
RUNS = pd.DataFrame({"stage": ["proxy", "proxy", "ppo"], "learning_rate": [0.03, 0.007, 3e-4]})
CONFIG = {
    "proxy": {"batch": 32},
    "rl": {"method": "ppo", "prompts": 8, "samples": 4, "minibatches": 2, "clip": 0.1, "gae_lambda": 0.9,
           "learning_rate": 1e-3},
}  # fmt: skip


def test_every_row_tells_the_papers_value_and_ours() -> None:
    table = hyperparameters(CONFIG, RUNS)
    assert all(told.startswith(value) for value, told in zip(PAPER, table["paper"], strict=True))
    here = [
        "0.007 to 0.03, by size",
        "32 comparisons",
        "0.001",
        "32 responses",
        "1, a whole response",
        "2",
        "0.1",
        "0.9",
    ]
    assert list(table["here"]) == here


def test_what_a_run_did_not_have_is_absent() -> None:
    without = hyperparameters(CONFIG | {"rl": CONFIG["rl"] | {"method": None}}, RUNS)
    assert list(without["here"][2:]) == [ABSENT] * 6
    assert list(hyperparameters({"proxy": None}, RUNS[["stage"]])["here"]) == [ABSENT] * 8
