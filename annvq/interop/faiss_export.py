"""From an annvq index to a Faiss index with the same codes.

An index is taken apart into layers, each of which Faiss has too; from the inside out they are:

    codes         IndexFlat, IndexPQ, IndexScalarQuantizer, or the IndexIVF... of these
    rotation      IndexPreTransform with a LinearTransform, which also pads d to M * dsub
    refine store  IndexRefine, with an IndexFlat or IndexScalarQuantizer
    cosine        IndexPreTransform with a NormalizationTransform
    ids           in the inverted lists, or an IndexIDMap2
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from annvq.codebooks import ProductCodebook, ScalarCodebook
from annvq.errors import ParameterError
from annvq.index.codes.rowstore import RowStore
from annvq.index.index import Index
from annvq.index.rows.ids import IdColumn
from annvq.index.trained import Trained
from annvq.interop.faiss_codebooks import (
    faiss_module,
    fill_product_quantizer,
    fill_scalar_quantizer,
    pack_codes,
    scalar_type,
    to_linear_transform,
)

_KINDS = ("fp32", "fp16", "sq8", "sq4", "pq")
_RERANK_FOR = 10  # results; Faiss rescores k_factor * k candidates, annvq a number that does not depend on k


@dataclass(frozen=True)
class _Rows:
    """The live rows of an index in the order of insertion: list, id, unpacked codes and refine rows."""

    labels: np.ndarray
    ids: np.ndarray
    arrays: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.labels)


def to_faiss(index: Index) -> Any:
    """Return a Faiss index that holds the same codes and gives the same results.

    Scores differ by rounding, and for "l2" by their sign: Faiss returns squared distances. For
    "cosine" the Faiss index normalizes queries. Attributes and removed rows are not carried over.
    If the metric is inner product, vectors that are added later go into other lists in Faiss than in annvq,
    whose lists hold the vectors that are nearest to their centroid.

    Raises
    ------
    ParameterError
        The codes are of a form that Faiss lacks (RaBitQ, residual quantizers), the ids are str, or ``index`` is
        not an annvq index.
    StateError
        The index is closed.
    MissingExtraError
        Faiss is not installed.

    Examples
    --------
    >>> import annvq.interop.faiss
    >>> vectors = np.random.default_rng(0).normal(size=(1000, 32)).astype(np.float32)
    >>> index = annvq.build(vectors, "IVF16,Flat", metric="l2")
    >>> distances, ids = annvq.interop.faiss.to_faiss(index).search(vectors[:2], 1)
    >>> ids
    array([[0],
           [1]])

    """
    faiss = faiss_module()
    if not isinstance(index, Index):
        raise ParameterError(f"{type(index).__name__}, expected an index of annvq")
    trained = index.rows.current.trained
    kind = trained.recipe.codebook.kind
    if kind not in _KINDS:
        raise ParameterError(f"Faiss has no codes like those of {kind!r}; what can be converted: {', '.join(_KINDS)}")
    index.rows.check_files()
    rows = _live_rows(index)
    in_lists = trained.centroids is not None and trained.refine is None
    width = trained.dim if trained.rotation is None else trained.rotation.dim_out
    if isinstance(trained.codebook, ProductCodebook):
        width = max(width, trained.codebook.M * trained.codebook.codebooks.shape[2])
    if trained.centroids is None:
        made = _flat(trained, rows, width)
    else:
        made = _lists(trained, rows, width, rows.ids if in_lists else np.arange(len(rows)))
        made.nprobe = index.nprobe
    if trained.rotation is not None or width != trained.dim:
        made = faiss.IndexPreTransform(to_linear_transform(_matrix(trained, width)), made)
    if trained.refine is not None:
        made = faiss.IndexRefine(made, _refine_index(trained, rows))
        made.k_factor = index.rerank / _RERANK_FOR
    if trained.metric == "cosine":
        made = faiss.IndexPreTransform(faiss.NormalizationTransform(trained.dim, 2.0), made)
    if not in_lists and not np.array_equal(rows.ids, np.arange(len(rows))):
        made = _with_ids(made, rows.ids)
    return made


def _with_ids(inner: Any, ids: np.ndarray) -> Any:
    """Return an `IndexIDMap2` around a filled index; Faiss itself makes one only around an empty index."""
    faiss = faiss_module()
    outer = faiss.IndexIDMap2(faiss.IndexFlat(inner.d, inner.metric_type))
    outer.index, outer.ntotal = inner, inner.ntotal
    outer.referenced_objects = [inner]  # Python owns it, as it does an index passed to the constructor
    faiss.copy_array_to_vector(ids, outer.id_map)
    outer.construct_rev_map()
    return outer


def _live_rows(index: Index) -> _Rows:
    now = index.rows.current
    trained, segments = now.trained, now.snapshot.segments
    if any(segment.ids.kind == "str" for segment in segments):
        raise ParameterError("Faiss has only int64 ids, those of this index are str")
    orders = [segment.insertion_order() for segment in segments]
    parts = [trained.unpack(segment, order) for segment, order in zip(segments, orders, strict=True)]
    if not segments:
        nothing = np.empty((0, trained.dim), np.float32)
        labels, arrays = trained.encode(nothing, 1)
        return _Rows(labels, np.empty(0, np.int64), arrays)
    labels = np.concatenate([segment.labels()[order] for segment, order in zip(segments, orders, strict=True)])
    ids = IdColumn.concat([segment.ids.reorder(order) for segment, order in zip(segments, orders, strict=True)])
    return _Rows(labels, ids.values.copy(), {name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def _metric(trained: Trained) -> int:
    faiss = faiss_module()
    return faiss.METRIC_L2 if trained.l2 else faiss.METRIC_INNER_PRODUCT


def _matrix(trained: Trained, width: int) -> np.ndarray:
    """Return the rotation, or the identity, with rows of zeros up to ``width``."""
    matrix = np.eye(trained.dim, dtype=np.float32) if trained.rotation is None else trained.rotation.matrix
    return _padded(matrix.T, width).T


def _padded(vectors: np.ndarray, width: int) -> np.ndarray:
    return np.pad(vectors, ((0, 0), (0, width - vectors.shape[1])))


def _packed(trained: Trained, rows: _Rows) -> np.ndarray:
    """Return the codes as the bytes that Faiss stores, (n, code bytes) uint8."""
    codes = np.ascontiguousarray(rows.arrays["codes"])
    if isinstance(trained.codes, RowStore):
        return codes.view(np.uint8)
    return pack_codes(codes, trained.codes.nbits)  # type: ignore[union-attr]


def _flat(trained: Trained, rows: _Rows, width: int) -> Any:
    """Return an index without lists."""
    if isinstance(trained.codes, RowStore):
        return _row_index(trained.codes, rows.arrays["codes"], _metric(trained))
    if isinstance(trained.codebook, ScalarCodebook):
        return _scalar_index(trained.codebook, _packed(trained, rows), _metric(trained))
    assert isinstance(trained.codebook, ProductCodebook)
    made = faiss_module().IndexPQ(width, trained.codebook.M, trained.codebook.nbits, _metric(trained))
    fill_product_quantizer(made.pq, trained.codebook)
    return _with_codes(made, _packed(trained, rows))


def _refine_index(trained: Trained, rows: _Rows) -> Any:
    """Return an index of the refine store's rows; what Faiss has no codes for is decoded."""
    store, metric = trained.refine, _metric(trained)
    if isinstance(store, RowStore):
        return _row_index(store, rows.arrays["refine"], metric)
    assert store is not None
    made = faiss_module().IndexFlat(trained.dim, metric)
    made.add(store.decode(rows.arrays, np.empty(0, np.int64)))
    return made


