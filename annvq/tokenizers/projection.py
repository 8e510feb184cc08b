"""Linear maps to the dimension in which codes live, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from annvq.arguments import as_count
from annvq.learn.runtime import torch

if TYPE_CHECKING:
    from torch import Tensor


class Projection(torch.nn.Module):
    """Linear maps from dim to code_dim and back; the identity if the two are equal (Yu et al. 2022 (ViT-VQGAN)).

    Parameters
    ----------
    dim, code_dim
        Dimension of the vectors and of the codes.

    """

    def __init__(self, dim: int, code_dim: int) -> None:
        super().__init__()
        self.code_dim = as_count("code_dim", code_dim)
        self.inward = self.outward = None
        if dim != code_dim:
            self.inward, self.outward = torch.nn.Linear(dim, code_dim), torch.nn.Linear(code_dim, dim)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype in which codes without a dtype of their own are projected up: at least float32."""
        return torch.get_default_dtype() if self.outward is None else least_dtype(self.outward.weight)

    def down(self, rows: Tensor) -> Tensor:
        """Return rows (n, code_dim)."""
        return rows if self.inward is None else linear(rows, self.inward)

    def up(self, rows: Tensor) -> Tensor:
        """Return rows (n, dim)."""
        return rows if self.outward is None else linear(rows, self.outward)

    def up_tables(self, tables: list[Tensor]) -> list[Tensor]:
        """Project tables (k, code_dim) to (k, dim); the sum of one row from each is then `up` of the sum before."""
        if self.outward is None:
            return tables
        origin = self.up(torch.zeros_like(tables[0][:1]))
        return [self.up(table) - (origin if number else 0) for number, table in enumerate(tables)]


def least_dtype(values: Tensor) -> torch.dtype:
    """Return the dtype of values, or float32 if that is wider: computations use at least float32."""
    return torch.promote_types(values.dtype, torch.float32)


def linear(rows: Tensor, layer: torch.nn.Linear) -> Tensor:
    """Return what the layer makes of rows, in their dtype."""
    bias = None if layer.bias is None else layer.bias.to(rows.dtype)
    return torch.nn.functional.linear(rows, layer.weight.to(rows.dtype), bias)
