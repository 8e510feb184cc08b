"""A graph of the rows: vectors, and next to each of them its neighbours and codes of these."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from annvq.arrays import frozen
from annvq.codebooks.neighbors import NeighborCodebook
from annvq.errors import CorruptIndexError, RecipeError
from annvq.index.codes.edges import edges_of
from annvq.index.codes.entries import rows_of_entries
from annvq.index.codes.kind import Fields, FusedSearch, Layout, Section
from annvq.index.codes.localrows import NO_LOCAL_ROWS
from annvq.index.codes.pools import Pools
from annvq.index.codes.probes import Probes
from annvq.index.codes.rowstore import RowStore
from annvq.index.rows.segment import Segment
from annvq.index.values import settled
from annvq.kernels import threads as pool
from annvq.kernels.graph import coding, walk
from annvq.kernels.graph import pipeline as graph_pipeline
from annvq.kernels.graph import rows as graph_rows
from annvq.kernels.graph.rows import DEGREE, GraphRows
from annvq.kernels.registers.tiles import aligned, readonly
from annvq.kernels.scan import pipeline, scan4
from annvq.kernels.vectors import bytematrix
from annvq.kernels.vectors.dots import Store, padded, squared_norms
from annvq.metrics import equally_long

_SECTION, _VECTORS = "graph", "vectors"
_ITEMSIZES = {8: 1, 16: 2}  # by bits per number of the vectors
_ROWS_A_TASK = 1024
_BYTES = frozen(np.empty(0, np.uint8))
_NOTHING = frozen(np.empty(0, np.float32))
_AS_IT_IS = frozen(np.array([1, 0], np.float32))  # weights of estimates
_NO_PANELS = frozen(np.empty((0, 0, 0), np.float32))


def _codes_per_neighbor(spec: Fields, d: int) -> int:
    """Return the number of codes, which is lower than M where there are not two dimensions for each."""
    return min(settled(spec.M), -(-d // 2))


def _to_products(numbers: np.ndarray, lengths: np.ndarray, of_neighbors: np.ndarray) -> None:
    """Make numbers that estimate minus squared distances estimate inner products.

    This is for queries about as long as the vectors, see `annvq.kernels.graph.coding`: the product <c, o - c> is known
    from lengths and distance.

    Parameters
    ----------
    numbers
        (rows, 64) float32, the factors and constants that `annvq.kernels.graph.coding.code_neighbors` writes, which are
        changed.
    lengths, of_neighbors
        (rows,) and (rows, 32) float32: the lengths of c and o.

    """
    numbers[:, DEGREE:] += np.square(of_neighbors) - np.square(lengths[:, None])
    numbers *= np.float32(0.5)


class PreparedWalks(NamedTuple):
    """Queries that are ready for a graph, and how many vertices were visited for each."""

    queries: np.ndarray
    quantized: np.ndarray
    steps: np.ndarray
    biases: np.ndarray
    visits: np.ndarray
    scales: np.ndarray  # (nq,) float32, powers of two that make queries as long as the vectors; empty if nothing does


@dataclass(frozen=True)
class GraphCodes:
    """How vectors become vertices, whose graph is made when a segment is packed, and how the graph is walked.

    ``metric`` is "ip" or "l2", ``centre`` (d,) float32 the mean of the vectors that the codebook was learned from.
    """

    codebook: NeighborCodebook
    metric: str
    centre: np.ndarray

    copies = 1
    scan_is_final = True
    followed = ()  # the walk itself passes over neighbours that cannot be, because the rows stay mapped

    @property
    def _l2(self) -> bool:
        return self.metric == "l2"

    @property
    def section(self) -> str:
        """The name of the section of the rows, with that of the layout of the codes in them."""
        return f"{_SECTION}.{scan4.LAYOUT}"

    @cached_property
    def store(self) -> RowStore:
        """How vectors are kept."""
        scalar = self.codebook.scalar
        return RowStore("fp16" if scalar is None else "sq8", self.codebook.dim, self._l2, _VECTORS, scalar)

    @property
    def _itemsize(self) -> int:
        return 2 if self.codebook.scalar is None else 1

    @property
    def _groups(self) -> int:
        return scan4.groups_for(self.codebook.M)

    @property
    def _row_bytes(self) -> int:
        return graph_rows.row_bytes(self.codebook.dim, self._itemsize, self._groups)

    @cached_property
    def _rotation(self) -> pipeline.Rotation:
        """The projection of queries in bytes."""
        projection = np.ascontiguousarray(self.codebook.projection.T)
        matrix = bytematrix.pack(projection, np.zeros(projection.shape[1], np.float32))
        return pipeline.Rotation(_NO_PANELS, _NOTHING, frozen(self._origin), matrix)

    @property
    def _origin(self) -> np.ndarray:
        """What is subtracted from queries before they are projected, (d,) float32."""
        return self.centre if self.codebook.centred else np.zeros_like(self.centre)

    @cached_property
    def _length(self) -> np.ndarray:
        """How long queries are made to be, (1,) float32, or empty."""
        return _NOTHING if self.codebook.length is None else frozen(np.array([self.codebook.length], np.float32))

    def pool_depth(self, k: int) -> int:
        """Return k, because scores are exact."""
        return k

    def encode(self, vectors: np.ndarray, labels: np.ndarray, threads: int) -> dict[str, np.ndarray]:
        """Return the vectors as they are kept."""
        return self.store.encode(vectors, labels, threads)

    def completed(self, arrays: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, np.ndarray]:
        """Return rows that were made elsewhere as they are."""
        return arrays

    def decode(self, arrays: dict[str, np.ndarray], labels: np.ndarray) -> np.ndarray:
        """Return vectors (n, d) float32 of unpacked rows."""
        return self.store.decode(arrays, labels)

    def pack(self, arrays: dict[str, np.ndarray], offsets: np.ndarray, threads: int) -> dict[str, np.ndarray]:
        """Make the graph of unpacked rows."""
        arrays = dict(arrays)
        packed = self._graph_of(arrays.pop(_VECTORS), threads)
        return {**arrays, self.section: packed}

    def _graph_of(self, vectors: np.ndarray, threads: int) -> np.ndarray:
        """Return the rows of the graph of vectors (n, d) as they are kept, with those of its entries."""
        n, transposed = len(vectors), self.codebook.product.transposed
        if n == 0:
            return np.empty((0, self._row_bytes), np.uint8)
        vectors = np.concatenate([vectors, self.encode(self.centre[None], _BYTES, threads)[_VECTORS]])
        projected, lengths = self._projected(vectors, threads)
        store = self._store_of(vectors)
        differ = not (self._l2 or equally_long(lengths[:n]))  # else neighbours by distance serve queries as well
        beside = self._l2 or (self.codebook.centred and not differ)  # queries lie beside vectors: see `_to_products`
        zero = _NOTHING if beside else self.codebook.project(-self._origin[None], 1)[0]
        weights = _AS_IT_IS if differ else self.codebook.weights
        if differ:
            whole = projected[:n] - self.codebook.project(-self.centre[None], 1)
            edges, entries = edges_of(vectors[:n], self._store_of, whole, lengths[:n], threads)
        else:
            edges, entries = edges_of(vectors[:n], self._store_of, projected[:n], _NOTHING, threads)
        of_entries = rows_of_entries(entries, projected, n, threads)
        sources = np.concatenate([np.arange(n), of_entries.vectors])
        coded = np.concatenate([edges.astype(np.uint32), of_entries.coded])
        neighbors = np.concatenate([coded[:n], of_entries.neighbors])
        missing = transposed.shape[0] * transposed.shape[1] - projected.shape[1]
        if missing:
            projected = np.pad(projected, ((0, 0), (0, missing)))
            zero = np.pad(zero, (0, missing if len(zero) else 0))
        made = aligned(len(neighbors) * self._row_bytes, np.uint8).reshape(len(neighbors), self._row_bytes)
        made[:] = 0
        kept, ids, numbers, codes = graph_rows.views_of(made, self.codebook.dim, self._itemsize)

        def write(part: slice) -> None:
            some = sources[part]
            kept[part] = vectors[some].view(np.uint8)
            ids[part] = neighbors[part]
            factors = np.empty((len(some), 2 * DEGREE), np.float32)
            packed = np.zeros((len(some), codes.shape[1]), np.uint8)
            coding.code_neighbors(
                store, projected, some, coded[part], transposed, weights, zero,
                0, len(some), factors, packed,
            )  # fmt: skip
            if beside and not self._l2:
                _to_products(factors, lengths[some], lengths[coded[part]])
            numbers[part], codes[part] = factors, packed

        pool.run(write, pool.slices(len(made), -(-len(made) // _ROWS_A_TASK)), threads)
        return made

    def _projected(self, vectors: np.ndarray, threads: int) -> tuple[np.ndarray, np.ndarray]:
        """Return vectors, less the centre, projected, (n, D) float32, and the lengths of the vectors, (n,) float32."""
        n = len(vectors)
        projected = np.empty((n, len(self.codebook.projection)), np.float32)
        squares = np.empty(n, np.float32)
        for part in pool.slices(n, -(-n // (8 * _ROWS_A_TASK))):
            decoded = self.decode({_VECTORS: vectors[part]}, _BYTES)
            projected[part] = self.codebook.project(decoded - self.centre, threads)
            squares[part] = squared_norms(decoded)
        return projected, np.sqrt(squares)

    def _store_of(self, vectors: np.ndarray) -> Store:
        flat = vectors.view(np.uint16) if self._itemsize == 2 else vectors
        return Store(readonly(np.ascontiguousarray(flat).reshape(-1)), self.codebook.dim, *self.store.affine)

    def unpack(self, segment: Segment, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return the vectors of some rows (int64) of a segment as they are kept."""
        width = self.codebook.dim * self._itemsize
        taken = np.ascontiguousarray(segment.arrays[self.section][rows, :width])
        return {_VECTORS: taken.view(np.float16) if self._itemsize == 2 else taken}

    def relaid(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return a segment's arrays with codes in this machine's layout, whatever machine wrote them."""
        other = f"{_SECTION}.{scan4.OTHER_LAYOUT}"
        held = arrays.get(other)
        if held is None or held.dtype != np.uint8 or held.shape[1:] != (self._row_bytes,):
            return arrays
        moved = aligned(held.size, np.uint8).reshape(held.shape)
        moved[:] = held
        codes = self._row_bytes - 64 * self._groups
        moved[:, codes:] = scan4.relaid(held[:, codes:]).reshape(len(held), -1)
        rest = {name: array for name, array in arrays.items() if name != other}
        return {**rest, self.section: frozen(moved)}

    def check(self, arrays: dict[str, np.ndarray], n: int) -> dict[str, tuple[type, tuple[int, ...]]]:
        """Return dtype and shape of the section, which has more rows than a segment, for the entries."""
        held = len(arrays[self.section]) if self.section in arrays and arrays[self.section].ndim else 0
        if held < n + (n > 0) or (n == 0 and held):
            raise CorruptIndexError(f"section {self.section} has {held} rows of a graph of {n} vertices")
        return {self.section: (np.uint8, (held, self._row_bytes))}

    def verify(self, arrays: dict[str, np.ndarray]) -> None:
        """Raise CorruptIndexError if neighbours are named that are not there, or numbers are not finite."""
        held = arrays[self.section]
        vectors, ids, numbers, _ = graph_rows.views_of(held, self.codebook.dim, self._itemsize)
        for part in pool.slices(len(held), -(-len(held) // _ROWS_A_TASK)):
            finite = np.isfinite(numbers[part]).all()
            if self._itemsize == 2:
                finite = finite and np.isfinite(np.ascontiguousarray(vectors[part]).view(np.float16)).all()
            if not finite:
                raise CorruptIndexError(f"section {self.section} holds NaN or infinity")
            if ids[part].max() >= len(held):
                raise CorruptIndexError(f"section {self.section} names vertices that are not there")

    def prepare(self, queries: np.ndarray, probes: Probes) -> PreparedWalks:
        """Project queries (nq, d) and fill their look-up tables."""
        nq = len(queries)
        beside, scales = np.ascontiguousarray(queries), _NOTHING
        if len(self._length):
            beside, scales = np.empty((nq, self.codebook.dim), np.float32), np.empty(nq, np.float32)
            coding.bring_beside(readonly(np.ascontiguousarray(queries)), self._length[0], beside, scales)
        prepared = PreparedWalks(
            readonly(padded(queries)), np.empty((nq, 64 * self._groups), np.uint8), np.empty(nq, np.float32),
            np.empty(nq, np.float32), np.zeros(nq, np.int64), scales,
        )  # fmt: skip
        coding.prepare_walks(readonly(beside), self._rotation, self.codebook.product.transposed, *prepared[1:4])
        return prepared

    def scan(self, prepared: PreparedWalks, segment: Segment, probes: Probes, pools: Pools, keys: np.ndarray) -> None:
        """Walk a segment's graph; vertices are visited beyond those that may be returned, see `search_graph`."""
        queries, quantized, steps, biases, visits, scales = prepared
        with np.errstate(all="ignore"):  # what is in free places may overflow
            if len(scales):
                queries = readonly(queries * scales[:, None])
                pools.scores *= scales[:, None]
                pools.thresholds *= scales
            walk.search_graph(
                queries, quantized, steps, biases, self._rows(segment), self._l2, pools.candidates, pools.keep, keys,
                visits,
            )  # fmt: skip
            if len(scales):
                pools.scores /= scales[:, None]
                pools.thresholds /= scales

    def rescore(self, prepared: PreparedWalks, segment: Segment, pools: Pools) -> None:
        """Replace the pooled scores of the segment's rows by exact ones."""
        graph_rows.rescore(prepared.queries, self._rows(segment), self._l2, pools.candidates)

    def fused(self, searched: pipeline.Searched, segment: Segment) -> FusedSearch | None:
        """Return the search of one segment in one kernel call; None if vectors are also rotated or refined."""
        turned = searched.rotation.panels.size or searched.rotation.matrix.panels.size
        if turned or searched.refined.store.rows.size or searched.refined.local.rows.size:
            return None
        held = self._rows(segment)
        store = Store(held.vectors, self.codebook.dim, held.minimum, held.step)
        searched = searched._replace(rotation=self._rotation, refined=pipeline.Refined(store, NO_LOCAL_ROWS))
        tree = graph_pipeline.SearchedGraph(
            searched, self.codebook.product.transposed, held._replace(vectors=_BYTES), self._length
        )
        return FusedSearch(graph_pipeline.search_planned, pipeline.plan(searched, tree), tree)

    def _rows(self, segment: Segment) -> GraphRows:
        held = segment.arrays[self.section]
        flat = held.reshape(-1)
        return GraphRows(
            flat.view(np.uint16) if self._itemsize == 2 else flat, flat.view(np.uint32), flat.view(np.float32), flat,
            *self.store.affine, segment.allow, self.codebook.dim, segment.n, self._row_bytes, self._groups,
            int(segment.allowed_per_list().sum()), segment.base,
        )  # fmt: skip


class GraphKind:
    """The kind "graph": vectors of 8 or 16 bits per dimension, 32 neighbours, and M codes of 4 bits per neighbour."""

    name = "graph"
    defaults = MappingProxyType({"M": 96, "nbits": 16})
    nbits = (8, 16)
    splits_dimensions = False
    bits = 16
    codebook = NeighborCodebook
    rotates_itself = False
    needs_centre = True
    is_graph = True
    spelling = re.compile(r"QG(?P<degree>[0-9]{1,9})(?:x(?P<M>[0-9]{1,9}))?(?P<sq8>SQ8)?")

    def is_centered(self, spec: Fields) -> bool:
        """Return False, because codes are of differences of vectors anyway."""
        return False

    def layout(self, spec: Fields, d: int, l2: bool, spill: bool) -> Layout:
        """Return the section of the rows; those of a graph's entries are not counted."""
        groups = scan4.groups_for(_codes_per_neighbor(spec, d))
        width = graph_rows.row_bytes(d, _ITEMSIZES[settled(spec.nbits)], groups)
        return {f"{_SECTION}.{scan4.LAYOUT}": Section(np.uint8, width)}

    def telling_bytes(self, spec: Fields, d: int) -> int:
        """Return the bytes of a vector."""
        return d * _ITEMSIZES[settled(spec.nbits)]

    def train(
        self, spec: Fields, rows: np.ndarray, centroids: np.ndarray | None, metric: str, *, seed: int, threads: int
    ) -> NeighborCodebook:
        """Learn from the differences of neighbours."""
        M, scalar = settled(spec.M), spec.nbits == 8
        lengths = np.sqrt(squared_norms(rows)) if metric == "ip" else _NOTHING
        centred = equally_long(lengths)
        length = float(np.mean(lengths[lengths > 0], dtype=np.float64)) if centred and lengths.any() else None
        return NeighborCodebook.train(
            rows, M=M, scalar=scalar, centred=centred, length=length, seed=seed, threads=threads
        )

    def mismatch(self, spec: Fields, codebook: NeighborCodebook) -> str | None:
        """Return how the number of codes, or the bits of the vectors, differ from the recipe's."""
        bits = 16 if codebook.scalar is None else 8
        if (codebook.M, bits) == (_codes_per_neighbor(spec, codebook.dim), spec.nbits):
            return None
        return f"of {spec.M} codes and {spec.nbits} bits with a codebook of {codebook.M} codes and {bits} bits"

    def codes(
        self, spec: Fields, codebook: Any, dim: int, metric: str, centroids: np.ndarray | None, spill: bool
    ) -> GraphCodes:
        """Return how vectors become vertices."""
        assert centroids is not None
        return GraphCodes(codebook, metric, centroids[0])

    def read(self, found: re.Match[str], lists: bool) -> dict[str, Any]:
        """Return the fields of "QG32", "QG32x48" and "QG32x48SQ8"."""
        if int(found["degree"]) != DEGREE:
            raise RecipeError(f"{found[0]!r}: a vertex has {DEGREE} neighbours, write QG{DEGREE}")
        return {"M": int(found["M"] or self.defaults["M"]), "nbits": 8 if found["sq8"] else 16}

    def spelled(self, spec: Fields) -> str:
        """Return "QG32x96" or "QG32x96SQ8"."""
        return f"QG{DEGREE}x{spec.M}" + ("SQ8" if spec.nbits == 8 else "")
