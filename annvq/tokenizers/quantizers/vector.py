"""VectorQuantizer: one codebook, learned by moving averages or by gradients (VQ-VAE)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from annvq.codebooks import KMeans
from annvq.errors import ParameterError
from annvq.learn.runtime import torch
from annvq.tokenizers.choosing.nearest import CodeSearch
from annvq.tokenizers.kinds import check_kind
from annvq.tokenizers.projection import Projection, least_dtype
from annvq.tokenizers.quantized import Quantized
from annvq.tokenizers.tokenizer import Tokenizer, array_of_table
from annvq.tokenizers.training.learning import PLAIN, Learning
from annvq.tokenizers.training.losses import squared_error
from annvq.tokenizers.training.updates import EMA, Gradient, add_batch

if TYPE_CHECKING:
    from torch import Tensor


class VectorQuantizer(Tokenizer):
    """The nearest of k codes represents a vector (van den Oord, Vinyals and Kavukcuoglu 2017).

    In training mode `forward` also moves the codebook (`EMA`) and revives codes; in eval mode nothing changes.

    Parameters
    ----------
    dim, codebook_size
        Dimension of the vectors, and number of codes.
    learning
        How the codebook is learned.
    code_dim
        Dimension of the codes, between two linear maps; None for that of the vectors.

    Examples
    --------
    >>> import torch
    >>> from annvq.tokenizers import KMeansStart, Learning, Revival, VectorQuantizer
    >>> quantizer = VectorQuantizer(64, 256, Learning(start=KMeansStart(), revival=Revival()))
    >>> z_q, codes, loss, stats = quantizer(torch.randn(2, 200, 64))
    >>> torch.equal(quantizer.eval().decode(codes), quantizer.codebook[codes])
    True

    """

    def __init__(
        self, dim: int, codebook_size: int, learning: Learning = PLAIN, *, code_dim: int | None = None
    ) -> None:
        super().__init__(dim, codebook_size)
        check_kind("learning", learning, Learning)
        self.learning = learning
        self.projection = Projection(self.dim, self.dim if code_dim is None else code_dim)
        width = self.projection.code_dim
        self.codebook: Tensor
        self.counts: Tensor | None
        self.sums: Tensor | None
        self.started: Tensor
        codebook = torch.randn(self.codebook_size, width) / width**0.5
        if isinstance(learning.update, Gradient):
            self.codebook = torch.nn.Parameter(codebook)
        else:
            self.register_buffer("codebook", codebook)
        is_average = isinstance(learning.update, EMA)
        has_counts = is_average or learning.revival is not None
        self.register_buffer("counts", torch.ones(self.codebook_size) if has_counts else None)
        self.register_buffer("sums", codebook.clone() if is_average else None)
        self.register_buffer("started", torch.tensor(learning.start is None))
        self._search = CodeSearch(learning.exact)

    def codes_table(self) -> Tensor:
        """Return the codes (k, code_dim) as they are compared and looked up."""
        return self._as_codes(self.codebook)

    def quantize(self, rows: Tensor) -> Quantized:
        """Quantize rows (n, dim); see `Tokenizer`."""
        learning, x = self.learning, self._inward(rows)
        if self.training:
            self._prepare(x)
        codes = self._choose(x.detach())
        q = self._as_codes(self.codebook[codes].to(x.dtype))
        loss, stats = self._losses(x, q)
        z_q = self.projection.up(learning.estimator(x, q.detach()))
        if self.training:
            self._follow(x.detach(), codes)
        return Quantized(z_q, codes, loss, stats)

    def assign(self, rows: Tensor) -> Tensor:
        """Return the nearest codes (n,) of rows (n, dim)."""
        x = self._inward(rows)
        return self._search(x, self._as_codes(self.codebook.to(x.dtype)), moving=self.training)

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the rows (n, dim) of codes (n,); the row of a code -1 is 0."""
        found = self._as_codes(self.codebook[codes.clamp_min(0)].to(least_dtype(self.codebook)))
        return self.projection.up(found) * (codes >= 0)[:, None]

    @classmethod
    def from_codebook(cls, codebook: KMeans, learning: Learning = PLAIN) -> VectorQuantizer:
        """Return a quantizer whose codes are the centroids of a k-means."""
        centroids = nearest_centroids(codebook)
        made = cls(codebook.dim, codebook.k, learning)
        made.set_codes(centroids)
        return made

    def to_codebook(self) -> KMeans:
        """Return the codes as k-means' centroids (ParameterError if they have another dimension)."""
        if self.projection.inward is not None:
            raise ParameterError("codes behind a projection are nearest in code_dim, not in dim: no codebook is alike")
        return KMeans(array_of_table(self.codes_table()))

    @torch.no_grad()
    def set_codes(self, codes: np.ndarray) -> None:
        """Take codes (k, code_dim) (ParameterError for another shape); moving averages and use counts are reset."""
        if codes.shape != tuple(self.codebook.shape):
            raise ParameterError(f"codes of shape {codes.shape}, expected {tuple(self.codebook.shape)}")
        self._start_at(torch.tensor(codes, dtype=torch.float32))

    def _inward(self, rows: Tensor) -> Tensor:
        return self._as_codes(self.projection.down(rows))

    def _as_codes(self, values: Tensor) -> Tensor:
        return torch.nn.functional.normalize(values, dim=-1) if self.learning.cosine else values

    def _choose(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            table = self._as_codes(self.codebook.to(x.dtype))
            if self.training:
                return self.learning.choice.choose(x, table, self._search)
            return self._search(x, table)

    def _losses(self, x: Tensor, q: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        learning = self.learning
        commitment = squared_error(x, q.detach())
        stats = {"commitment": commitment}
        loss = learning.commitment * commitment
        if isinstance(learning.update, Gradient):
            loss = loss + learning.update.weight * squared_error(x.detach(), q)
        if learning.entropy is not None:
            stats["entropy"] = learning.entropy.of_codes(x, self._as_codes(self.codebook.to(x.dtype)))
            loss = loss + stats["entropy"]
        return loss, stats

    @torch.no_grad()
    def _prepare(self, x: Tensor) -> None:
        """Start the codebook at a first batch, and revive codes that died before this one."""
        if self.learning.start is not None and not self.started:
            codes = self.learning.start.codes(x, self.codebook_size)
            if codes is not None:
                self._start_at(codes)
        elif self.learning.revival is not None:
            assert self.counts is not None
            self.learning.revival.revive(self.counts, self.sums, self.codebook, x)

    def _start_at(self, codes: Tensor) -> None:
        self.codebook.copy_(codes)
        self.started.fill_(True)
        if self.counts is not None:
            self.counts.fill_(1.0)
        if self.sums is not None:
            self.sums.copy_(self.codebook)

    @torch.no_grad()
    def _follow(self, x: Tensor, codes: Tensor) -> None:
        """Update moving averages and use counts with a batch."""
        learning = self.learning
        if self.counts is None:
            return
        if isinstance(learning.update, EMA):
            assert self.sums is not None
            learning.update.step(self.counts, self.sums, self.codebook, x, codes)
            if learning.cosine:
                self.codebook.copy_(self._as_codes(self.codebook))
        else:
            assert learning.revival is not None
            add_batch(self.counts, None, x, codes, learning.revival.decay)


def nearest_centroids(codebook: KMeans) -> np.ndarray:
    """Return the centroids (k, d) of a k-means whose nearest ones are chosen (ParameterError for another)."""
    check_kind("codebook", codebook, KMeans)
    if codebook.metric != "l2":
        raise ParameterError(f"codes are chosen by distance, not by the metric {codebook.metric!r}: see IBQ")
    return codebook.centroids
