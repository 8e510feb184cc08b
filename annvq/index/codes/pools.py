"""The pools of a block of queries: the best rows found so far, per query."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from annvq.kernels.scan import topk


@dataclass
class Pools:
    """Candidates of ``nq`` queries, see `annvq.kernels.scan.topk`.

    ``scores (nq, capacity) float32``, ``rows (nq, capacity) int64`` (index-wide row numbers),
    ``counts (nq,) int64``, ``thresholds (nq,) float32``; ``keep`` is the number wanted in the end.
    """

    scores: np.ndarray
    rows: np.ndarray
    counts: np.ndarray
    thresholds: np.ndarray
    keep: int

    @classmethod
    def empty(cls, nq: int, keep: int) -> Pools:
        """Make empty pools, each of which keeps the best ``keep`` rows."""
        scores, rows, counts, thresholds = topk.empty_pools(nq, topk.capacity_for(keep))
        return cls(scores, rows, counts, thresholds, keep)

    @classmethod
    def of(cls, rows: np.ndarray, nq: int) -> Pools:
        """Make the pools of ``nq`` queries that all hold the same rows (m,) int64, whose scores are yet to be found."""
        m = len(rows)
        counts, thresholds = np.full(nq, m, np.int64), np.zeros(nq, np.float32)
        return cls(np.zeros((nq, m), np.float32), np.tile(rows, (nq, 1)), counts, thresholds, m)

    @classmethod
    def merged(cls, parts: list[Pools], keys: np.ndarray) -> Pools:
        """Join the pools that several threads filled for the same queries."""
        if len(parts) == 1:
            return parts[0]
        for part in parts:
            part.cut(keys)
        keep = parts[0].keep
        scores = np.concatenate([part.scores[:, :keep] for part in parts], axis=1)
        rows = np.concatenate([part.rows[:, :keep] for part in parts], axis=1)
        filled = np.concatenate([np.arange(keep) < part.counts[:, None] for part in parts], axis=1)
        front = np.argsort(~filled, axis=1, kind="stable")  # the filled places first
        return cls(
            np.take_along_axis(scores, front, axis=1),
            np.take_along_axis(rows, front, axis=1),
            filled.sum(axis=1).astype(np.int64),
            parts[0].thresholds,
            keep,
        )

    @cached_property
    def candidates(self) -> topk.Candidates:
        """The pools as kernels take them."""
        return topk.Candidates(self.scores, self.rows, self.counts, self.thresholds)

    def cut(self, keys: np.ndarray) -> None:
        """Drop all but the best ``keep`` rows of every pool; ``keys (n,) int64`` break ties."""
        topk.cut_pools(self.candidates, self.keep, keys)

    def drop_repeats(self, keep: int) -> None:
        """Keep every row only once, and set the number of wanted rows to ``keep``."""
        topk.drop_repeats(self.candidates)
        self.keep = keep

    def best(self, k: int, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the best k scores (nq, k) float32 and rows (nq, k) int64, sorted; missing ones are -inf and -1."""
        return topk.best(self.candidates, k, keys)
