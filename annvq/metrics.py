"""The ways to compare two vectors, by name."""

from __future__ import annotations

import numpy as np

METRICS = ("ip", "l2", "cosine")  # of vectors of numbers: inner product, squared Euclidean distance, cosine
INDEX_METRICS = (*METRICS, "hamming")  # of an index; the last one is of packed bits
ZEROS = ("error", "score-0")  # what a cosine index makes of vectors without direction
CODE_METRICS = ("ip", "l2")  # of codes: cosine is the inner product of vectors of length one

_ALIKE = 0.04  # deviation of lengths, of their mean


def equally_long(lengths: np.ndarray) -> bool:
    """Return whether vectors of these lengths (n,) differ so little that "ip" ranks them nearly as "cosine" does.

    Zero vectors do not count: their score is 0 under both.
    """
    some = lengths[lengths > 0].astype(np.float64)
    return len(some) == 0 or bool(np.std(some) <= _ALIKE * np.mean(some))
