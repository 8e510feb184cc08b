import os

import numpy as np
import pytest

# Tables are as wide as the terminal; tests read whole cells.
os.environ["COLUMNS"] = "200"

from annvq.cli.__main__ import main


@pytest.fixture
def annvq_command(capsys):
    """Return a function that runs the command line and gives (exit code, stdout, stderr)."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    return run


@pytest.fixture
def on_terminal(monkeypatch):
    """Let stdout pass for a terminal without styles."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr("rich.style.Style.render", lambda style, text="", **how: text)


@pytest.fixture(scope="session")
def vectors():
    """(500, 16) vectors around 20 centres."""
    rng = np.random.default_rng(7)
    centres = rng.normal(size=(20, 16))
    return (centres[rng.integers(0, 20, 500)] + 0.3 * rng.normal(size=(500, 16))).astype(np.float32)
