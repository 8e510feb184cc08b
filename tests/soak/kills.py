"""Trial: a process that changes an index is killed; what it said is done is there, and nothing is half done."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

import numpy as np
from changes import METRICS, agrees, built
from model import Model, Source, content, perform

import annvq

RECIPES = ("Flat", "IVF4,PQ2x4fs,Refine(Flat)", "fast", "balanced", "ivf-rabitq")
_PLANNED = 400  # changes a process; it is killed long before


def plan(source: Source, model: Model) -> list[tuple]:
    """Return changes one after another, and leave the model as it was."""
    ahead, planned = model.copy(), []
    for _ in range(_PLANNED):
        planned.append(source.change(ahead))
        ahead.apply(planned[-1])
    return planned


def trial(rng: np.random.Generator, folder: Path) -> Counter:
    """Run one trial; return counts of what was done."""
    path = folder / "index"
    index, model, source = built(rng, str(rng.choice(RECIPES)), str(rng.choice(METRICS)), path)
    index.close()
    counts: Counter = Counter()
    with annvq.open(path, "copy") as copy:  # kernels are loaded here, so that processes are killed while they change
        for change in plan(source, model)[:12]:
            perform(copy, change)
    for _ in range(8):
        planned = plan(source, model)
        done = _killed(path, planned, float(rng.uniform(0.001, 0.15)))
        before = model.copy()
        for change in planned[:done]:
            before.apply(change)
        after = before.copy()
        after.apply(planned[done])
        with annvq.open(path) as found:
            found.verify()
            # An unfinished compaction leaves the same rows; every other change differs by the stamps of its rows.
            model = after if content(found) == after.content() else before
            assert content(found) == model.content()
            agrees(found, model, source.queries(3), 20)
        with annvq.open(path, "rw") as writer:
            change = ("add", source.ids(model, 1), source.vectors(1), source.attributes(1))  # commits
            perform(writer, change)
            model.apply(change)
            left = {*os.listdir(path)} - {"manifest.json", "LOCK", *writer.rows._store.names()}
            assert not left, left
        counts["kills"] += 1
        counts["changes"] += done
    return counts


def _killed(path: Path, planned: list[tuple], after: float) -> int:
    """Make changes in a process that is killed so many seconds after its first; return how many it said were done."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            with annvq.open(path, "rw") as index:
                os.write(writer, b"o")
                for change in planned:
                    perform(index, change)
                    os.write(writer, b"x")
            time.sleep(60)
        finally:
            os._exit(1)
    os.close(writer)
    said = os.read(reader, 1)
    assert said == b"o"
    time.sleep(after)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    while more := os.read(reader, 1 << 16):
        said += more
    os.close(reader)
    return min(len(said) - 1, len(planned) - 1)
