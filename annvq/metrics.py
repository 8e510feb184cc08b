"""The ways to compare two vectors, by name."""

from __future__ import annotations

METRICS = ("ip", "l2", "cosine")  # of vectors of numbers: inner product, squared Euclidean distance, cosine
INDEX_METRICS = (*METRICS, "hamming")  # of an index; the last one is of packed bits
ZEROS = ("error", "score-0")  # what a cosine index makes of vectors without direction
CODE_METRICS = ("ip", "l2")  # of codes: cosine is the inner product of vectors of length one
