"""Trial: processes search an index while another changes it; each answer is right for a version that was committed."""

from __future__ import annotations

import os
import signal
import struct
import time
from collections import Counter
from pathlib import Path

import numpy as np
from changes import METRICS, agrees, built
from kills import plan
from model import content, perform

import annvq

RECIPES = ("Flat", "IVF4,PQ2x4fs,Refine(Flat)", "fast")
_SECONDS = 3.0
_SEARCHES = struct.Struct("<i")


def trial(rng: np.random.Generator, folder: Path) -> Counter:
    """Run one trial; return counts of what was done."""
    path = folder / "index"
    index, model, source = built(rng, str(rng.choice(RECIPES)), str(rng.choice(METRICS)), path)
    version = index.version
    index.close()
    planned, queries = plan(source, model), source.queries(4)
    models = {version: model.copy()}
    for number, change in enumerate(planned):
        model.apply(change)
        models[version + 1 + number] = model.copy()
    # A version is known by what it holds: a compaction of what is compact already makes none.
    held = {str(one.content()): one for one in models.values()}
    writer = os.fork()
    if writer == 0:
        _write(path, planned)
    found = [_start(path, held, queries, seed) for seed in (1, 2)]
    try:
        searches = [_ended(pid, pipe) for pid, pipe in found]
    finally:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
    with annvq.open(path) as last:
        last.verify()
        return Counter(searches=sum(searches), versions=last.version)


def _write(path: Path, planned: list) -> None:
    try:
        with annvq.open(path, "rw") as index:
            for change in planned:
                perform(index, change)
        time.sleep(60)
    finally:
        os._exit(1)


def _start(path: Path, held: dict, queries: np.ndarray, seed: int) -> tuple[int, int]:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.write(writer, _SEARCHES.pack(_read(path, held, queries, np.random.default_rng(seed))))
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    return pid, reader


def _read(path: Path, held: dict, queries: np.ndarray, rng: np.random.Generator) -> int:
    """Search for some seconds; an old version stays what it was."""
    begin, searches = time.monotonic(), 0
    index = annvq.open(path)
    while time.monotonic() - begin < _SECONDS:
        model = held[str(content(index))]
        for _ in range(int(rng.integers(1, 6))):
            agrees(index, model, queries, 7)
            searches += 1
        if rng.random() < 0.5:
            index.refresh()
        else:
            index.close()
            index = annvq.open(path)
    return searches


def _ended(pid: int, pipe: int) -> int:
    said = os.read(pipe, _SEARCHES.size)
    _, status = os.waitpid(pid, 0)
    os.close(pipe)
    assert status == 0, os.waitstatus_to_exitcode(status)
    return _SEARCHES.unpack(said)[0]
