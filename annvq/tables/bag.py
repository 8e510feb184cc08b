"""Pooled rows, in place of nn.EmbeddingBag."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

from annvq.errors import DtypeError, ParameterError, ShapeError
from annvq.learn.runtime import torch
from annvq.tables.frozen.table import MODES

if TYPE_CHECKING:
    from torch import Tensor


class BagTable(Protocol):
    """What a bag needs of a `Table`."""

    num_embeddings: int
    embedding_dim: int
    padding_idx: int | None

    @property
    def nbytes(self) -> int:
        """Bytes at inference."""
        ...

    def check(self, ids: Tensor) -> Tensor:
        """Return ids as int64; DtypeError or ParameterError if they are not valid ids."""
        ...

    def rows(self, ids: Tensor) -> Tensor:
        """Return rows (m, d) of checked ids (m,)."""
        ...

    def export(self, path: str | os.PathLike[str]) -> None:
        """Write the table for inference."""
        ...


class TableBag(torch.nn.Module):
    """Sums, means or maxima of a table's rows, called as torch.nn.EmbeddingBag is; empty bags are zeros.

    Parameters
    ----------
    table
        A `Table`; its padding row, if it has one, counts in no bag.
    mode
        "sum", "mean" or "max".
    include_last_offset
        Whether the offsets end with the number of ids.

    Raises
    ------
    ParameterError
        The mode is another one.

    """

    def __init__(self, table: BagTable, mode: str = "mean", *, include_last_offset: bool = False) -> None:
        super().__init__()
        if mode not in MODES:
            raise ParameterError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
        self.table: Any = table  # a module, so that torch registers it
        self.mode = mode
        self.include_last_offset = bool(include_last_offset)

    @property
    def num_embeddings(self) -> int:
        """Number of rows n."""
        return self.table.num_embeddings

    @property
    def embedding_dim(self) -> int:
        """Dimension d of a row."""
        return self.table.embedding_dim

    @property
    def padding_idx(self) -> int | None:
        """The row that counts in no bag, or None."""
        return self.table.padding_idx

    @property
    def nbytes(self) -> int:
        """Bytes of the table at inference."""
        return self.table.nbytes

    def export(self, path: str | os.PathLike[str]) -> None:
        """Write the table as `Table.export` does; the pooling is not stored but given again at every look-up."""
        self.table.export(path)

    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        """Return pooled rows (bags, d).

        Parameters
        ----------
        input
            Ids (m,) with ``offsets``, or (bags, length).
        offsets
            (bags,), or (bags + 1,) with ``include_last_offset``: where each bag begins.
        per_sample_weights
            Factors of the ids' rows, of the shape of ``input``; mode "sum" only.

        Raises
        ------
        DtypeError, ShapeError, ParameterError
            Ids, offsets or weights are invalid, or do not match each other.

        """
        ids = self.table.check(input)
        factors = self._factors(per_sample_weights, ids)
        flat, bounds = self._bags(ids, offsets)
        bags = len(bounds) - 1
        owner = torch.repeat_interleave(torch.arange(bags, device=flat.device), bounds[1:] - bounds[:-1])
        flat = flat[: len(owner)]
        if factors is not None:
            factors = factors[: len(owner)]
        if self.table.padding_idx is not None:
            counted = flat != self.table.padding_idx
            flat, owner = flat[counted], owner[counted]
            factors = None if factors is None else factors[counted]
        rows = self.table.rows(flat)
        pooled = rows.new_zeros(bags, self.table.embedding_dim)
        if self.mode == "max":
            index = owner[:, None].expand_as(rows)
            return pooled.scatter_reduce(0, index, rows, "amax", include_self=False)
        pooled = pooled.index_add(0, owner, rows if factors is None else rows * factors[:, None].to(rows.dtype))
        if self.mode == "mean":
            counts = torch.bincount(owner, minlength=bags).clamp_min(1)
            pooled = pooled / counts[:, None].to(pooled.dtype)
        return pooled

    def _factors(self, weights: Tensor | None, ids: Tensor) -> Tensor | None:
        if weights is None:
            return None
        if self.mode != "sum":
            raise ParameterError(f"per_sample_weights go with mode 'sum', not {self.mode!r}")
        if not isinstance(weights, torch.Tensor) or not weights.is_floating_point():
            raise DtypeError(f"per_sample_weights of {_kind(weights)}, expected a tensor of floating point")
        if weights.shape != ids.shape:
            raise ShapeError(f"per_sample_weights of shape {tuple(weights.shape)} for ids {tuple(ids.shape)}")
        return weights.reshape(-1)

    def _bags(self, ids: Tensor, offsets: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return ids (m,) and the bounds of bags (bags + 1,)."""
        if ids.dim() == 2:
            if offsets is not None:
                raise ShapeError("ids of two axes are bags already: expected no offsets")
            return ids.reshape(-1), torch.arange(len(ids) + 1, device=ids.device) * ids.shape[1]
        if ids.dim() != 1 or offsets is None:
            raise ShapeError(f"ids of shape {tuple(ids.shape)}, expected (m,) with offsets, or (bags, length)")
        if not isinstance(offsets, torch.Tensor) or offsets.dtype not in (torch.int32, torch.int64):
            raise DtypeError(f"offsets of {_kind(offsets)}, expected a tensor of int32 or int64")
        if offsets.dim() != 1 or (self.include_last_offset and not len(offsets)):
            raise ShapeError(f"offsets of shape {tuple(offsets.shape)}, expected one axis")
        bounds = offsets.long()
        if not self.include_last_offset:
            bounds = torch.cat([bounds, bounds.new_tensor([len(ids)])])
        if len(bounds) > 1 and int(bounds[0]) != 0:
            raise ParameterError(f"offsets begin with {int(bounds[0])}, expected 0")
        if bool((bounds[1:] < bounds[:-1]).any()) or int(bounds[-1]) > len(ids):
            raise ParameterError(f"offsets must not fall and not exceed the number of ids, {len(ids)}")
        return ids, bounds

    def extra_repr(self) -> str:
        """Return what repr() shows."""
        return f"mode={self.mode!r}"


def _kind(given: Any) -> str:
    return str(given.dtype) if isinstance(given, torch.Tensor) else type(given).__name__
