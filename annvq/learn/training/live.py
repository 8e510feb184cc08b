"""The engine's own search over the codes as they are being learned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from annvq.index.index import Index
from annvq.index.trained import Trained
from annvq.index.versions.versioned import VersionedRows


class LiveIndex:
    """An index of documents' codes whose codebooks, centroids and rotation change while the codes stay.

    Parameters
    ----------
    trained, labels, codes
        The parts, and every document's list (n,) int64 and codes (n, M) uint8.
    nprobe
        Number of lists that a search scans.
    device
        Where it is searched: "cpu", or a GPU, where the codes stay while tables change.

    """

    def __init__(
        self, trained: Trained, labels: np.ndarray, codes: np.ndarray, nprobe: int, device: str = "cpu"
    ) -> None:
        self.nprobe, self._device = nprobe, device
        self.recode(trained, labels, codes)

    def recode(self, trained: Trained, labels: np.ndarray, codes: np.ndarray) -> None:
        """Replace the codes."""
        rows = VersionedRows.from_codes(trained, labels, {"codes": codes}, nprobe=self.nprobe)
        self._index = Index(rows).to(self._device)

    def update(self, trained: Trained) -> None:
        """Search with these parts from now on: tables change, codes are not touched."""
        self._index = self._index.over(VersionedRows(replace(self._index.rows.current, trained=trained)))

    def search(self, queries: np.ndarray, k: int, threads: int) -> np.ndarray:
        """Return the rows (nq, k) int64 of the best documents, best first, -1 if there are no more."""
        return self._index.search(queries, k=k, threads=threads).ids
