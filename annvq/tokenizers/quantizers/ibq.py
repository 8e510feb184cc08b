"""IBQ: gradients reach all codes through the index."""

from __future__ import annotations

from typing import TYPE_CHECKING

from annvq.arguments import as_number, as_weight
from annvq.codebooks import KMeans
from annvq.errors import ParameterError
from annvq.learn.runtime import torch
from annvq.tokenizers.choosing.blocked import entropies, indexed, noise_seed
from annvq.tokenizers.choosing.nearest import CodeSearch
from annvq.tokenizers.kinds import check_kind
from annvq.tokenizers.quantized import Quantized
from annvq.tokenizers.tokenizer import Tokenizer, array_of_table, table_rows
from annvq.tokenizers.training.losses import Entropy, squared_error

if TYPE_CHECKING:
    from torch import Tensor


class IBQ(Tokenizer):
    """Index backpropagation quantization (Shi et al. 2024, "Scalable Image Tokenization").

    z_q = one_hot @ codebook, where one_hot is that of the largest inner product, with the gradient of the softmax of
    <z, e> / temperature: every code moves at every step. The batch x codes matrix is never held in memory.

    Parameters
    ----------
    dim, codebook_size
        Dimension of the vectors, and number of codes.
    temperature
        Above 0.
    gumbel
        Draw the code in training, by Gumbel noise on the logits: the straight-through Gumbel-softmax (Jang, Gu and
        Poole 2017).
    commitment
        Weight of mean |z - sg(z_q)|^2 beside mean |sg(z) - z_q|^2, at least 0.
    entropy
        `Entropy` of the softmax as a loss, computed at its own temperature; None for none.
    exact
        Whether all codes are compared in eval mode, see `annvq.tokenizers.choosing.nearest.CodeSearch`.

    Examples
    --------
    >>> import torch
    >>> quantizer = annvq.tokenizers.IBQ(32, 256)
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
        temperature: float = 1.0,
        gumbel: bool = False,
        commitment: float = 0.25,
        entropy: Entropy | None = None,
        exact: bool | None = None,
    ) -> None:
        super().__init__(dim, codebook_size)
        self.temperature = as_number("temperature", temperature, above=0)
        self.gumbel = bool(gumbel)
        self.commitment = as_weight("commitment", commitment)
        check_kind("entropy", entropy, Entropy, type(None))
        self.entropy = entropy
        self.codebook = torch.nn.Parameter(torch.randn(self.codebook_size, self.dim) / self.dim**0.5)
        self._search = CodeSearch(exact)

    def quantize(self, rows: Tensor) -> Quantized:
        """Quantize rows (n, dim); see `Tokenizer`."""
        codebook = self.codebook.to(rows.dtype)
        if self.training:
            seed = noise_seed() if self.gumbel else None
            q, codes = indexed(rows, codebook / self.temperature, self._no_bias(codebook), codebook, seed)
        else:
            codes = self.assign(rows)
            q = codebook[codes]
        stats = {"commitment": squared_error(rows, q.detach())}
        loss = squared_error(rows.detach(), q) + self.commitment * stats["commitment"]
        if self.entropy is not None:
            found = entropies(rows, codebook / self.entropy.temperature, self._no_bias(codebook))
            stats["entropy"] = self.entropy.weighted(*found)
            loss = loss + stats["entropy"]
        return Quantized(q, codes, loss, stats)

    @torch.no_grad()
    def assign(self, rows: Tensor) -> Tensor:
        """Return the codes (n,) of largest inner product with rows (n, dim)."""
        return self._search(rows, self.codebook.to(rows.dtype), "ip", moving=self.training)

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the rows (n, dim) of codes (n,); the row of a code -1 is 0."""
        return table_rows(self.codebook, codes)

    @classmethod
    def from_codebook(cls, codebook: KMeans) -> IBQ:
        """Return a quantizer that starts at the centroids of a k-means by inner product (ParameterError for others)."""
        check_kind("codebook", codebook, KMeans)
        if codebook.metric != "ip":
            raise ParameterError("IBQ takes the code of largest inner product: expected a KMeans of metric 'ip'")
        made = cls(codebook.dim, codebook.k)
        with torch.no_grad():
            made.codebook.copy_(torch.tensor(codebook.centroids))
        return made

    def to_codebook(self) -> KMeans:
        """Return the codes as k-means' centroids of metric "ip"."""
        return KMeans(array_of_table(self.codebook), "ip")

    def _no_bias(self, codebook: Tensor) -> Tensor:
        return codebook.new_zeros(len(codebook))
