"""Benchmarks of nearest-neighbour search: base vectors, queries, metric and true neighbours.

A file is either an HDF5 file of ann-benchmarks (``train``, ``test``, ``neighbors``; attribute ``distance``),
or a .npz file with ``base``, ``query``, ``metric`` and optionally ``gt``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from annvq.arguments import as_file
from annvq.errors import DataFormatError
from annvq.io import hdf5, npz
from annvq.io.hdf5_strings import check_attribute, check_collections
from annvq.io.npy import as_texts, as_vectors

_METRICS = {
    "angular": "cosine",
    "cosine": "cosine",
    "euclidean": "l2",
    "l2": "l2",
    "dot": "ip",
    "ip": "ip",
}
_OTHER_FORMATS = (
    ".npy", ".parquet", ".pq", ".arrow", ".feather", ".ipc", ".fvecs", ".ivecs", ".bvecs", ".fbin", ".u8bin", ".i8bin",
    ".ibin",
)  # fmt: skip


@dataclass(frozen=True)
class AnnDataset:
    """A data set with its queries.

    Parameters
    ----------
    base
        (n, d) in the file's number type; mapped if the file allows it.
    query
        (nq, d) in the file's number type.
    metric
        "l2", "ip" or "cosine".
    gt
        (nq, k) int64, rows of ``base``, nearest first; None if the file has none.

    """

    base: np.ndarray
    query: np.ndarray
    metric: str
    gt: np.ndarray | None


def read_ann_dataset(path: str | os.PathLike[str]) -> AnnDataset:
    """Read a data set from an ann-benchmarks HDF5 file or a .npz file.

    Raises
    ------
    DataFormatError
        An array is missing or damaged, shapes do not agree, true neighbours are not rows of the
        base, or the metric is not one of l2, ip and cosine.
    MissingExtraError
        The file is HDF5, and h5py is not installed.

    """
    path = as_file(path)
    if path.suffix.lower() in _OTHER_FORMATS:
        raise DataFormatError(f"{path}: expected an HDF5 file of ann-benchmarks or a .npz file")
    dataset = _from_npz(path) if path.suffix.lower() == ".npz" else _from_hdf5(path)
    (n, d), (nq, query_dim) = dataset.base.shape, dataset.query.shape
    if d != query_dim:
        raise DataFormatError(f"{path}: base vectors have dimension {d}, queries {query_dim}")
    gt = dataset.gt
    if gt is not None and (gt.ndim != 2 or len(gt) != nq):
        raise DataFormatError(f"{path}: true neighbours have shape {gt.shape}, expected ({nq}, k)")
    if gt is not None and gt.size and not (-1 <= gt.min() and gt.max() < n):
        raise DataFormatError(f"{path}: true neighbours {gt.min()} to {gt.max()}, but the base has {n} rows")
    return dataset


def _from_npz(path: Path) -> AnnDataset:
    names = npz.array_names(path)
    base, query = (as_vectors(npz.read_array(path, name), path) for name in ("base", "query"))
    gt = npz.read_array(path, "gt") if "gt" in names else None
    metric = npz.read_array(path, "metric")
    name = str(as_texts(metric, str(path)) if metric.dtype.kind == "U" else metric)
    return AnnDataset(base, query, _metric(name, path), _neighbors(gt, path))


def _from_hdf5(path: Path) -> AnnDataset:
    base, query = (_all_rows(path, name) for name in ("train", "test"))
    check_collections(path)
    check_attribute(path, "distance")
    with hdf5.opened(path) as file:
        metric = file.attrs.get("distance", "none")
        gt = hdf5.dataset_of(file, "neighbors", path)[:] if "neighbors" in list(file) else None
    metric = metric.decode(errors="replace") if isinstance(metric, bytes) else str(metric)
    return AnnDataset(base, query, _metric(metric, path), _neighbors(gt, path))


def _all_rows(path: Path, name: str) -> np.ndarray:
    source = hdf5.matrix_source(path, name)
    matrix = getattr(source, "matrix", None)  # mapped
    return np.concatenate(list(source.batches(source.count or 1))) if matrix is None else matrix


def _metric(name: str, path: Path) -> str:
    if name not in _METRICS:
        raise DataFormatError(f"{path}: metric {name!r}, expected one of {', '.join(_METRICS)}")
    return _METRICS[name]


def _neighbors(gt: np.ndarray | None, path: Path) -> np.ndarray | None:
    if gt is not None and gt.dtype.kind not in "iu":
        raise DataFormatError(f"{path}: true neighbours are {gt.dtype}, expected whole numbers")
    return None if gt is None else gt.astype(np.int64)
