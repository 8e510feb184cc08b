"""What is said of long tasks: every phase, in order, and counts that are true."""

import re
import subprocess
import sys

import numpy as np
import pytest

import annvq
from annvq import progress
from annvq.errors import NonFiniteError, ParameterError
from annvq.multivector import MultiVectorIndex
from annvq.progress import Bars, Lines, Progress, listening

ROWS = np.random.default_rng(0).normal(size=(3000, 32)).astype(np.float32)


class Heard(Progress):
    def __init__(self):
        self.phases, self.counts, self.ended = [], {}, 0

    def begin(self, phase, total=None):
        self.phases.append(phase)
        self.counts[phase] = []
        self.total = total

    def at(self, done):
        assert self.total is None or done <= self.total
        self.counts[self.phases[-1]].append(done)

    def __exit__(self, *exc):
        self.ended += 1


@pytest.mark.parametrize(
    ("recipe", "learned"),
    [
        ("Flat", []),
        ("IVF8,PQ4x4fs,Refine(SQ8)", ["training 8 lists", "training codes"]),
        ("OPQ4,PQ4x8", ["training a rotation", "training codes"]),
        ("fast", ["training a projection", "training 54 lists", "training codes"]),
    ],
)
def test_a_build_says_its_phases(recipe, learned, tmp_path):
    heard = Heard()
    annvq.build(ROWS, recipe, progress=heard, path=tmp_path / "index").close()
    phases = [re.sub(r"\d+", "54", phase) if recipe == "fast" else phase for phase in heard.phases]
    if not learned:
        phases = [phase for phase in phases if not phase.startswith("training")]
    assert phases == ["reading", *learned, "encoding", "writing"]
    assert heard.counts["encoding"][-1] == len(ROWS)
    assert heard.ended == 0  # whose progress it is ends it
    if "IVF8" in recipe:
        iterations = heard.counts["training 8 lists"]
        assert iterations == sorted(set(iterations))
        assert len(iterations) > 2


def test_a_function_hears_of_rows_encoded(tmp_path):
    calls = []
    annvq.build(ROWS, "IVF8,SQ8", progress=lambda *given: calls.append(given))
    assert calls == [(3000, 3000)]
    calls.clear()
    annvq.build(iter([ROWS[:1000], ROWS[1000:]]), "IVF8,SQ8", progress=lambda *given: calls.append(given))
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert calls[-1] == (3000, None)


def test_an_index_of_documents_says_its_phases():
    heard = Heard()
    MultiVectorIndex.build(ROWS.reshape(300, 10, 32), "muvera-4bit", progress=heard)
    assert heard.phases[0] == "reading"
    assert heard.phases[-2:] == ["encoding", "writing"]
    assert "training codes of documents' vectors" in heard.phases
    assert heard.counts["encoding"][-1] == 300


def test_lines_go_to_stderr_where_no_bar_can_be_drawn(capsys, monkeypatch):
    annvq.build(ROWS, "IVF8,SQ8", progress=True)
    out, err = capsys.readouterr()
    said = [line.split(" s  ")[1] for line in err.splitlines() if " s  " in line]
    assert out == ""
    assert said == ["reading", "training 8 lists", "training codes", "encoding", "writing"]
    monkeypatch.setattr(progress, "_SECONDS_A_LINE", 0)
    with Lines() as lines:
        lines.begin("encoding", 2000)
        lines.at(1500)
    assert capsys.readouterr().err.splitlines()[-1].endswith("encoding: 1,500 of 2,000")


def test_nothing_is_drawn_on_a_terminal_that_cannot_move_its_cursor(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # for rich: a terminal
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(progress.shown(), Lines)
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(progress.shown(), Bars)


def test_without_stderr_nothing_goes_to_stdout(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    annvq.build(ROWS, "Flat", progress=True)
    assert capsys.readouterr().out == ""


def test_bars_are_drawn_on_a_terminal_and_end_with_an_error(monkeypatch):
    monkeypatch.setattr(progress, "shown", Bars)
    wrong = ROWS.copy()
    wrong[7, 3] = np.nan
    with pytest.raises(NonFiniteError):
        annvq.build(wrong, "IVF8,SQ8", progress=True)
    annvq.build(ROWS, "IVF8,SQ8", progress=True)  # rich refuses a second live display: the first one has ended


def test_nothing_else_is_taken_for_progress():
    with pytest.raises(ParameterError, match="'yes'"):
        annvq.build(ROWS, progress="yes")
    with listening(False) as silent:
        silent.begin("a phase")


def test_the_core_does_not_import_rich_without_being_asked():
    code = "import sys, annvq, numpy as np; annvq.build(np.eye(4, dtype='f4')); sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
