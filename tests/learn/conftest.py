"""What tests of learning share."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("pytrec_eval")

from small_problem import made_problem


@pytest.fixture(scope="session")
def problem():
    """The problem, made once."""
    return made_problem()
