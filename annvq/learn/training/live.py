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
        self._index: Index | None = None
        self._index = self._over(VersionedRows.from_codes(trained, labels, {"codes": codes}, nprobe=self.nprobe))

    def update(self, trained: Trained) -> None:
        """Search with these parts from now on: tables change, codes are not touched."""
        assert self._index is not None
        self._index = self._over(VersionedRows(replace(self._index.rows.current, trained=trained)))

    def _over(self, rows: VersionedRows) -> Index:
        if self._device == "cpu":
            return Index(rows)
        from annvq.gpu.index import GpuIndex

        return GpuIndex(rows, self._device, earlier=self._index)

    def search(self, queries: np.ndarray, k: int, threads: int) -> np.ndarray:
        """Return the rows (nq, k) int64 of the best documents, best first, -1 if there are no more."""
        assert self._index is not None
        return self._index.search(queries, k=k, threads=threads).ids
