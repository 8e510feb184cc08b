"""Rows composed of remainder and quotient rows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from annvq.errors import ParameterError
from annvq.learn.runtime import torch
from annvq.tables.budget import FLOAT, Budget
from annvq.tables.frequencies import weights_of
from annvq.tables.frozen.compositional import MOST_PARTS, OPS, Compositional, digits
from annvq.tables.method import TableMethod
from annvq.tables.methods.hash import shared_means
from annvq.tables.table import gathered, inference_array, normal, set_

if TYPE_CHECKING:
    from torch import Tensor

_SWEEPS = 8


class CompoEmb(TableMethod):
    """Compositional embeddings: every id is a pair of remainder and quotient, and its row of two small tables' rows.

    If two tables cannot be small enough, as many more are used as it takes (mixed radix). Among the sizes that meet the
    budget, those with the largest quotient table are chosen. Source: Shi et al. 2020, "Compositional embeddings using
    complementary partitions", sections 2 and 4.

    See `TableMethod` for the parameters of all methods.

    Parameters
    ----------
    op
        "mult", "add" or "concat".

    Raises
    ------
    BudgetError, ParameterError
        No number of tables meets the budget, or arguments are outside their range.

    """

    method: ClassVar[str] = "CompoEmb"
    has_sparse_gradients: ClassVar[bool] = True
    structure: ClassVar[tuple[str, ...]] = ("op",)

    def _make(self, budget: Budget, std: float, *, op: str = "mult") -> None:
        if op not in OPS:
            raise ParameterError(f"op must be one of {', '.join(OPS)}, not {op!r}")
        self.op = op
        sizes, widths = _sizes(budget, op)
        part_std = {"mult": std ** (1 / len(sizes)), "add": std / math.sqrt(len(sizes)), "concat": std}[op]
        parts = [normal(size, width, std=part_std) for size, width in zip(sizes, widths)]
        self.tables = torch.nn.ParameterList(parts)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays that are needed at inference."""
        return FLOAT * sum(table.numel() for table in self.tables)

    def rows(self, ids: Tensor) -> Tensor:
        """Return rows (m, d) of ids (m,)."""
        places = digits(ids, [len(table) for table in self.tables])
        parts = [gathered(table, place, self.sparse) for table, place in zip(self.tables, places)]
        if self.op == "concat":
            return torch.cat(parts, 1)
        for part in parts[1:]:
            parts[0] = parts[0] * part if self.op == "mult" else parts[0] + part
        return parts[0]

    def form(self) -> Compositional:
        """Return the arrays for inference."""
        tables = tuple(inference_array(table) for table in self.tables)
        return Compositional(self.num_embeddings, self.embedding_dim, tables, self.op)

    def approximate(self, weight: np.ndarray, *, frequencies: np.ndarray | None = None, seed: int = 0) -> None:
        """Solve for one small table after the other by least squares, weighted by frequency."""
        counts = weights_of(frequencies, len(weight))
        places = digits(np.arange(len(weight)), [len(table) for table in self.tables])
        tables = [np.zeros(tuple(table.shape)) for table in self.tables]
        if self.op == "concat":
            ends = np.cumsum([table.shape[1] for table in tables])
            for i, end in enumerate(ends):
                run = weight[:, end - tables[i].shape[1] : end]
                tables[i] = shared_means(run, places[i], len(tables[i]), counts)
        elif self.op == "add":
            for step in range(_SWEEPS * len(tables)):
                i = step % len(tables)
                others = sum(tables[j][places[j]] for j in range(len(tables)) if j != i)
                tables[i] = shared_means(weight - others, places[i], len(tables[i]), counts)
        else:
            tables = _factors(weight, places, [len(table) for table in tables], counts)
        for parameter, table in zip(self.tables, tables):
            set_(parameter, table)


def _sizes(budget: Budget, op: str) -> tuple[list[int], list[int]]:
    """Return rows and widths of the small tables, remainders first, the quotient last."""
    n, d = budget.n, budget.d
    smallest = math.inf
    for parts in range(2, min(MOST_PARTS, max(2, n.bit_length()), d if op == "concat" and d > 1 else MOST_PARTS) + 1):
        widths = [d // parts + (i < d % parts) for i in range(parts)] if op == "concat" else [d] * parts
        root = max(1, math.ceil(n ** (1 / parts)))
        for radix in range(1, root + 2):
            sizes = [radix] * (parts - 1) + [-(-n // radix ** (parts - 1))]
            taken = FLOAT * sum(size * width for size, width in zip(sizes, widths))
            smallest = min(smallest, taken)
            if taken <= budget.bytes:
                return sizes, widths
    budget.check("CompoEmb", int(smallest))
    raise AssertionError("a budget not below the smallest table was met above")


def _factors(weight: np.ndarray, places: list[np.ndarray], sizes: list[int], counts: np.ndarray) -> list[np.ndarray]:
    """Return small tables whose products are near the rows: alternating least squares, a dimension at a time."""
    d = weight.shape[1]
    tables = [np.ones((size, d)) for size in sizes]
    for step in range(_SWEEPS * len(tables)):
        i = (step - 1) % len(tables)  # the quotients first
        others = np.prod([tables[j][places[j]] for j in range(len(tables)) if j != i], axis=0)
        above, below = np.zeros((sizes[i], d)), np.zeros((sizes[i], d))
        np.add.at(above, places[i], weight * others * counts[:, None])
        np.add.at(below, places[i], others * others * counts[:, None])
        tables[i] = above / np.maximum(below, 1e-12)
    return tables
