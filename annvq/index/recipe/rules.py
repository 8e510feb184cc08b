"""The rules that put numbers for "auto": what fits n vectors, and codes of so many bits.

The rules are starting points, `Index.tune` measures. They assume that the 10 nearest neighbours of
queries like the vectors are wanted.
"""

from __future__ import annotations

import math

# Below this, lists save less than choosing them costs.
LEAST_N_FOR_LISTS = 1000
# Lists shorter than a block of the scan (32 vectors) are padding, and centroids of few points are noise.
LEAST_LIST_LENGTH = 30
# Fewer cost questions against passages more quality than the codes do (the README's judged collections).
LEAST_ROWS_SCANNED = 16_384


def auto_nlist(n: int) -> int | None:
    """Return the number of lists for ``n`` vectors: 2 sqrt(n), at most n / 30; None below n = 1000.

    Choosing lists costs nlist products a query and scanning n / nlist codes a list, so that the least
    sum lies at a multiple of sqrt(n); codes are cheaper to scan than centroids, hence not below it.
    """
    if n < LEAST_N_FOR_LISTS:
        return None
    return min(round(2 * math.sqrt(n)), n // LEAST_LIST_LENGTH)


def auto_nprobe(nlist: int, n: int) -> int:
    """Return the lists to scan for ``n`` vectors: 2 sqrt(nlist), at most all, at least 16,384 vectors' worth.

    The share of lists that hold the neighbours falls as lists get more, their number grows. Questions lie
    further from passages than passages from each other, and some thousand codes are scanned in no time.
    """
    return min(nlist, max(round(2 * math.sqrt(nlist)), math.ceil(LEAST_ROWS_SCANNED * nlist / max(1, n))))


def auto_rerank(code_bits_per_dimension: float) -> int:
    """Return the candidates to rescore: 200 / (bits a dimension) rounded up, from 40 to 1000.

    The coarser the codes, the further down the scan's order true neighbours lie.
    """
    return min(1000, max(40, math.ceil(200 / code_bits_per_dimension)))
