"""From a Faiss index to an annvq index with the same codes; `faiss_export` shows the layers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from annvq.codebooks import ProductCodebook, Rotation, ScalarCodebook
from annvq.errors import AnnvqError, ParameterError
from annvq.index.codes.spec import CodebookSpec
from annvq.index.index import Index
from annvq.index.recipe import Recipe, SearchDefaults
from annvq.index.rows.ids import as_ids
from annvq.index.trained import Trained
from annvq.index.versions.versioned import VersionedRows
from annvq.interop.faiss_codebooks import (
    faiss_module,
    from_product_quantizer,
    from_scalar_quantizer,
    linear_matrix,
    unpack_codes,
)

_RERANK_FOR = 10  # results; Faiss rescores k_factor * k candidates, annvq a number that does not depend on k
_FLAT = ("IndexFlat", "IndexFlatL2", "IndexFlatIP", "IndexPQ", "IndexScalarQuantizer")
_IVF = ("IndexIVFFlat", "IndexIVFPQ", "IndexIVFScalarQuantizer")


@dataclass(frozen=True)
class _Coded:
    """The innermost layer: the codebook, and the codes, list and label of every row."""

    spec: CodebookSpec
    codebook: ProductCodebook | ScalarCodebook | None
    codes: np.ndarray
    lists: np.ndarray
    labels: np.ndarray
    centroids: np.ndarray | None
    nprobe: int


@dataclass(frozen=True)
class _Layers:
    """The layers around the codes; ``ids`` and ``refine`` refer to rows by their labels 0 .. n - 1."""

    normalizes: bool = False
    matrix: np.ndarray | None = None
    refine: _Coded | None = None
    rerank: int = 0
    ids: np.ndarray | None = None


def from_faiss(faiss_index: Any) -> Index:
    """Return an annvq index that holds the same codes and gives the same results.

    It converts IndexFlat, IndexPQ and IndexScalarQuantizer (8 and 4 bits, float16), the IndexIVF...
    of these, and around them IndexPreTransform with rotations or (for inner products) normalization,
    IndexRefine and IndexIDMap; the metric is inner product or L2. Vectors that are added later go to the
    list whose centroid is nearest by L2. The order of insertion, to which boolean filters refer, is that
    of the labels.

    Raises
    ------
    ParameterError
        The kind of index, metric or transform is another, an id is -1, scalar codes are of residuals, or codes
        have neither 4 nor 8 bits.
    DuplicateIdError
        An id occurs twice.
    MissingExtraError
        Faiss is not installed.

    Examples
    --------
    >>> import annvq.interop.faiss, faiss
    >>> faiss_index = faiss.IndexFlatIP(4)
    >>> faiss_index.add(np.eye(4, dtype=np.float32))
    >>> annvq.interop.faiss.from_faiss(faiss_index)
    Index(n=4, dim=4, metric='ip', recipe='from-faiss')

    """
    if not isinstance(faiss_index, faiss_module().Index):
        raise ParameterError(f"{type(faiss_index).__name__}, expected an index of Faiss over float vectors")
    core, layers = _unwrap(faiss_index, _Layers())
    coded = _coded(core)
    try:
        trained = _trained(faiss_index.d, core, coded, layers)
    except AnnvqError as error:
        raise ParameterError(f"{type(core).__name__}: {error}") from error
    order = np.argsort(coded.labels, kind="stable")
    arrays = {"codes": coded.codes}
    if layers.refine is not None:
        arrays["refine"] = layers.refine.codes[coded.labels]
    arrays = {name: np.ascontiguousarray(array[order]) for name, array in arrays.items()}
    ids = as_ids(_ids(coded, layers)[order], None)
    return Index(VersionedRows.from_codes(trained, coded.lists[order], arrays, ids))


# Layers, from the outside in


def _unwrap(index: Any, layers: _Layers) -> tuple[Any, _Layers]:
    """Return the index inside all wrappers, and the wrappers."""
    faiss = faiss_module()
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexIDMap):
        if layers.ids is not None or layers.refine is not None:
            raise ParameterError("an IndexIDMap inside another, or inside an IndexRefine")
        return _unwrap(index.index, replace(layers, ids=faiss.vector_to_array(index.id_map)))
    if isinstance(index, faiss.IndexRefine):
        if layers.matrix is not None or layers.refine is not None:
            raise ParameterError("an IndexRefine behind a rotation; annvq's refine stores hold vectors that are not")
        rerank = max(1, round(index.k_factor * _RERANK_FOR))
        stored = _coded(faiss.downcast_index(index.refine_index))
        return _unwrap(index.base_index, replace(layers, refine=stored, rerank=rerank))
    if isinstance(index, faiss.IndexPreTransform):
        for i in range(index.chain.size()):
            layers = _transformed(faiss.downcast_VectorTransform(index.chain.at(i)), layers)
        return _unwrap(index.index, layers)
    return index, layers


def _transformed(transform: Any, layers: _Layers) -> _Layers:
    """Add a transform; in annvq vectors are normalized first, then rotated."""
    faiss = faiss_module()
    if isinstance(transform, faiss.NormalizationTransform) and transform.norm == 2.0:
        if layers.refine is not None:
            raise ParameterError("a normalization inside an IndexRefine, whose vectors are not normalized")
        return replace(layers, normalizes=True)
    if not isinstance(transform, faiss.LinearTransform):
        raise ParameterError(f"a {type(transform).__name__}; annvq has rotations and normalization to length 1")
    matrix = linear_matrix(transform)
    return replace(layers, matrix=matrix if layers.matrix is None else matrix @ layers.matrix)


# Codes


def _coded(index: Any) -> _Coded:
    """Read the codebook and the codes of an index without wrappers."""
    faiss = faiss_module()
    name = type(index).__name__
    if name not in _FLAT + _IVF:
        raise ParameterError(f"{name}; annvq converts {', '.join((*_FLAT, *_IVF))}")
    if index.metric_type not in (faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT):
        raise ParameterError(f"{name} of metric {index.metric_type}; annvq has L2 and inner product")
    if not index.is_trained:
        raise ParameterError(f"{name} that is not trained")
    if name in _IVF:
        packed, lists, labels = _from_lists(index.invlists)
        centroids = index.quantizer.reconstruct_n(0, index.nlist)
        nprobe = min(index.nprobe, index.nlist)
    else:
        packed = faiss.vector_to_array(index.codes).reshape(index.ntotal, index.code_size)
        lists, labels = np.zeros(index.ntotal, np.int64), np.arange(index.ntotal)
        centroids, nprobe = None, 1
    spec, codebook, codes = _decoded(index, packed)
    return _Coded(spec, codebook, codes, lists, labels, centroids, nprobe)


def _from_lists(invlists: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return packed codes (n, bytes) uint8, lists (n,) and labels (n,) int64."""
    faiss = faiss_module()
    sizes = np.array([invlists.list_size(number) for number in range(invlists.nlist)], np.int64)
    packed = np.empty((sizes.sum(), invlists.code_size), np.uint8)
    labels = np.empty(sizes.sum(), np.int64)
    for number, end in enumerate(np.cumsum(sizes)):
        size = int(sizes[number])
        if size:
            codes = faiss.rev_swig_ptr(invlists.get_codes(number), size * invlists.code_size)
            packed[end - size : end] = codes.reshape(size, -1)
            labels[end - size : end] = faiss.rev_swig_ptr(invlists.get_ids(number), size)
    return packed, np.repeat(np.arange(invlists.nlist), sizes), labels


