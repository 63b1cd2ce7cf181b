"""What policies say is kept in a table of texts, whatever characters it is made of."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from synthetic_rm.analysis.run_folder import SAMPLE_COLUMNS, read_table
from synthetic_rm.files import write_table

HARD = [
    "nan",
    "",
    "NaN",
    "\r",
    "a\rb",
    "\r\n",
    "\n",
    "\0",
    "a\0b",
    '"',
    '""',
    "'",
    ",",
    ";",
    "\t",
    " ",
    "\ufeff",
    "\x1a",
]
HARD += ["\x85", "\u2028", "\\", "\\r", "\x1b[31m", "#", "=1+1", "None", "1e5", "007", "True", "ünï …"]
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=5))
@example([(text, other) for text, other in zip(HARD, reversed(HARD), strict=True)])
def test_any_text_survives_the_table_of_samples(tmp_path_factory: pytest.TempPathFactory, rows: list) -> None:
    path = tmp_path_factory.mktemp("samples") / "samples.csv"
    frame = pd.DataFrame(
        [
            {"prompt_id": i, "prompt": prompt, "n": 10 * i, "proxy_params": 2000, "proxy_seed": 0}
            | {"proxy": 0.1 * i, "gold": np.nan if i else 1.5, "response": response}
            for i, (prompt, response) in enumerate(rows)
        ],
        columns=list(SAMPLE_COLUMNS),
    )
    write_table(frame, path)
    found = read_table(path, SAMPLE_COLUMNS)
    assert list(zip(found["prompt"], found["response"], strict=True)) == rows
    pd.testing.assert_frame_equal(found, frame, check_dtype=False)
