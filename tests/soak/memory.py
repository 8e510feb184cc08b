"""Trial: memory ends at a random moment; an error says so, the index is as before or as after, and goes on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from changes import METRICS, agrees, built, names
from limits import limit_memory
from model import EVERY, perform

import annvq
from annvq.errors import AnnvqError

_MOST = 24 << 20  # bytes beyond what the process holds


def trial(rng: np.random.Generator, folder: Path) -> Counter:
    """Run one trial; return counts of what was done."""
    path = folder / "index"
    index, model, source = built(rng, str(rng.choice(names())), str(rng.choice(METRICS)), path)
    queries = source.queries(9)
    annvq.warmup(index)  # LLVM ends the process where memory ends while it loads a kernel
    agrees(index, model, queries, 9)
    counts: Counter = Counter()
    for _ in range(10):
        change, before, after = source.change(model), model.copy(), model.copy()
        after.apply(change)
        limit_memory(int(rng.integers(0, _MOST)))
        try:
            perform(index, change)
            index.search(queries, 9, nprobe=EVERY, rerank=EVERY)
        except (MemoryError, AnnvqError):
            counts["refusals"] += 1
        finally:
            limit_memory(None)
        held = set(index.search(queries[:1], len(after.rows) + len(before.rows) + 1).ids[0].tolist()) - {-1, None}
        model = after if held == set(after.rows) else before
        agrees(index, model, queries, 9)
        with annvq.open(path) as reader:
            reader.verify()
            agrees(reader, model, queries, 9)
        counts["changes"] += 1
    index.close()
    return counts
