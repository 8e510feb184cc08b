"""Trial: files of every kind of index hold something else under right checksums; what `verify` accepts is usable."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import hostile_indexes
import numpy as np
from limits import limit_memory

_MOST_MEMORY = 1 << 30  # beyond what the process holds


def trial(rng: np.random.Generator, folder: Path) -> Counter:
    """Run one trial; return counts of what was done."""
    kind = str(rng.choice(hostile_indexes.KINDS))
    hostile_indexes.save(kind, folder / "saved")
    limit_memory(_MOST_MEMORY)
    seeds = rng.integers(1 << 62, size=20).tolist()
    faults = [fault for seed in seeds for fault in hostile_indexes.attempt(kind, folder / "saved", seed, print)]
    assert not faults, "\n".join(faults)
    return Counter(hostile=len(seeds))
