"""An index of documents on a GPU, which finds the same documents with the same scores."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.arguments import as_count
from annvq.codebooks import ProductCodebook, RaBitQCodebook
from annvq.errors import DeviceError, DeviceMemoryError, StateError
from annvq.gpu.codes.kinds import refuse_graphs
from annvq.gpu.device import resolve
from annvq.gpu.documents import tokens as there
from annvq.gpu.documents.encodings import encoder_on
from annvq.gpu.documents.rabitq_tokens import RaBitQTokens
from annvq.gpu.documents.resident import ResidentDocuments
from annvq.gpu.documents.tokens import LevelsThere, ResidentTokens
from annvq.gpu.memory import enough_memory, free_bytes
from annvq.gpu.moving import Kept, moved
from annvq.gpu.resident import Resident
from annvq.index.rows.segment import Segment
from annvq.index.rows.snapshot import Snapshot
from annvq.index.search.params import SearchParams
from annvq.index.search.view import View
from annvq.index.versions.commit import Version
from annvq.index.versions.versioned import VersionedRows
from annvq.kernels.scan import scan4
from annvq.multivector.candidates import Finder, narrowed_to
from annvq.multivector.index import MultiVectorIndex
from annvq.multivector.ragged import Ragged, concatenated
from annvq.multivector.tokens import CODES, LABELS, OFFSETS, RABITQ, ROWS, Prepared, TokenStore

if TYPE_CHECKING:
    import torch

_WAYS = ("encoding", "all")  # in which candidates can be found on a device


@dataclass
class GpuFinder(Finder):
    """Finds candidates on a device, by encodings or among all documents, and scores them there."""

    documents: ResidentDocuments | None = None

    def of_all(self) -> GpuFinder:
        """Return what takes all documents for candidates."""
        return replace(self, by="all")

    def search(
        self, view: View, queries: Ragged, k: int, depth: SearchParams, threads: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return scores and rows of the best k documents of every query; nothing goes to the host in between."""
        documents = self._documents
        with self._working(len(queries)):
            asked = documents.asked(queries.vectors, queries.offsets)
            if self.by == "all":
                return documents.best(asked, documents.every(view.snapshot), k, None)
            places = documents.by_encodings(view, asked, queries.offsets, replace(depth, rerank=max(depth.rerank, k)))
            left = narrowed_to(k, places.shape[1]) if self.tokens.spec.kind == "pq" else None
            return documents.best(asked, places, k, left)

    def find(
        self, view: View, queries: Ragged, prepared: list[Prepared], depth: SearchParams, least: int, threads: int
    ) -> list[np.ndarray]:
        """Return the rows of every query's candidates, best first, int64."""
        if self.by == "all":
            return super().find(view, queries, prepared, depth, least, threads)
        documents = self._documents
        with self._working(len(queries)):
            asked = documents.asked(queries.vectors, queries.offsets)
            return list(documents.by_encodings(view, asked, queries.offsets, depth).cpu().numpy())

    def rescored(
        self,
        snapshot: Snapshot,
        prepared: list[Prepared],
        found: list[np.ndarray],
        k: int,
        threads: int,
        *,
        narrow: bool,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the best k of every query's candidates, of which every query has as many."""
        queries = concatenated([Ragged(one.query, np.array([0, len(one.query)])) for one in prepared])
        documents, width = self._documents, len(found[0]) if found else 0
        left = narrowed_to(k, width) if narrow else None
        with self._working(len(queries)):
            asked = documents.asked(queries.vectors, queries.offsets)
            return documents.best(asked, there.rows_there(found, documents.rows.device), k, left)

    def _working(self, count: int) -> AbstractContextManager[None]:
        """Return a context for searches of so many queries, in which memory that runs out is a DeviceMemoryError."""
        return enough_memory(self._documents.rows.device, f"{count:,} queries were searched at once")

    @property
    def _documents(self) -> ResidentDocuments:
        assert self.documents is not None
        return self.documents


class KeptDocuments:
    """What of an earlier version's documents lies on a device, as `annvq.gpu.moving.Kept` is of encodings."""

    def __init__(self, documents: ResidentDocuments) -> None:
        self.rows, self.encoder, self.tokens = Kept(documents.rows), documents.encoder, documents.tokens
        self.bytes, self.on_host = documents.bytes, documents.on_host
        pairs = zip(documents.rows.segments, documents.sections, strict=True)
        self._sections = {id(one.host.ids): sections for one, sections in pairs}

    def release(self, now: Version, on_host: bool) -> None:
        """Release vectors that are not of this version, and all if they move from the device or to it."""
        needed = {id(segment.ids) for segment in now.snapshot.segments}
        if self.rows.trained is not now.trained or on_host != self.on_host:
            needed = set()
        self._sections = {key: sections for key, sections in self._sections.items() if key in needed}
        self.on_host = on_host

    def of(self, segment: Segment) -> dict[str, torch.Tensor] | None:
        """Return what there is of a segment."""
        return self._sections.get(id(segment.ids))


class GpuMultiVectorIndex(MultiVectorIndex):
    """An index of documents whose codes lie on a GPU, which `MultiVectorIndex.to` returns.

    Documents stay on the host as well; changes are made there, and what is new is copied to the GPU by the next search.
    """

    def __init__(
        self,
        rows: VersionedRows,
        device: Any,
        device_bytes: int | None = None,
        earlier: ResidentDocuments | None = None,
    ) -> None:
        """Move documents to a device, as `MultiVectorIndex.to` does; of ``earlier``, what is the same is not copied."""
        super().__init__(rows)
        self._budget = None if device_bytes is None else as_count("device_bytes", device_bytes)
        self._named, self._device, self._lock = str(device), resolve(device), Lock()
        self._documents = earlier
        self._kept: KeptDocuments | None = None  # where moving failed, what was there before
        self._searching()

    @property
    def device(self) -> str:
        """The device, such as "cuda:0"."""
        return self._named if self._device.type == "cpu" else str(self._device)

    def __repr__(self) -> str:
        if self.rows.closed:
            return super().__repr__()
        return f"{super().__repr__()[:-1]}, device={self.device!r})"

    def stats(self) -> dict[str, Any]:
        """Return figures about the index, with its device, and the bytes that documents take there."""
        shown, (_, finder) = super().stats(), self._searching()
        return {**shown, "device": self.device, "device_bytes": finder._documents.bytes}

    def over(self, rows: VersionedRows) -> GpuMultiVectorIndex:
        """Return an index over other rows, on the same device."""
        return GpuMultiVectorIndex(rows, self._named, self._budget, self._documents)

    def close(self) -> None:
        """Release the memory of the device, and what `MultiVectorIndex.close` releases."""
        super().close()
        with self._lock:
            self._documents = self._kept = None

    def __reduce__(self) -> tuple:
        """Pickle as an index on the CPU: where it arrives, there may be no such device."""
        return self.to("cpu").__reduce__()

    def _searching(self) -> tuple[Version, GpuFinder]:
        """Return a version, and the finder of its candidates on the device, after copying what does not lie there."""
        now, finder = self._current()
        with self._lock:
            if self.rows.closed:
                raise StateError("the index is closed")
            held = self._documents
            if held is None or held.rows.snapshot is not now.snapshot or held.rows.trained is not now.trained:
                _check(finder)
                if held is not None:
                    self._kept = KeptDocuments(held)
                self._documents = held = None  # so that what is not taken over is released before anything is copied
                self._documents = held = self._moved(now, finder, self._kept)
                self._kept = None
        return now, GpuFinder(finder.trained, finder.encoder, finder.by, documents=held)

    def _moved(self, now: Version, finder: Finder, kept: KeptDocuments | None) -> ResidentDocuments:
        """Copy what does not lie on the device yet; documents' vectors stay on the host where they do not fit."""
        segments = now.snapshot.segments
        free = free_bytes(self._device) + (0 if kept is None else kept.bytes)
        if kept is not None:
            kept.release(now, kept.on_host)
        budget = free if self._budget is None else min(self._budget, free)
        size = sum(
            int(segment.arrays[OFFSETS][-1] * finder.tokens.bytes_per_token + 8 * segment.n) for segment in segments
        )
        own = None if kept is None else kept.rows
        try:
            rows, on_host = self._encodings(now, budget - size, own), False
        except DeviceMemoryError:
            if isinstance(finder.tokens.codebook, RaBitQCodebook):  # whose codes no kernel reads from the host
                raise
            rows, on_host = self._encodings(now, budget, own), True
        if kept is not None:
            kept.release(now, on_host)
        with enough_memory(self._device, "documents were moved there"):
            if kept is not None and kept.rows.trained is now.trained:
                tokens, encoder = kept.tokens, kept.encoder
            else:
                tokens, encoder = _tokens(finder.tokens, self._device), encoder_on(finder.encoder, self._device)
            sections = [
                (None if kept is None else kept.of(segment))
                or tokens.upload(_unpacked(finder.tokens, segment), on_host=on_host)
                for segment in segments
            ]
        return ResidentDocuments(rows, encoder, tokens, sections, on_host)

    def _encodings(self, now: Version, budget: int, kept: Kept | None) -> Resident:
        if budget <= 0:
            raise DeviceMemoryError(f"{self._device}: the documents' vectors leave no room for their encodings")
        return moved(now.trained, now.snapshot, self._device, budget, kept)


def _check(finder: Finder) -> None:
    """Raise DeviceError if documents are searched in a way that no device knows."""
    refuse_graphs(finder.trained.recipe)
    if finder.by not in _WAYS:
        raise DeviceError(
            f"recipe {finder.trained.recipe.name!r}: candidates by {finder.by} are found on the CPU only; "
            "recipes of encodings, such as 'muvera', and 'chamfer-exact' can be moved to a GPU"
        )


def _tokens(store: TokenStore, device: Any) -> ResidentTokens | RaBitQTokens:
    levels, codebook = None, store.codebook
    if isinstance(codebook, ProductCodebook):
        made = store.levels
        levels = LevelsThere(made.by_entry, made.order, made.steps, made.middles)
    if isinstance(codebook, RaBitQCodebook):
        assert store.centroids is not None
        return RaBitQTokens(codebook, store.centroids, device)
    return ResidentTokens(store.dim, codebook, store.centroids, levels, device)


def _unpacked(store: TokenStore, segment: Segment) -> dict[str, np.ndarray]:
    """Return the vectors of a segment's documents under the names of `annvq.gpu.documents.tokens`."""
    arrays = segment.arrays
    offsets = arrays[OFFSETS]
    if isinstance(store.codebook, RaBitQCodebook):
        return {there.OFFSETS: offsets, **{name: arrays[f"tokens.{name}"] for name in RABITQ}}
    if not isinstance(store.codebook, ProductCodebook):
        return {there.OFFSETS: offsets, there.ROWS: arrays[ROWS]}
    total = int(offsets[-1])
    codes = scan4.unpack(arrays[CODES], np.array([0, total]), store.codebook.M, np.arange(total))
    return {there.OFFSETS: offsets, there.CODES: codes, there.LABELS: arrays[LABELS]}
