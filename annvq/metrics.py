"""The ways to compare two vectors, by name."""

from __future__ import annotations

METRICS = ("ip", "l2", "cosine")  # of an index: inner product, squared Euclidean distance, cosine of the angle
ZEROS = ("error", "score-0")  # what a cosine index makes of vectors without direction
CODE_METRICS = ("ip", "l2")  # of codes: cosine is the inner product of vectors of length one
