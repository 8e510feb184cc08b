"""Indexes of annvq and other libraries that search the rows whose number is below a bound, each in its own way."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import pyarrow as pa

import annvq
from annvq.bench.peers.annvq_ import AnnvqPeer
from annvq.bench.peers.faiss_hnsw import FaissHnsw
from annvq.bench.peers.faiss_ivfflat import FaissIvfFlat
from annvq.bench.peers.faiss_ivfpq import FaissIvfPq
from annvq.bench.peers.hnswlib import Hnswlib
from annvq.bench.peers.protocol import Params, Peer, doubling, power_of_two_near
from annvq.bench.peers.usearch import USearch
from annvq.bench.timing import Search

EF_CONSTRUCTION = 100
MOST_FETCHED = 10_000  # results of a search without a filter that are filtered afterwards
_LANCE_THREADS = "LANCE_CPU_THREADS"


class Filtering(Peer, Protocol):
    """An index, built without knowing the filter, over rows that have a number each.

    Attributes
    ----------
    label
        The index's name in tables.
    how
        How a search is filtered, and what is not counted as time of the search.

    """

    label: str
    how: str

    def filtered(self, numbers: np.ndarray, below: int, k: int) -> Iterator[tuple[str, Search]]:
        """Yield names and searches (1, d) -> (1, k) of the rows whose number is below ``below``.

        What a search takes with it is made before it is yielded. Missing rows are -1.
        """
        ...


def engines(n: int, dim: int, numbers: np.ndarray) -> list[Filtering]:
    """Return every index, not built yet; ``numbers`` (n,) are what is filtered by."""
    return [
        Annvq(numbers), IvfFlat(n, dim), IvfPq(n, dim, dim // 2), Hnsw(dim, EF_CONSTRUCTION),
        HnswlibCallback(n, dim, EF_CONSTRUCTION), USearchFetching(dim, "f32", EF_CONSTRUCTION), Lance(n, dim, numbers),
    ]  # fmt: skip


def padded(rows: np.ndarray, k: int) -> np.ndarray:
    """Return the first k of some rows (1, k) int64, filled with -1."""
    found = np.full((1, k), -1, np.int64)
    found[0, : len(rows)] = rows[:k]
    return found


class Annvq(AnnvqPeer):
    """Recipe ``fast`` with a column."""

    label = "annvq"
    how = 'filter={"number": {"$lt": below}}, given anew in every call; and one from Index.prepare_filter'

    def __init__(self, numbers: np.ndarray) -> None:
        super().__init__("fast")
        self._numbers = numbers

    def build(self, base: np.ndarray, metric: str, threads: int) -> None:
        """Build the index."""
        columns = pa.table({"number": self._numbers})
        self._index = annvq.build(base, self.recipe, metric=metric, attributes=columns, seed=0, threads=threads)

    def filtered(self, numbers: np.ndarray, below: int, k: int) -> Iterator[tuple[str, Search]]:
        """Yield a search with a filter given anew, and one with a prepared filter."""
        yield self.label, lambda query: self._search(query, k, {"number": {"$lt": below}})
        prepared = self._index.prepare_filter({"number": {"$lt": below}})
        yield f"{self.label}, prepared", lambda query: self._search(query, k, prepared)

    def _search(self, query: np.ndarray, k: int, given: object) -> np.ndarray:
        return self._index.search(query, k, filter=given, threads=1, **self._params).ids


def _selector(numbers: np.ndarray, below: int) -> object:
    import faiss

    return faiss.IDSelectorBitmap(np.packbits(numbers < below, bitorder="little"))


class IvfFlat(FaissIvfFlat):
    """Faiss's lists of float vectors."""

    label = "Faiss IVFFlat"
    how = "IDSelectorBitmap in SearchParametersIVF, made before"
    _params: Params

    def set(self, params: Params) -> None:
        """Keep the setting for searches with a selector, too."""
        super().set(params)
        self._params = params

    def filtered(self, numbers: np.ndarray, below: int, k: int) -> Iterator[tuple[str, Search]]:
        """Yield a search with a bitmap."""
        import faiss

        given = faiss.SearchParametersIVF(nprobe=self._params["nprobe"], sel=_selector(numbers, below))
        yield self.label, lambda query: self._index.search(query, k, params=given)[1]


class IvfPq(FaissIvfPq):
    """Faiss's lists of 4-bit codes with fast scan, re-ranked."""

    label = "Faiss IVFPQ"
    how = "IDSelectorBitmap in SearchParametersIVF within IndexRefineSearchParameters, made before"
    _params: Params

    def set(self, params: Params) -> None:
        """Keep the setting for searches with a selector, too."""
        super().set(params)
        self._params = params

    def filtered(self, numbers: np.ndarray, below: int, k: int) -> Iterator[tuple[str, Search]]:
        """Yield a search with a bitmap."""
        import faiss

        lists = faiss.SearchParametersIVF(nprobe=self._params["nprobe"], sel=_selector(numbers, below))
        given = faiss.IndexRefineSearchParameters(k_factor=self._params["k_factor"], base_index_params=lists)
        yield self.label, lambda query: self._index.search(query, k, params=given)[1]


