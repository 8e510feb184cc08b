"""Small recommenders over one embedding table.

All that belongs to a category is in its row. If a model has a weight for each category (the wide part of Wide & Deep,
the first-order part of DeepFM), it is a linear function of the row, so that the bytes of the table are all bytes.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.arrays import offsets_of
from annvq.bench.tables.clicks import PADDING
from annvq.learn.runtime import torch

if TYPE_CHECKING:
    from torch import Tensor

_HIDDEN = (64, 32)
_LAYERS = 3


class ClickModel(torch.nn.Module):
    """Field vectors from the table, and a head that makes a logit of them.

    Parameters
    ----------
    table
        (n, d) rows, row 0 is padding.
    fields
        First and last slot (exclusive) of each field; several slots are averaged.

    """

    def __init__(self, table: Any, fields: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.table = table
        self.fields = tuple(fields)
        self.dim = table.embedding_dim

    def vectors(self, ids: Tensor) -> Tensor:
        """Return field vectors (batch, fields, d) of ids (batch, slots)."""
        rows = self.table(ids)
        if all(stop - start == 1 for start, stop in self.fields):
            return rows
        pooled = [
            rows[:, start] if stop - start == 1 else _mean(rows[:, start:stop], ids[:, start:stop])
            for start, stop in self.fields
        ]
        return torch.stack(pooled, 1)


class DLRM(ClickModel):
    """Inner products of all pairs of fields, then a network (Naumov et al. 2019, without dense features)."""

    def __init__(self, table: Any, fields: Sequence[tuple[int, int]]) -> None:
        super().__init__(table, fields)
        pairs = torch.triu_indices(len(self.fields), len(self.fields), 1)
        self.register_buffer("pairs", pairs[0] * len(self.fields) + pairs[1], persistent=False)
        self.head = _network(pairs.shape[1] + self.dim)

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits (batch,)."""
        vectors = self.vectors(ids)
        products = (vectors @ vectors.transpose(1, 2)).flatten(1)
        return self.head(torch.cat([products.index_select(1, self.pairs), vectors.mean(1)], 1))[:, 0]


class WideDeep(ClickModel):
    """A linear part and a network over all fields (Cheng et al. 2016)."""

    def __init__(self, table: Any, fields: Sequence[tuple[int, int]]) -> None:
        super().__init__(table, fields)
        self.wide = torch.nn.Linear(self.dim, 1)
        self.head = _network(len(self.fields) * self.dim)

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits (batch,)."""
        vectors = self.vectors(ids)
        return (self.wide(vectors.sum(1)) + self.head(vectors.flatten(1)))[:, 0]


class DeepFM(ClickModel):
    """A factorization machine and a network over the same rows (Guo et al. 2017)."""

    def __init__(self, table: Any, fields: Sequence[tuple[int, int]]) -> None:
        super().__init__(table, fields)
        self.first = torch.nn.Linear(self.dim, 1)
        self.head = _network(len(self.fields) * self.dim)

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits (batch,)."""
        vectors = self.vectors(ids)
        second = 0.5 * (vectors.sum(1).square() - vectors.square().sum(1)).sum(1)
        return self.first(vectors.sum(1))[:, 0] + second + self.head(vectors.flatten(1))[:, 0]


class MatrixFactorization(torch.nn.Module):
    """Scores are inner products of the rows of user and item (BPR-MF, Rendle et al. 2009)."""

    def __init__(self, table: Any, users: int, pairs: np.ndarray) -> None:
        super().__init__()
        self.table = table
        self.users = users

    def vectors(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is scored and what is kept small, (m, d) each, of rows (m,)."""
        rows = self.table(ids)
        return rows, rows

    def every(self) -> Tensor:
        """Return what is scored of all rows, (n, d)."""
        return self.table(torch.arange(self.table.num_embeddings, device=next(self.parameters()).device))


class _Spread(torch.autograd.Function):
    """Product of a symmetric sparse matrix and rows; torch's own gradient would transpose the matrix in every step."""

    @staticmethod
    def forward(ctx: Any, graph: Tensor, rows: Tensor) -> Tensor:
        """Return graph @ rows."""
        ctx.graph = graph
        return graph @ rows

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:  # type: ignore[override]
        """Return the gradient of the rows."""
        return None, ctx.graph @ gradient.contiguous()


class LightGCN(MatrixFactorization):
    """Rows averaged over three steps on the graph of training pairs (He et al. 2020, equations 3 to 8)."""

    def __init__(self, table: Any, users: int, pairs: np.ndarray) -> None:
        super().__init__(table, users, pairs)
        n = table.num_embeddings
        u, i = pairs[:, 0], users + pairs[:, 1]
        edges = np.stack([np.concatenate([u, i]), np.concatenate([i, u])])
        degree = np.maximum(np.bincount(edges[0], minlength=n), 1).astype(np.float32)
        values = 1 / np.sqrt(degree[edges[0]] * degree[edges[1]])
        order = np.lexsort((edges[1], edges[0]))
        starts = offsets_of(np.bincount(edges[0], minlength=n))
        # kept apart, because torch cannot copy a model that has a sparse matrix in rows
        for name, part in (("starts", starts), ("columns", edges[1][order]), ("values", values[order])):
            self.register_buffer(name, torch.from_numpy(part), persistent=False)

    def every(self) -> Tensor:
        """Return what is scored of all rows, (n, d)."""
        rows = super().every()
        parts = (self.get_buffer(name) for name in ("starts", "columns", "values"))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR")
            graph = torch.sparse_csr_tensor(*parts, (len(rows), len(rows)), check_invariants=False)
        total = rows
        for _ in range(_LAYERS):
            rows = _Spread.apply(graph, rows)
            total = total + rows
        return total / (_LAYERS + 1)

    def vectors(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is scored and what is kept small, (m, d) each, of rows (m,)."""
        return self.every()[ids], self.table(ids)


CLICK_MODELS = {"dlrm": DLRM, "wide-deep": WideDeep, "deepfm": DeepFM}
GRAPH_MODELS = {"bpr-mf": MatrixFactorization, "lightgcn": LightGCN}


def _mean(rows: Tensor, ids: Tensor) -> Tensor:
    """Return the mean rows (batch, d) of sets of ids (batch, slots) that padding fills up."""
    counted = (ids != PADDING).to(rows.dtype)[..., None]
    return (rows * counted).sum(1) / counted.sum(1).clamp_min(1)


def _network(width: int) -> Any:
    layers: list[Any] = []
    for hidden in _HIDDEN:
        layers += [torch.nn.Linear(width, hidden), torch.nn.ReLU()]
        width = hidden
    return torch.nn.Sequential(*layers, torch.nn.Linear(width, 1))
