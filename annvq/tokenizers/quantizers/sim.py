"""SimVQ: all codes move together, through one linear layer over a frozen basis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from annvq.arguments import as_weight
from annvq.codebooks import KMeans
from annvq.learn.runtime import torch
from annvq.tokenizers.choosing.nearest import CodeSearch
from annvq.tokenizers.kinds import check_estimator, check_kind
from annvq.tokenizers.projection import least_dtype, linear
from annvq.tokenizers.quantized import Quantized
from annvq.tokenizers.tokenizer import Tokenizer, array_of_table
from annvq.tokenizers.training.estimators import Estimator, straight_through
from annvq.tokenizers.training.losses import squared_error
from annvq.tokenizers.training.start import moments

if TYPE_CHECKING:
    from torch import Tensor


class SimVQ(Tokenizer):
    """Codes are W b_i + a, with b_i frozen and normal (Zhu et al. 2024, "Addressing Representation Collapse").

    Whatever moves one code moves all of them, so that no code is left behind however many there are. The gradient of W
    and a comes from the codes that were chosen.

    Parameters
    ----------
    dim, codebook_size
        Dimension of the vectors, and number of codes.
    commitment
        Weight of mean |z - sg(e)|^2 beside mean |sg(z) - e|^2, at least 0.
    estimator
        `straight_through` or `rotation_trick`.
    start
        Whether the layer is initialized anew at the first training batch of more than dim vectors, so that codes have
        their mean and covariance. Otherwise codes start near the origin, and vectors that lie elsewhere, or spread
        along few directions, use few of them until the layer has caught up.
    exact
        Whether all codes are compared, see `annvq.tokenizers.choosing.nearest.CodeSearch`.

    Examples
    --------
    >>> import torch
    >>> quantizer = annvq.tokenizers.SimVQ(32, 256)
    >>> z = torch.randn(2, 200, 32)
    >>> z_q, codes, loss, stats = quantizer(z)
    >>> codes.shape
    torch.Size([2, 200])

    """

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        *,
        commitment: float = 0.25,
        estimator: Estimator = straight_through,
        start: bool = False,
        exact: bool | None = None,
    ) -> None:
        super().__init__(dim, codebook_size)
        self.commitment = as_weight("commitment", commitment)
        check_estimator(estimator)
        check_kind("start", start, bool)
        self.estimator = estimator
        self.basis: Tensor
        self.register_buffer("basis", torch.randn(self.codebook_size, self.dim) / self.dim**0.5)
        self.layer = torch.nn.Linear(self.dim, self.dim)
        self.start = start
        self.started: Tensor
        self.register_buffer("started", torch.tensor(not start))
        self._search = CodeSearch(exact)

    def quantize(self, rows: Tensor) -> Quantized:
        """Quantize rows (n, dim); see `Tokenizer`."""
        if self.training and self.start and not self.started:
            self._start_at(rows)
        codes = self.assign(rows)
        q = self._codes(self.basis[codes].to(rows.dtype))
        commitment = squared_error(rows, q.detach())
        loss = self.commitment * commitment + squared_error(rows.detach(), q)
        return Quantized(self.estimator(rows, q.detach()), codes, loss, {"commitment": commitment})

    @torch.no_grad()
    def assign(self, rows: Tensor) -> Tensor:
        """Return the nearest codes (n,) of rows (n, dim)."""
        return self._search(rows, self._codes(self.basis.to(rows.dtype)), moving=self.training)

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the rows (n, dim) of codes (n,); the row of a code -1 is 0."""
        basis = self.basis[codes.clamp_min(0)].to(least_dtype(self.basis))
        return self._codes(basis) * (codes >= 0)[:, None]

    def to_codebook(self) -> KMeans:
        """Return the codes as they are now as k-means' centroids."""
        with torch.no_grad():
            return KMeans(array_of_table(self._codes(self.basis.float())))

    @torch.no_grad()
    def _start_at(self, rows: Tensor) -> None:
        found = moments(rows)
        if found is not None:
            mean, root = found
            self.layer.weight.copy_(root * self.dim**0.5)  # the basis has variance 1 / dim
            self.layer.bias.copy_(mean)
            self.started.fill_(True)

    def _codes(self, basis: Tensor) -> Tensor:
        return linear(basis, self.layer)
