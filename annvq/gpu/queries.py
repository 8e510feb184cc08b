"""Queries that are on a device already: checked there as `annvq.vectors.as_indexed` checks those of the host."""

from __future__ import annotations

from typing import Any

import torch

from annvq.errors import DtypeError
from annvq.gpu.kernels.unit_rows import square_rows
from annvq.gpu.launch import launch
from annvq.index.trained import Trained
from annvq.vectors import LONGEST

_BYTES = (torch.int8, torch.uint8)


def accepted_tensor(queries: Any, trained: Trained, device: torch.device) -> torch.Tensor:
    """Return queries as a search takes them, (nq, d) float32 on a device, of unit norm if the metric is cosine.

    Parameters
    ----------
    queries
        (nq, d) or (d,), or packed bits for "hamming": a torch tensor, or anything with ``__dlpack__``, of any dtype
        that `annvq.vectors.as_matrix` takes. Nothing is copied to the host, unless there is something to complain of.
    trained
        What says the dimension, the metric and what becomes of queries that are zero.
    device
        Where the result lies. It may share the memory of the queries, and must not be written to.

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError, ZeroVectorError
        As `annvq.vectors.as_indexed` raises them, with the same messages.

    """
    given = _as_tensor(queries)
    if given.is_nested or given.is_meta:  # which have no shape, or no numbers
        return _as_on_host(given, trained, device)
    matrix = given[None] if given.ndim == 1 else given
    if not _fits(matrix, trained):
        return _as_on_host(given, trained, device)
    matrix = matrix.to(device)
    if trained.metric == "hamming":
        return _unpacked(matrix)
    rows = matrix.to(torch.float32).contiguous()
    squares = _squares(rows)
    if trained.metric == "cosine":
        are_fine = (squares > 0) | (trained.zero != "error")
    else:
        are_fine = squares <= LONGEST**2
    if not bool((are_fine & torch.isfinite(rows).all(dim=1)).all()):
        return _as_on_host(given, trained, device)
    if trained.metric != "cosine":
        return rows
    inverse = torch.reciprocal(torch.sqrt(squares))[:, None]
    return torch.where(squares[:, None] == 0, rows, (rows.double() * inverse).float())


def _as_tensor(queries: Any) -> torch.Tensor:
    """Return queries as a tensor that shares their memory."""
    if not isinstance(queries, torch.Tensor):
        try:
            return torch.from_dlpack(queries)
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            kind = type(queries).__name__
            raise DtypeError(f"queries: {kind} of a dtype or layout that torch does not take: {error}") from error
    if queries.layout is not torch.strided or queries.is_quantized or queries.is_nested:
        return queries
    return queries.detach().resolve_conj().resolve_neg()


def _fits(matrix: torch.Tensor, trained: Trained) -> bool:
    """Return whether layout, dtype and shape are what an index takes; no rows are for the host to look at."""
    if matrix.layout is not torch.strided or matrix.is_quantized or matrix.ndim != 2 or not len(matrix):
        return False
    if trained.metric == "hamming":
        return matrix.dtype in _BYTES and 8 * matrix.shape[1] == trained.dim
    return (matrix.is_floating_point() or matrix.dtype in _BYTES) and matrix.shape[1] == trained.dim


def _as_on_host(given: torch.Tensor, trained: Trained, device: torch.device) -> torch.Tensor:
    """Let the host's checks say what is wrong, or return what they accept."""
    return torch.from_numpy(trained.accept(given, "queries").copy()).to(device)


def _unpacked(packed: torch.Tensor) -> torch.Tensor:
    """Return packed bits (nq, bytes) as (nq, 8 bytes) float32 of 0 and 1, the highest bit of a byte first."""
    numbers = packed.int() + 128 if packed.dtype == torch.int8 else packed.int()  # bytes less 128
    shifts = 7 - torch.arange(8, device=packed.device, dtype=torch.int32)
    return ((numbers[:, :, None] >> shifts) & 1).reshape(len(packed), -1).to(torch.float32)


def _squares(rows: torch.Tensor) -> torch.Tensor:
    """Return the squared lengths of rows (n, d) float32, (n,) float64."""
    squares = torch.empty(len(rows), dtype=torch.float64, device=rows.device)
    launch(square_rows, len(rows), rows, rows.shape[1], squares, warps=1)
    return squares
