"""Scores as sums of a query's table entries and a vector's constant.

Without constants, the tables alone sum to the score of the decoded vector. Codes of residuals r = x - c
under L2 use -|q - c - r|^2 = -|q - c|^2 + 2 <q, r> - (|r|^2 + 2 <c, r>): a base per list, tables that are
made once per query, and a constant per stored vector (docs/design.md, "Residual codes").
"""

from __future__ import annotations

from typing import Any

import numpy as np

from annvq.codebooks.arrays import as_rows
from annvq.errors import ParameterError, ShapeError
from annvq.kernels.codes import encode
from annvq.kernels.registers.tiles import readonly
from annvq.kernels.scan.lookup_tables import fill_lookup_tables
from annvq.metrics import CODE_METRICS


def check_metric(metric: str) -> str:
    """Return the metric of tables, "ip" or "l2"; ParameterError for anything else."""
    if not isinstance(metric, str) or metric not in CODE_METRICS:
        raise ParameterError(f"tables are for the metrics ip and l2, not {metric!r}")
    return metric


def product_tables(queries: np.ndarray, transposed: np.ndarray, constants: bool, metric: str) -> np.ndarray:
    """Return tables (nq, M, ksub) float32 of queries (nq, d) for codebooks (M, dsub, ksub), d <= M * dsub.

    With "l2", entries are 2 <q_m, c_mj> if ``constants`` are to be added, else -|q_m - c_mj|^2.
    """
    M, dsub, ksub = transposed.shape
    padded = np.zeros((len(queries), M * dsub), np.float32)
    padded[:, : queries.shape[1]] = queries
    if constants:
        padded *= 2  # doubles every sum exactly
    tables = np.empty((len(queries), M, ksub), np.float32)
    fill_lookup_tables(readonly(padded), transposed, metric == "l2" and not constants, tables)
    return tables


def as_centroids(centroids: Any, decoded: np.ndarray) -> np.ndarray | None:
    """Return the centroids (n, d) of ``decoded`` (n, d) residuals as `constants_of_rows` takes them, or None."""
    if centroids is None:
        return None
    rows = as_rows(centroids, decoded.shape[1], "centroids")
    if len(rows) != len(decoded):
        raise ShapeError(f"{len(rows)} centroids for {len(decoded)} codes: expected one each")
    return rows


def constants_of_rows(decoded: np.ndarray, centroids: np.ndarray | None) -> np.ndarray:
    """Return -(|r|^2 + 2 <c, r>) (n,) float32 of residuals r and centroids c (n, d); None stands for c = 0."""
    if centroids is None:
        centroids = np.zeros_like(decoded)
    constants = np.empty(len(decoded), np.float32)
    encode.residual_constants(readonly(decoded), readonly(np.ascontiguousarray(centroids)), constants)
    return constants
