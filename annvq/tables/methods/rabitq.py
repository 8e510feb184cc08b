"""RaBitQ codes of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from annvq.arguments import as_count
from annvq.codebooks import RaBitQCodebook
from annvq.learn.parts.mirrors import tensor_of
from annvq.learn.runtime import torch
from annvq.tables.budget import FLOAT, Budget
from annvq.tables.frozen.rabitq import PARTS, RaBitQRows
from annvq.tables.frozen.robe import MOST_SEED
from annvq.tables.method import TableMethod
from annvq.tables.table import inference_array, set_

if TYPE_CHECKING:
    from torch import Tensor


class RaBitQ(TableMethod):
    """1 to 8 bits per dimension of the rotated difference from the mean row, with the factors that the scan needs.

    Nothing in it is trained: it is made from a trained table. Dimensions are padded to a multiple of 64. Source: Gao et
    al. 2024, "Practical and asymptotically optimal quantization of high-dimensional vectors in Euclidean space".

    Rows are random until `approximate` is called. See `TableMethod` for the parameters of all methods.

    Parameters
    ----------
    seed
        Seed of the rotation.

    Raises
    ------
    BudgetError, ParameterError
        The budget is below one bit per dimension and the factors, or arguments are outside their range.

    """

    method: ClassVar[str] = "RaBitQ"

    def _make(self, budget: Budget, std: float, *, seed: int = 0) -> None:
        empty = np.empty((0, budget.d), np.float32)
        as_count("seed", seed, least=0, most=MOST_SEED)
        books = [RaBitQCodebook.train(empty, nbits=nbits, seed=seed) for nbits in range(1, 9)]
        budget.check(self.method, self._bytes_of(books[0]))
        self._codebook = next(book for book in reversed(books) if self._bytes_of(book) <= budget.bytes)
        self.register_buffer("signs", tensor_of(self._codebook.signs))
        rows = (torch.randn(budget.n, budget.d, device="cpu") * std).numpy()
        encoded = self._codebook.encode(rows, threads=1)
        for name in PARTS:
            self.register_buffer(name, tensor_of(encoded[name]))
        self.register_buffer("center", torch.zeros(budget.d))

    def _bytes_of(self, codebook: RaBitQCodebook) -> int:
        n, d = self.num_embeddings, self.embedding_dim
        return n * codebook.code_bytes + codebook.signs.nbytes + FLOAT * d

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays that are needed at inference."""
        return self._bytes_of(self._codebook)

    def rows(self, ids: Tensor) -> Tensor:
        """Return rows (m, d) of ids (m,), decoded on the CPU."""
        encoded = {name: inference_array(getattr(self, name)[ids]) for name in PARTS}
        rows = torch.from_numpy(self._at_hand().decode_trusted(encoded, "ip"))
        return rows.to(self.center) + self.center

    def _at_hand(self) -> RaBitQCodebook:
        """Return the codebook with the rotation that was loaded."""
        return RaBitQCodebook(self.embedding_dim, self._codebook.nbits, inference_array(self.signs))

    def form(self) -> RaBitQRows:
        """Return the arrays for inference."""
        parts = [inference_array(getattr(self, name)) for name in (*PARTS, "center")]
        return RaBitQRows(self.num_embeddings, self.embedding_dim, self._at_hand(), *parts)

    def approximate(self, weight: np.ndarray, *, frequencies: np.ndarray | None = None, seed: int = 0) -> None:
        """Code the rows' differences from their mean."""
        center = weight.mean(axis=0, dtype=np.float64).astype(np.float32)
        encoded = self._at_hand().encode(weight - center, centroids=center[None], threads=1)
        set_(self.center, center)
        for name in PARTS:
            set_(getattr(self, name), encoded[name])
