"""How kernels put candidates into pools (`annvq.gpu.pool`)."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _append(candidates, wanted, queries, entries, counts, capacity):
    """Append candidates to the pools of some queries.

    Parameters
    ----------
    candidates
        (Q, R) int64, packed.
    wanted
        (Q, R) bool: those that reach the threshold of their query, and may be returned.
    queries
        (Q,) int64.
    entries, counts, capacity
        Of the pools. Counts go on beyond the capacity, which says that a pool has overflowed.

    """
    found = tl.sum(wanted.to(tl.int32), axis=1)
    if tl.max(found, axis=0) > 0:
        starts = tl.atomic_add(counts + queries, found, mask=found > 0, sem="relaxed")
        places = starts[:, None] + tl.cumsum(wanted.to(tl.int32), axis=1) - 1
        at = entries + queries[:, None] * capacity + places
        tl.store(at, candidates, mask=wanted & (places < capacity))