def _decoded(
    index: Any, packed: np.ndarray
) -> tuple[CodebookSpec, ProductCodebook | ScalarCodebook | None, np.ndarray]:
    """Return the codes' part of a recipe, the codebook, and the codes as annvq has them."""
    if hasattr(index, "pq"):
        M, nbits = int(index.pq.M), int(index.pq.nbits)
        codebook = from_product_quantizer(index.pq)
        residual = hasattr(index, "by_residual") and bool(index.by_residual)
        spec = CodebookSpec(kind="pq", M=M, nbits=nbits, residual=residual)
        return spec, codebook, unpack_codes(packed, M, nbits)
    if not hasattr(index, "sq"):
        return CodebookSpec(kind="fp32"), None, packed.view(np.float32)
    if hasattr(index, "by_residual") and index.by_residual:
        raise ParameterError(
            f"{type(index).__name__} with by_residual; annvq's scalar codes are of the vectors themselves: "
            "make it with by_residual=False"
        )
    scalar = from_scalar_quantizer(index.sq)
    spec = CodebookSpec(kind=scalar.kind)
    if scalar.kind == "fp16":
        return spec, None, packed.view(np.float16)
    return spec, scalar, unpack_codes(packed, scalar.dim, 4 if scalar.kind == "sq4" else 8)