def _row_index(store: RowStore, stored: np.ndarray, metric: int) -> Any:
    """Return an index of rows that are kept as float32, float16 or 8-bit scalars."""
    if store.kind == "fp32":
        made = faiss_module().IndexFlat(store.dim, metric)
        made.add(np.ascontiguousarray(stored))
        return made
    scalar = store.scalar or ScalarCodebook("fp16", np.zeros(store.dim, np.float32), np.ones(store.dim, np.float32))
    return _scalar_index(scalar, np.ascontiguousarray(stored).view(np.uint8), metric)


def _scalar_index(scalar: ScalarCodebook, packed: np.ndarray, metric: int) -> Any:
    made = faiss_module().IndexScalarQuantizer(scalar.dim, scalar_type(scalar.kind), metric)
    fill_scalar_quantizer(made.sq, scalar)
    return _with_codes(made, packed)


def _with_codes(made: Any, packed: np.ndarray) -> Any:
    faiss_module().copy_array_to_vector(np.ascontiguousarray(packed).reshape(-1), made.codes)
    made.ntotal, made.is_trained = len(packed), True
    return made


def _lists(trained: Trained, rows: _Rows, width: int, ids: np.ndarray) -> Any:
    """Return an index with inverted lists."""
    faiss = faiss_module()
    assert trained.centroids is not None
    centroids = trained.centroids if trained.center is None else trained.centroids + trained.center
    metric, nlist = _metric(trained), trained.nlist
    coarse = faiss.IndexFlat(width, metric)
    coarse.add(np.ascontiguousarray(_padded(centroids, width)))
    codebook = trained.codebook
    if isinstance(codebook, ProductCodebook):
        made = faiss.IndexIVFPQ(coarse, width, nlist, codebook.M, codebook.nbits, metric)
        made.by_residual = trained.recipe.codebook.residual
        fill_product_quantizer(made.pq, codebook)
        made.precompute_table()
    elif trained.recipe.codebook.kind == "fp32":
        made = faiss.IndexIVFFlat(coarse, width, nlist, metric)
    else:
        kind = scalar_type(trained.recipe.codebook.kind)
        made = faiss.IndexIVFScalarQuantizer(coarse, width, nlist, kind, metric, False)
        if isinstance(codebook, ScalarCodebook):
            fill_scalar_quantizer(made.sq, codebook)
    packed = np.ascontiguousarray(_packed(trained, rows))
    by_list = np.argsort(rows.labels, kind="stable")
    for number, members in enumerate(np.split(by_list, np.cumsum(np.bincount(rows.labels, minlength=nlist))[:-1])):
        own_ids, own_codes = ids[members], packed[members]
        made.invlists.add_entries(number, len(members), faiss.swig_ptr(own_ids), faiss.swig_ptr(own_codes))
    made.ntotal, made.is_trained = len(rows), True
    return made
