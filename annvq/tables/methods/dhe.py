"""Deep hash embeddings."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from annvq.arguments import as_count
from annvq.learn.runtime import torch
from annvq.tables.budget import FLOAT, Budget, most_that_fits
from annvq.tables.distillation import distill
from annvq.tables.frozen.deep_hash import MOST_HASHES, DeepHash, encoded
from annvq.tables.frozen.robe import MOST_SEED
from annvq.tables.method import TableMethod
from annvq.tables.table import inference_array, of_distinct

if TYPE_CHECKING:
    from torch import Tensor

_MOST_WIDTH = 65_536
_HIDDEN = 5
_STEPS = 500
_MISH_RMS = 0.72  # root mean square of mish of a standard normal variable


class DHE(TableMethod):
    """A network of five hidden layers with batch normalization computes a row from many hashes of its id.

    The budget decides the layers' width. Source: Kang et al. 2021, "Learning to embed categorical features without
    embedding tables for recommendation", section 3.

    See `TableMethod` for the parameters of all methods.

    Parameters
    ----------
    num_hashes
        Hash functions, which take no bytes.
    seed
        Seed of the hashes.

    Raises
    ------
    BudgetError, ParameterError
        The budget is below layers of width 1, or arguments are outside their range.

    """

    method: ClassVar[str] = "DHE"
    structure: ClassVar[tuple[str, ...]] = ("seed",)

    def _make(self, budget: Budget, std: float, *, num_hashes: int = 1024, seed: int = 0) -> None:
        self.num_hashes = as_count("num_hashes", num_hashes, most=MOST_HASHES)
        self.seed = as_count("seed", seed, least=0, most=MOST_SEED)
        budget.check(self.method, self._bytes_of(1))
        self.width = most_that_fits(lambda width: self._bytes_of(width) <= budget.bytes, _MOST_WIDTH)
        widths = [self.num_hashes] + [self.width] * _HIDDEN
        pairs = pairwise(widths)
        self.hidden = torch.nn.ModuleList(torch.nn.Linear(before, after) for before, after in pairs)
        self.norms = torch.nn.ModuleList(torch.nn.BatchNorm1d(self.width) for _ in range(_HIDDEN))
        self.last = torch.nn.Linear(self.width, budget.d)
        for layer, gain in zip(
            [*self.hidden, self.last], [math.sqrt(3)] + [1 / _MISH_RMS] * (_HIDDEN - 1) + [std / _MISH_RMS]
        ):
            torch.nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.in_features))
            torch.nn.init.zeros_(layer.bias)

    def _bytes_of(self, width: int) -> int:
        hidden = (self.num_hashes + 1) * width + (_HIDDEN - 1) * (width + 1) * width
        return FLOAT * (hidden + (width + 1) * self.embedding_dim)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays that are needed at inference."""
        return self._bytes_of(self.width)

    def rows(self, ids: Tensor) -> Tensor:
        """Return rows (m, d) of ids (m,)."""
        return of_distinct(self._made, ids)  # batch normalization counts each once, padding too

    def _made(self, ids: Tensor) -> Tensor:
        hashes = encoded(ids.cpu().numpy(), self.num_hashes, self.seed)
        values = torch.from_numpy(hashes).to(self.last.weight)
        for layer, norm in zip(self.hidden, self.norms):
            values = torch.nn.functional.mish(_normalized(norm, layer(values), self.training))
        return self.last(values)

    def form(self) -> DeepHash:
        """Return the arrays for inference, batch normalization folded into the layers before it."""
        matrices, biases = [], []
        for layer, norm in zip(self.hidden, self.norms):
            factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            matrices.append(inference_array(layer.weight.T * factor))
            biases.append(inference_array((layer.bias - norm.running_mean) * factor + norm.bias))
        matrices.append(inference_array(self.last.weight.T))
        biases.append(inference_array(self.last.bias))
        return DeepHash(self.num_embeddings, self.embedding_dim, tuple(matrices), tuple(biases), self.seed)

    def approximate(self, weight: np.ndarray, *, frequencies: np.ndarray | None = None, seed: int = 0) -> None:
        """Learn the rows by gradient descent, the only way to fit a network."""
        distill(self, weight, frequencies=frequencies, steps=_STEPS, seed=seed)


def _normalized(norm: torch.nn.BatchNorm1d, values: Tensor, training: bool) -> Tensor:
    """Apply batch normalization; one value alone has no spread, and is normalized as at inference."""
    from_batch = training and len(values) > 1
    return torch.nn.functional.batch_norm(
        values, norm.running_mean, norm.running_var, norm.weight, norm.bias, from_batch, norm.momentum or 0.1, norm.eps
    )
