"""An index on a GPU."""

from __future__ import annotations

from threading import Lock
from typing import Any

import numpy as np
import torch

from annvq.arguments import as_count
from annvq.gpu import search as on_device
from annvq.gpu.device import resolve
from annvq.gpu.resident import Resident, moved
from annvq.index.index import Index
from annvq.index.search.explain import Trace
from annvq.index.search.params import SearchParams
from annvq.index.search.view import View
from annvq.index.versions.commit import Version
from annvq.index.versions.versioned import VersionedRows


class GpuIndex(Index):
    """An index whose codes lie on a GPU, which `annvq.Index.to` and `annvq.open` return.

    Everything that an index offers works, and hits and scores are the same to the bit. Rows stay on the host as well;
    changes are made there, and what is new is copied to the GPU by the next search.
    """

    _in_one_call = False

    def __init__(self, rows: VersionedRows, device: Any, device_bytes: int | None = None) -> None:
        super().__init__(rows)
        self._budget = None if device_bytes is None else as_count("device_bytes", device_bytes)
        self._named, self._device = str(device), resolve(device)
        self._lock = Lock()
        self._resident = self._moved(rows.current, None)

    @property
    def device(self) -> str:
        """The device, such as "cuda:0"."""
        return self._named if self._device.type == "cpu" else str(self._device)

    def __repr__(self) -> str:
        if self.rows.closed:
            return "Index(closed)"
        return f"{super().__repr__()[:-1]}, device={self.device!r})"

    def stats(self) -> dict[str, Any]:
        """Return figures about the index, with its device, and the bytes that its rows take there."""
        resident = self._on_device(self.rows.current)
        where = {"name": self.device, "bytes": resident.bytes, "refine rows": "host" if resident.refine_on_host else "device"}
        return {**super().stats(), "device": where}

    def copy(self) -> GpuIndex:
        """Return an index in memory that holds the same rows, on the same device, and changes by itself."""
        return GpuIndex(self.rows.copy(), self._named, self._budget)

    def close(self) -> None:
        """Release the device's memory, and what `Index.close` releases."""
        super().close()
        with self._lock:
            self._resident = None

    def __reduce__(self) -> tuple:
        """Pickle as an index on the CPU: where it arrives, there may be no such device."""
        return self.to("cpu").__reduce__()

    def _search(
        self, now: Version, view: View, queries: np.ndarray, k: int, depth: SearchParams, threads: int,
        traces: list[Trace] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        resident = self._on_device(now)
        there = torch.from_numpy(np.array(queries)).to(self._device)
        scores, rows = on_device.search(resident, view, there, k, depth)
        return scores.cpu().numpy(), rows.cpu().numpy()

    def _on_device(self, now: Version) -> Resident:
        """Return what lies on the device of a version, after copying what does not lie there yet."""
        with self._lock:
            if self._resident is None or self._resident.snapshot is not now.snapshot:
                self._resident = self._moved(now, self._resident)
            return self._resident

    def _moved(self, now: Version, earlier: Resident | None) -> Resident:
        return moved(now.trained, now.snapshot, self._device, self._budget, earlier)
