"""The engine's own search over the codes as they are being learned."""

from __future__ import annotations

import numpy as np

from annvq.index.index import Index, next_id
from annvq.index.rows.ids import IdColumn, as_ids
from annvq.index.rows.segment import Segment
from annvq.index.rows.snapshot import Snapshot
from annvq.index.search.depth import Depth
from annvq.index.trained import Trained
from annvq.index.versions.commit import Version
from annvq.index.versions.writer import make_segment


class LiveIndex:
    """An index of documents' codes whose codebooks, centroids and rotation change while the codes stay.

    Parameters
    ----------
    trained, labels, codes
        The parts, and every document's list (n,) int64 and codes (n, M) uint8.
    nprobe
        Lists that a search looks into.

    """

    def __init__(self, trained: Trained, labels: np.ndarray, codes: np.ndarray, nprobe: int) -> None:
        self.nprobe = nprobe
        self.recode(trained, labels, codes)

    def recode(self, trained: Trained, labels: np.ndarray, codes: np.ndarray) -> None:
        """Take other codes."""
        rows = as_ids(None, len(labels), 0)
        self._segment = segment_of(trained, labels, codes, rows)
        self.update(trained)

    def update(self, trained: Trained) -> None:
        """Search with these parts from now on: tables change, codes are not touched."""
        self._index = index_of(trained, self._segment, self.nprobe)

    def search(self, queries: np.ndarray, k: int, threads: int) -> np.ndarray:
        """Return the rows (nq, k) int64 of the best documents, best first, -1 where there is none."""
        return self._index.search(queries, k=k, threads=threads).ids


def segment_of(trained: Trained, labels: np.ndarray, codes: np.ndarray, ids: IdColumn) -> Segment:
    """Pack documents' codes into a segment."""
    positions = np.arange(len(labels), dtype=np.uint32)
    return make_segment(trained, labels, {"codes": codes}, ids, positions, None)


def index_of(trained: Trained, segment: Segment, nprobe: int) -> Index:
    """Return an ordinary index of a segment."""
    return Index(Version(trained, Snapshot.of([segment]), Depth(nprobe, 0), next_id(segment.ids, 0)))
