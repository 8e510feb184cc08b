"""The page about GPUs has the tables that the benchmark prints."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def gpu_estimates(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "bench")
    import gpu_estimates

    yield gpu_estimates
    del sys.modules["gpu_estimates"]


def test_tables_of_the_page_are_those_that_are_printed(gpu_estimates, capsys):
    gpu_estimates.show()
    printed = [line for line in capsys.readouterr().out.splitlines() if line]
    page = (ROOT / "docs/howto/gpu.md").read_text().splitlines()
    assert len(printed) == 6 + len(gpu_estimates._SIZED) + 8 + 8
    assert [line for line in printed if line not in page] == []