# What annvq makes of them


def _trained(dim: int, core: Any, coded: _Coded, layers: _Layers) -> Trained:
    l2 = core.metric_type == faiss_module().METRIC_L2
    if l2 and layers.normalizes:
        raise ParameterError("normalized vectors under L2; annvq's cosine is for inner products")
    codebook, centroids, matrix = coded.codebook, coded.centroids, layers.matrix
    if matrix is not None and np.array_equal(matrix, np.eye(*matrix.shape)):  # only pads with zeros
        matrix = None
        codebook = from_product_quantizer(core.pq, dim) if isinstance(codebook, ProductCodebook) else codebook
        centroids = None if centroids is None else np.ascontiguousarray(centroids[:, :dim])
    refine = None if layers.refine is None else layers.refine.spec.kind
    loses = matrix is not None and matrix.shape[0] < matrix.shape[1]
    if loses and coded.spec.kind != "pq":
        raise ParameterError(
            f"a projection before codes of kind {coded.spec.kind!r}; annvq has it before product codes"
        )
    rotation = None if matrix is None else "random" if coded.spec.kind != "pq" else "pca" if loses else "opq"
    recipe = Recipe(
        name="from-faiss",
        rotation=rotation,
        dims=len(matrix) if loses and matrix is not None else None,
        nlist=None if centroids is None else len(centroids),
        codebook=coded.spec,
        refine=refine,
        search=SearchDefaults(
            nprobe=None if centroids is None else coded.nprobe, rerank=None if refine is None else layers.rerank
        ),
    )
    rotation = None if matrix is None else Rotation.from_arrays({}, {"matrix": np.ascontiguousarray(matrix)})
    refine_codebook = layers.refine.codebook if layers.refine is not None else None
    assert not isinstance(refine_codebook, ProductCodebook)  # no recipe refines with product codes
    metric = "l2" if l2 else "cosine" if layers.normalizes else "ip"
    return Trained(recipe, metric, dim, rotation, centroids, codebook, refine_codebook)


def _ids(coded: _Coded, layers: _Layers) -> np.ndarray:
    """Return the rows' ids, which are their labels unless a layer around the codes numbers rows from 0."""
    if layers.ids is None and layers.refine is None:
        return coded.labels
    n = len(coded.labels)
    if not np.array_equal(np.sort(coded.labels), np.arange(n)):
        raise ParameterError("labels inside an IndexIDMap or IndexRefine that are not 0 to n - 1")
    for held in (layers.ids, None if layers.refine is None else layers.refine.labels):
        if held is not None and len(held) != n:
            raise ParameterError(f"an IndexIDMap or IndexRefine of {len(held)} rows around {n}")
    return coded.labels if layers.ids is None else layers.ids[coded.labels]
