"""An index on a GPU, or on several."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Any

import numpy as np
import torch

from annvq.arguments import as_choice, as_count
from annvq.codebooks.accelerator import accelerated_by
from annvq.errors import ParameterError, StateError
from annvq.gpu.accelerator import GpuAccelerator
from annvq.gpu.device import resolve
from annvq.gpu.moving import Kept, moved
from annvq.gpu.queries import accepted_tensor
from annvq.gpu.rangesearch import range_search
from annvq.gpu.resident import Resident
from annvq.gpu.search import Search
from annvq.hits import Hits
from annvq.index.index import Index, settled_search
from annvq.index.search.explain import Trace
from annvq.index.search.params import SearchParams, checked
from annvq.index.search.stages import answer_zero_queries, least_rows
from annvq.index.search.view import View
from annvq.index.versions.commit import Version
from annvq.index.versions.versioned import VersionedRows
from annvq.kernels import threads as pool

SPLITS = ("replicas", "lists")
_DLPACK_CUDA = 2  # DLPack's number of this kind of device
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
        self._accelerator = GpuAccelerator(self._named[0])
        self._lock = Lock()
        self._groups: Groups | None = None if earlier is None else earlier._groups
        self._kept: list[Kept] = []  # where moving failed, what was there before
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

    def over(self, rows: VersionedRows) -> GpuIndex:
        """Return an index over other rows, on the same devices; codes that lie there already are not copied again."""
        return GpuIndex(rows, self._named, self._budget, self._split, self)

    def close(self) -> None:
        """Release the memory of devices, and what `Index.close` releases."""
        super().close()
        with self._lock:
            self._groups, self._kept = None, []
        self._accelerator.release()

    def __reduce__(self) -> tuple:
        """Pickle as an index on the CPU: where it arrives, there may be no such device."""
        return self.to("cpu").__reduce__()

    def _insert(self, *given: Any, **options: Any) -> None:
        """Do what `add` and `upsert` do; vectors are coded on the (first) device."""
        with accelerated_by(self._accelerator):
            super()._insert(*given, **options)

    def search(
        self,
        queries: Any,
        k: int = 10,
        *,
        params: SearchParams | None = None,
        nprobe: int | None = None,
        rerank: int | None = None,
        filter: Any = None,
        offset: int = 0,
        threads: int | None = None,
        columns: Any = None,
        explain: bool = False,
    ) -> Hits:
        """Do what `annvq.Index.search` does, with the same options.

        Queries may also lie on the device: a torch tensor, or anything with ``__dlpack__``, such as an array of CuPy.
        They are not copied to the host, and ids (if these are integers) and scores of the hits are tensors on the
        device. This is for one device; options that are about the host (columns, explain) take queries of the host.
        """
        if not self._is_there(queries):
            return super().search(
                queries, k, params=params, nprobe=nprobe, rerank=rerank, filter=filter, offset=offset, threads=threads,
                columns=columns, explain=explain,
            )  # fmt: skip
        if columns is not None or explain or len(self._devices) > 1:
            raise ParameterError("tensors as queries: no columns, no explain, and one device; pass an array of NumPy")
        pool.resolve(threads)
        return self._search_there(queries, k, params, nprobe, rerank, filter, offset)

    def _is_there(self, queries: Any) -> bool:
        """Return whether queries are a tensor on the device."""
        if isinstance(queries, np.ndarray) or not hasattr(queries, "__dlpack_device__"):
            return False
        if self._devices[0].type == "cpu":
            return isinstance(queries, torch.Tensor)
        kind, number = queries.__dlpack_device__()
        return int(kind) == _DLPACK_CUDA and number == self._devices[0].index

    def _search_there(
        self, queries: Any, k: int, params: SearchParams | None, nprobe: int | None, rerank: int | None, filter: Any,
        offset: int,
    ) -> Hits:  # fmt: skip
        """Search with queries that are a tensor on the device."""
        now = self.rows.current
        view = now.view if filter is None else now.narrowed(filter)
        part = self._on_devices(now)[0][0]
        matrix = accepted_tensor(queries, now.trained, part.device)
        default = now.depth if params is None else checked(params)
        k, offset, found, depth = settled_search(now, view, k, offset, nprobe, rerank, default)
        scores, rows = Search([part], view, found, depth).run(matrix)
        if now.trained.zero != "error" and bool((zero := ~matrix.any(dim=1)).any()):
            scores[zero], rows[zero] = 0.0, torch.from_numpy(least_rows(view.snapshot, found)).to(part.device)
        missing = (0, k - max(0, found - offset))
        scores = torch.nn.functional.pad(scores[:, offset:], missing, value=-torch.inf)
        rows = torch.nn.functional.pad(rows[:, offset:], missing, value=-1)
        if view.snapshot.segments and view.snapshot.segments[0].ids.kind == "int":
            ids = torch.where(rows < 0, rows, part.keys[rows.clamp(min=0)])
        else:
            ids = view.snapshot.take_ids(rows.cpu().numpy())
        hits = Hits(ids, scores)
        hits.metric = now.trained.metric
        return hits

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
                if held is not None:
                    self._kept = [Kept(part) for group in held for part in group]
                self._groups = held = None  # so that what is not taken over is released before anything is copied
                self._groups = held = self._moved(now, self._kept)
                self._kept = []
            return held

    def _moved(self, now: Version, kept: list[Kept]) -> Groups:
        count = len(self._devices)
        by_lists = self._split == "lists" and count > 1
        parts = [
            moved(now.trained, now.snapshot, device, self._budget, own, (i, count) if by_lists else (0, 1))
            for i, (device, own) in enumerate(zip(self._devices, kept or [None] * count, strict=True))
        ]
        return [parts] if by_lists else [[part] for part in parts]
