"""An index on a GPU, or on several."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Any

import numpy as np
import torch

from annvq.arguments import as_choice, as_count
from annvq.errors import ParameterError, StateError
from annvq.gpu.device import resolve
from annvq.gpu.rangesearch import range_search
from annvq.gpu.resident import Resident, moved
from annvq.gpu.search import Search
from annvq.index.index import Index
from annvq.index.search.explain import Trace
from annvq.index.search.params import SearchParams
from annvq.index.search.stages import answer_zero_queries
from annvq.index.search.view import View
from annvq.index.versions.commit import Version
from annvq.index.versions.versioned import VersionedRows
from annvq.kernels import threads as pool

SPLITS = ("replicas", "lists")
Groups = list[list[Resident]]  # each group holds the whole index, and its parts some of the lists


class GpuIndex(Index):
    """An index whose codes lie on a GPU, or on several, which `annvq.Index.to` and `annvq.open` return.

    Everything that an index offers works, and hits and scores are the same to the bit. Rows stay on the host as well;
    changes are made there, and what is new is copied to the GPU by the next search. Searches run in torch's current
    stream of the thread that calls them.
    """

    _in_one_call = False

    def __init__(
        self,
        rows: VersionedRows,
        device: Any,
        device_bytes: int | None = None,
        split: str = SPLITS[0],
        earlier: GpuIndex | None = None,
    ) -> None:
        """Move rows to devices, as `annvq.Index.to` does; what ``earlier`` has there of the same rows is not copied."""
        super().__init__(rows)
        given = list(device) if isinstance(device, Sequence) and not isinstance(device, str) else [device]
        if not given:
            raise ParameterError("device: an empty list, expected one device or more")
        self._budget = None if device_bytes is None else as_count("device_bytes", device_bytes)
        self._split = as_choice("split", split, SPLITS)
        self._named, self._devices = [str(one) for one in given], [resolve(one) for one in given]
        self._lock = Lock()
        self._groups: Groups | None = None if earlier is None else earlier._groups
        self._on_devices(rows.current)

    @property
    def device(self) -> str:
        """The device, such as "cuda:0"; of several, their names with commas."""
        pairs = zip(self._named, self._devices, strict=True)
        return ",".join(name if device.type == "cpu" else str(device) for name, device in pairs)

    def __repr__(self) -> str:
        if self.rows.closed:
            return super().__repr__()
        return f"{super().__repr__()[:-1]}, device={self.device!r})"

    def stats(self) -> dict[str, Any]:
        """Return figures about the index, with its devices, and the bytes that rows take on each."""
        shown = super().stats()
        parts = [part for group in self._on_devices(self.rows.current) for part in group]
        return {
            **shown,
            "device": self.device,
            "device_bytes": [part.bytes for part in parts],
            "refine_rows": "host" if any(part.refine_on_host for part in parts) else "device",
        }

    def copy(self) -> GpuIndex:
        """Return an index in memory that holds the same rows, on the same devices, and changes by itself."""
        return GpuIndex(self.rows.copy(), self._named, self._budget, self._split)

    def close(self) -> None:
        """Release the memory of devices, and what `Index.close` releases."""
        super().close()
        with self._lock:
            self._groups = None

    def __reduce__(self) -> tuple:
        """Pickle as an index on the CPU: where it arrives, there may be no such device."""
        return self.to("cpu").__reduce__()

    def _search(
        self, now: Version, view: View, queries: np.ndarray, k: int, depth: SearchParams, threads: int,
        traces: list[Trace] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        groups = self._on_devices(now)
        blocks = np.array_split(queries, len(groups)) if len(groups) > 1 and traces is None else [queries]

        def run(number: int) -> tuple[np.ndarray, np.ndarray]:
            parts = groups[number]
            trace = None
            if traces is not None:
                traces.append(trace := Trace())
            there = torch.from_numpy(np.array(blocks[number])).to(parts[0].device)
            scores, rows = Search(parts, view, k, depth).run(there, trace)
            return scores.cpu().numpy(), rows.cpu().numpy()

        found = [run(0)] if len(blocks) == 1 else pool.run(run, range(len(blocks)), len(blocks))
        scores, rows = (np.concatenate(parts) for parts in zip(*found, strict=True))
        if now.trained.zero != "error":
            answer_zero_queries(view.snapshot, queries, scores, rows)
        return scores, rows

    def _range_search(
        self, now: Version, view: View, query: np.ndarray, least: float, nprobe: int
    ) -> tuple[np.ndarray, np.ndarray]:
        parts = self._on_devices(now)[0]
        return range_search(parts, view, torch.from_numpy(np.array(query)).to(parts[0].device), least, nprobe)

    def _on_devices(self, now: Version) -> Groups:
        """Return what lies on the devices of a version, after copying what does not lie there yet."""
        with self._lock:
            if self.rows.closed:
                raise StateError("the index is closed")
            held = self._groups
            if held is None or held[0][0].snapshot is not now.snapshot or held[0][0].trained is not now.trained:
                self._groups = held = self._moved(now, held)
            return held

    def _moved(self, now: Version, held: Groups | None) -> Groups:
        count = len(self._devices)
        by_lists = self._split == "lists" and count > 1
        earlier = [None] * count if held is None else [part for group in held for part in group]
        parts = [
            moved(now.trained, now.snapshot, device, self._budget, earlier[i], (i, count) if by_lists else (0, 1))
            for i, device in enumerate(self._devices)
        ]
        return [parts] if by_lists else [[part] for part in parts]
