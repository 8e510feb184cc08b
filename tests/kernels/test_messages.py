"""What is said while kernels are compiled: once what for, and then how many it were and how long it took."""

import logging

import numpy as np
import pytest

import annvq
from annvq.kernels.compile import messages


@pytest.fixture
def said(caplog, monkeypatch):
    """Return what is said, by a process that has compiled nothing yet."""
    monkeypatch.setattr(messages, "_told", False)
    monkeypatch.setattr(messages, "_burst", None)
    monkeypatch.setattr(messages, "_PAUSE", 60.0)
    caplog.set_level(logging.WARNING, "annvq")
    yield lambda: [record.getMessage() for record in caplog.records]
    if messages._burst is not None:
        messages._burst.timer.cancel()


def compile_kernel(monkeypatch, purpose, folder="/kept", reason=""):
    monkeypatch.setattr(messages, "_purpose", lambda: purpose)
    messages.begin(lambda: (folder, reason))
    messages.end()


def test_kernels_compiled_together_are_told_together(said, monkeypatch):
    before = messages.compiled
    for purpose in ("build", "build", "", "Index.search", "build"):
        compile_kernel(monkeypatch, purpose)
    messages._tell()
    messages._tell()
    first, last = said()
    assert first.startswith("annvq: compiling kernels for build (once on this machine")
    assert "kept in /kept" in first
    assert last.startswith("annvq: compiled 5 kernels for build and Index.search in ")
    assert messages.compiled == before + 5


def test_the_folder_is_named_once(said, monkeypatch):
    compile_kernel(monkeypatch, "build")
    messages._tell()
    compile_kernel(monkeypatch, "Index.search")
    messages._tell()
    assert [message for message in said() if "/kept" in message] == said()[:1]
    assert said()[2] == "annvq: compiling kernels for Index.search"
    assert said()[3].startswith("annvq: compiled 1 kernel for Index.search in ")


def test_it_is_said_why_nothing_is_kept(said, monkeypatch):
    compile_kernel(monkeypatch, "build", None, "other users may write to /kept")
    assert "not kept for other processes: other users may write to /kept" in said()[0]


def test_nothing_is_said_where_nothing_is_compiled(said):
    messages.end()
    messages._tell()
    assert said() == []


def test_the_purpose_is_what_the_user_called():
    purposes = []
    annvq.build(
        np.eye(4, 3, dtype=np.float32), "Flat", progress=lambda done, total: purposes.append(messages._purpose())
    )
    assert purposes == ["build"]
    assert messages._purpose() == ""
