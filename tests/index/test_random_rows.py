"""A share of the random changes of rows, with attributes of every type, that `make soak` tries without an end."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "soak"))

import rows


@pytest.mark.parametrize("seed", range(8))
def test_rows_are_what_a_dict_holds(tmp_path, seed):
    counts = rows.trial(np.random.default_rng(seed), tmp_path)
    assert counts["changes"] >= 10
