"""Trial: the power fails during changes of an index; the version before is there, or the one after, and works."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from changes import METRICS, agrees, built
from model import content, perform
from storage_faults import PowerLoss
from test_power_loss import files_below, laid_out

import annvq
from annvq.storage.filesystem import LocalFileSystem

RECIPES = ("Flat", "IVF4,PQ2x4fs,Refine(Flat)", "fast")
OPERATIONS = ("create", "write", "sync", "close", "replace", "remove", "make_folder", "sync_folder")
_MOST_STATES = 60  # of the disk, a change


def trial(rng: np.random.Generator, folder: Path) -> Counter:
    """Run one trial; return counts of what was done."""
    root = folder / "disk"
    root.mkdir()
    path = root / "index"
    index, model, source = built(rng, str(rng.choice(RECIPES)), str(rng.choice(METRICS)), path)
    counts: Counter = Counter()
    for _ in range(4):
        change, before = source.change(model), model.copy()
        disk, log = PowerLoss(files_below(root)), []
        with pytest.MonkeyPatch.context() as patch:
            for name in OPERATIONS:
                patch.setattr(LocalFileSystem, name, _recording(name, log))
            perform(index, change)
        model.apply(change)
        index.close()
        now = files_below(root)
        states = []
        for at, operation in enumerate(log):
            disk.apply(*operation)
            states += [(at == len(log) - 1, state) for state in disk.states()]
        for place in rng.permutation(len(states))[:_MOST_STATES]:
            finished, state = states[place]
            laid_out(root, state)
            with annvq.open(path) as found:
                found.verify()
                is_after = content(found) == model.content()
                assert is_after or content(found) == before.content()
                assert is_after or not finished
                agrees(found, model if is_after else before, source.queries(2), 12)
            counts["states"] += 1
        laid_out(root, now)
        index = annvq.open(path, "rw")
        counts["changes"] += 1
    index.close()
    return counts


def _recording(name: str, log: list):
    operation = getattr(LocalFileSystem, name)

    def recorded(self, *args):
        kept = tuple(bytes(arg) if isinstance(arg, memoryview) else arg for arg in args)
        result = operation(self, *args)
        log.append((name, kept, result))
        return result

    return recorded