class Hnsw(FaissHnsw):
    """Faiss's graph."""

    label = "Faiss HNSW"
    how = "IDSelectorBitmap in SearchParametersHNSW, made before"
    _params: Params

    def set(self, params: Params) -> None:
        """Keep the setting for searches with a selector, too."""
        super().set(params)
        self._params = params

    def filtered(self, numbers: np.ndarray, below: int, k: int) -> Iterator[tuple[str, Search]]:
        """Yield a search with a bitmap."""
        import faiss

        given = faiss.SearchParametersHNSW(efSearch=self._params["efSearch"], sel=_selector(numbers, below))
        yield self.label, lambda query: self._index.search(query, k, params=given)[1]


class HnswlibCallback(Hnswlib):
    """hnswlib's graph, which asks a Python function for every candidate."""

    label = "hnswlib"
    how = (
        "a Python callback per candidate, here the lookup in a list of booleans made before; where it finds fewer than "
        "k rows, hnswlib returns none and raises RuntimeError, which counts as nothing found"
    )

    def filtered(self, numbers: np.ndarray, below: int, k: int) -> Iterator[tuple[str, Search]]:
        """Yield a search with a callback."""
        passes, found = (numbers < below).tolist().__getitem__, min(k, below)

        def search(query: np.ndarray) -> np.ndarray:
            try:
                rows = self._index.knn_query(query, found, num_threads=1, filter=passes)[0][0]
            except RuntimeError:
                rows = np.empty(0, np.int64)
            return padded(rows, k)

        yield self.label, search


class USearchFetching(USearch):
    """usearch's graph, whose results are filtered."""

    label = "usearch"
    how = f"no filter from Python: k / share results, at most {MOST_FETCHED:,}, are fetched, and those that pass kept"

    def filtered(self, numbers: np.ndarray, below: int, k: int) -> Iterator[tuple[str, Search]]:
        """Yield a search for more rows."""
        wanted = min(math.ceil(k * len(numbers) / below), MOST_FETCHED, len(numbers))

        def search(query: np.ndarray) -> np.ndarray:
            rows = self.search(query, wanted, 1)[0]
            return padded(rows[numbers[rows] < below], k)

        yield self.label, search


class Lance:
    """LanceDB's IVF_PQ beside a B-tree, in a temporary folder."""

    lib = label = "LanceDB"
    how = 'where("number < below", prefilter=True) over a BTREE index, given anew in every call'

    def __init__(self, n: int, dim: int, numbers: np.ndarray) -> None:
        os.environ.setdefault(_LANCE_THREADS, "1")  # read once, when LanceDB starts
        os.environ.setdefault("RUST_LOG", "error")
        self._lists, self._parts, self._numbers = power_of_two_near(n**0.5), dim // 4, numbers
        self.recipe = f"IVF_PQ {self._lists} lists, {self._parts} sub-vectors of 8 bits, BTREE"

    def build(self, base: np.ndarray, metric: str, threads: int) -> None:
        """Write the table and make both indexes."""
        import lancedb

        self._folder = tempfile.TemporaryDirectory()
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(base.reshape(-1)), base.shape[1])
        rows = pa.table({"vector": vectors, "number": self._numbers, "row": np.arange(len(base))})
        self._table = lancedb.connect(self._folder.name).create_table("rows", rows)
        self._table.create_index(metric, num_partitions=self._lists, num_sub_vectors=self._parts, index_type="IVF_PQ")
        self._table.create_scalar_index("number", index_type="BTREE")
        self._table.wait_for_index(["vector_idx", "number_idx"])

    def settings(self, k: int) -> list[list[Params]]:
        """Return a series of growing nprobes for each refine factor."""
        return [
            [{"nprobes": nprobes, "refine_factor": factor} for nprobes in doubling(1, self._lists)]
            for factor in (4, 10, 20)
        ]

    def set(self, params: Params) -> None:
        """Keep nprobes and refine_factor for the searches to come."""
        self._params = params

    def search(self, queries: np.ndarray, k: int, threads: int) -> np.ndarray:
        """Return (nq, k) rows."""
        return np.concatenate([self._search(query, k, None) for query in queries])

    def filtered(self, numbers: np.ndarray, below: int, k: int) -> Iterator[tuple[str, Search]]:
        """Yield a search with a condition."""
        yield self.label, lambda query: self._search(query[0], k, f"number < {below}")

    def _search(self, query: np.ndarray, k: int, condition: str | None) -> np.ndarray:
        asked = self._table.search(query).limit(k).nprobes(self._params["nprobes"])
        asked = asked.refine_factor(self._params["refine_factor"]).select(["row", "_distance"])
        if condition is not None:
            asked = asked.where(condition, prefilter=True)
        return padded(asked.to_arrow()["row"].to_numpy(), k)

    def bytes_per_vector(self) -> float:
        """Return the size of the folder divided by n."""
        files = (os.path.join(at, name) for at, _, names in os.walk(self._folder.name) for name in names)
        return sum(os.path.getsize(file) for file in files) / len(self._numbers)
