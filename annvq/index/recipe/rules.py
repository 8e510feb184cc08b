"""The rules that replace "auto" by numbers, given the number of vectors and the bits of their codes.

The rules are starting points; `Index.tune` measures. They assume that the 10 nearest neighbours are wanted,
of queries that resemble the vectors.
"""

from __future__ import annotations

import math

# Below this number of vectors, lists save less than choosing them costs.
LEAST_N_FOR_LISTS = 1000
# Lists shorter than a block of the scan (32 vectors) are mostly padding, and centroids of few points are noise.
LEAST_LIST_LENGTH = 30
# When questions search passages, fewer rows cost more quality than the codes do (the README's judged collections).
LEAST_ROWS_SCANNED = 16_384


def auto_nlist(n: int) -> int | None:
    """Return the number of lists for ``n`` vectors: 2 sqrt(n), at most n / 30; None below n = 1000.

    Choosing lists costs nlist products per query, and scanning costs n / nlist codes per list, so that the sum is
    least at a multiple of sqrt(n); codes are cheaper to scan than centroids, hence not below it.
    """
    if n < LEAST_N_FOR_LISTS:
        return None
    return min(round(2 * math.sqrt(n)), n // LEAST_LIST_LENGTH)


def auto_nprobe(nlist: int, n: int) -> int:
    """Return the number of lists to scan: 2 sqrt(nlist), at least as many as hold 16,384 of ``n`` vectors, at most all.

    As nlist grows, the share of lists that hold the neighbours falls, but their number grows. Questions lie
    further from passages than passages from each other, and scanning some thousand codes costs little.
    """
    return min(nlist, max(round(2 * math.sqrt(nlist)), math.ceil(LEAST_ROWS_SCANNED * nlist / max(1, n))))


def auto_rerank(code_bits_per_dimension: float) -> int:
    """Return the number of candidates to rescore: 200 / (bits per dimension) rounded up, from 40 to 1000.

    The coarser the codes, the further down the scan's order true neighbours lie.
    """
    return min(1000, max(40, math.ceil(200 / code_bits_per_dimension)))
