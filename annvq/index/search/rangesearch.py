"""All rows within a radius: every allowed row of the probed lists is scored as precisely as possible."""

from __future__ import annotations

import numpy as np

from annvq.index.codes.pools import Pools
from annvq.index.codes.probes import Probes
from annvq.index.rows.snapshot import Snapshot
from annvq.index.search.stages import probe, rescore
from annvq.index.search.view import View


def range_search(view: View, query: np.ndarray, least: float, nprobe: int) -> tuple[np.ndarray, np.ndarray]:
    """Return scores (found,) float32 and rows (found,) int64 of one query's rows that score ``least`` or more.

    ``query`` is (1, d) float32. Scores come from the refine store if there is one, and otherwise from the
    codes, without the rounding of the scan's tables.
    """
    trained, snapshot = view.trained, view.snapshot
    rotated = trained.turn(query)
    probes = probe(trained, rotated, nprobe, 0, snapshot.searchable_per_list)
    rows = np.concatenate([_rows(snapshot, probes), np.empty(0, np.int64)])
    pools = Pools.of(rows, 1)
    rescore(trained, snapshot, query, trained.codes.prepare(rotated, probes), pools)
    if trained.zero != "error" and not query.any():
        pools.scores[:] = 0.0
    with np.errstate(over="ignore"):  # a radius beyond float32 is beyond every score
        found = pools.scores[0] >= np.float32(least)
    scores, rows = pools.scores[0][found], rows[found]
    order = np.lexsort((snapshot.keys[rows], -scores))
    return scores[order], rows[order]


def _rows(snapshot: Snapshot, probes: Probes) -> np.ndarray:
    """Return the index-wide numbers of all allowed rows of the first query's lists."""
    lists = probes.lists[0, : probes.counts[0]]
    parts = []
    for segment in snapshot.segments:
        spans = [np.arange(int(segment.offsets[l]), int(segment.offsets[l + 1])) for l in lists]
        rows = np.concatenate(spans) if spans else np.empty(0, np.int64)
        if len(segment.allow):
            rows = rows[segment.allow[rows] == 1]
        parts.append(rows + segment.base)
    return np.concatenate(parts) if parts else np.empty(0, np.int64)
