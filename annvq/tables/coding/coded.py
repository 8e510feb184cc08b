"""Tables whose rows are codes: what product and residual codes share."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from annvq.learn.runtime import torch
from annvq.tables.budget import FLOAT
from annvq.tables.coding.code_sizes import CodeSizes
from annvq.tables.frozen.codes import PackedRows, code_bytes, packed
from annvq.tables.method import TableMethod
from annvq.tables.table import inference_array, set_

if TYPE_CHECKING:
    from torch import Tensor

    from annvq.codebooks import ProductCodebook, ResidualCodebook
    from annvq.learn.parts.mirrors import ProductMirror, ResidualMirror

SAMPLE = 65_536


class Coded(TableMethod):
    """Codes of every row, fixed, and codebooks that gradients move: `approximate` chooses both."""

    codebook: ClassVar[type[ProductCodebook | ResidualCodebook]]  # which is trained
    kept: ClassVar[type[PackedRows]]  # for inference

    def _hold(self, sizes: CodeSizes, mirror: ProductMirror | ResidualMirror) -> None:
        """Take codebooks, and codes of all rows that are drawn by torch's generator."""
        self.sizes = sizes
        self.mirror = mirror
        self.codes: Tensor
        codes = torch.randint(sizes.ksub, (self.num_embeddings, sizes.M), dtype=torch.uint8)
        self.register_buffer("codes", codes)

    def rows(self, ids: Tensor) -> Tensor:
        """Return rows (m, d) of ids (m,)."""
        return self.mirror.decode(self.codes[ids])

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays that are needed at inference."""
        codes = self.num_embeddings * code_bytes(self.sizes.M, self.sizes.nbits)
        return codes + FLOAT * self.mirror.codebooks.numel()

    def form(self) -> PackedRows:
        """Return the arrays for inference."""
        codes = packed(inference_array(self.codes), self.sizes.nbits)
        return self.kept(self.num_embeddings, self.embedding_dim, codes, inference_array(self.mirror.codebooks))

    def approximate(self, weight: np.ndarray, *, frequencies: np.ndarray | None = None, seed: int = 0) -> None:
        """Train the codebooks on the rows and code them."""
        rows = training_sample(weight, frequencies, seed)
        trained = self.codebook.train(rows, M=self.sizes.M, nbits=self.sizes.nbits, seed=seed, threads=1)
        set_(self.mirror.codebooks, trained.codebooks)
        set_(self.codes, trained.encode(weight, threads=1))


def training_sample(weight: np.ndarray, frequencies: np.ndarray | None, seed: int) -> np.ndarray:
    """Return rows to train codebooks on: all, or drawn in proportion to the square root of their frequency.

    Frequent rows then shape the codebooks most, without rare ones being lost: the square root is a compromise.
    """
    if frequencies is None or not frequencies.any():
        return weight
    share = np.sqrt(frequencies)
    rng = np.random.default_rng(seed)
    drawn = rng.choice(len(weight), min(max(len(weight), 4096), SAMPLE), p=share / share.sum())
    return weight[np.concatenate([drawn, rng.permutation(len(weight))[: len(drawn) // 4]])]
