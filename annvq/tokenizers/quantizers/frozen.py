"""KMeansTokenizer: k-means over features of a frozen encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from annvq.codebooks import KMeans
from annvq.errors import StateError
from annvq.learn.runtime import torch
from annvq.tokenizers.choosing.nearest import CodeSearch
from annvq.tokenizers.quantized import Quantized
from annvq.tokenizers.quantizers.vector import nearest_centroids
from annvq.tokenizers.tokenizer import Tokenizer, array_of_table, table_rows
from annvq.vectors import as_matrix

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


class KMeansTokenizer(Tokenizer):
    """Codes are the centroids of a k-means, fitted once (Zhu et al. 2024 (DiGIT)).

    Nothing is learned by gradients: z_q carries none, and the loss is 0.

    Parameters
    ----------
    dim, codebook_size
        Dimension of the vectors, and number of codes.
    exact
        Whether all codes are compared, see `annvq.tokenizers.choosing.nearest.CodeSearch`.

    Examples
    --------
    >>> import torch
    >>> features = torch.randn(500, 16)
    >>> tokenizer = annvq.tokenizers.KMeansTokenizer(16, 64).fit(features)
    >>> tokenizer(features).codes.shape
    torch.Size([500])

    """

    def __init__(self, dim: int, codebook_size: int, *, exact: bool | None = None) -> None:
        super().__init__(dim, codebook_size)
        self.codebook: Tensor
        self.fitted: Tensor
        self.register_buffer("codebook", torch.zeros(self.codebook_size, self.dim))
        self.register_buffer("fitted", torch.tensor(False))
        self._search = CodeSearch(exact)

    def fit(self, features: Any, *, niter: int = 25, seed: int = 0, sample: int | None = None) -> KMeansTokenizer:
        """Fit the codes to features (n, dim), n at least codebook_size, and return this tokenizer.

        Parameters
        ----------
        features
            What `annvq.vectors.as_matrix` accepts.
        niter, seed, sample
            As for `annvq.codebooks.KMeans.train`.

        """
        vectors, threads = as_matrix(features, dim=self.dim, name="features"), torch.get_num_threads()
        made = KMeans.train(vectors, self.codebook_size, niter=niter, seed=seed, sample=sample, threads=threads)
        return self._take(made.centroids)

    @classmethod
    def from_codebook(cls, codebook: KMeans) -> KMeansTokenizer:
        """Return a tokenizer whose codes are centroids."""
        centroids = nearest_centroids(codebook)
        return cls(codebook.dim, codebook.k)._take(centroids)

    def to_codebook(self) -> KMeans:
        """Return the codes as k-means' centroids."""
        self._check()
        return KMeans(array_of_table(self.codebook))

    @torch.no_grad()
    def quantize(self, rows: Tensor) -> Quantized:
        """Quantize rows (n, dim); see `Tokenizer`."""
        codes = self.assign(rows)
        return Quantized(self.codebook.to(rows.dtype)[codes], codes, rows.new_zeros(()), {})

    def assign(self, rows: Tensor) -> Tensor:
        """Return the nearest codes (n,) of rows (n, dim)."""
        self._check()
        return self._search(rows, self.codebook.to(rows.dtype))

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the rows (n, dim) of codes (n,); the row of a code -1 is 0."""
        self._check()
        return table_rows(self.codebook, codes)

    def _check(self) -> None:
        if not self.fitted:
            raise StateError("a KMeansTokenizer that is not fitted: call fit(features) first")

    @torch.no_grad()
    def _take(self, centroids: np.ndarray) -> KMeansTokenizer:
        self.codebook.copy_(torch.tensor(centroids))
        self.fitted.fill_(True)
        return self
