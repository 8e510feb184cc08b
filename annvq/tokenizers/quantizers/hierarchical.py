"""HierarchicalVQ: one code for a window, and one for each place in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from annvq.arguments import as_count
from annvq.errors import ShapeError
from annvq.learn.runtime import torch
from annvq.tokenizers.quantized import MASKED, Quantized, bits_of, mean_of
from annvq.tokenizers.quantizers.vector import VectorQuantizer
from annvq.tokenizers.tokenizer import Tokenizer, spread
from annvq.tokenizers.training.learning import PLAIN, Learning

if TYPE_CHECKING:
    from torch import Tensor


class HierarchicalVQ(Tokenizer):
    """Two levels, as in VQ-VAE-2 (Razavi, van den Oord and Vinyals 2019, section 3.1), in residual form.

    The top level quantizes the mean of each window of factor^axes places, the bottom level the residual at each place.
    Codes are (batch, ..., 2), top and bottom; a window's top code stands at each of its places, so that every place
    decodes by itself. Windows at the border may be smaller, and masked places do not count.

    Parameters
    ----------
    dim, codebook_size
        Dimension of the vectors, and number of codes of each level.
    learning
        How each codebook is learned; its estimator passes the gradient once, through the sum.
    axes
        Number of axes of the grid: z is (batch, ..., dim) with this many axes in between.
    factor
        Length of a window along each of them, at least 2.

    Examples
    --------
    >>> import torch
    >>> quantizer = annvq.tokenizers.HierarchicalVQ(32, 64, axes=2, factor=2)
    >>> z = torch.randn(2, 8, 8, 32)
    >>> z_q, codes, loss, stats = quantizer(z)
    >>> codes.shape
    torch.Size([2, 8, 8, 2])

    """

    def __init__(
        self, dim: int, codebook_size: int, learning: Learning = PLAIN, *, axes: int = 2, factor: int = 2
    ) -> None:
        super().__init__(dim, codebook_size, num_codebooks=2)
        self.axes = as_count("axes", axes)
        self.factor = as_count("factor", factor, least=2)
        self.top = VectorQuantizer(dim, codebook_size, learning)
        self.bottom = VectorQuantizer(dim, codebook_size, learning)
        self.estimator = learning.estimator

    @property
    def bits_per_vector(self) -> float:
        """Bits per place: a bottom code and its share of a top code, for whole windows."""
        return bits_of(self.codebook_size) * (1 + self.factor**-self.axes)

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        """Quantize vectors (batch, ..., dim) on a grid; see `Tokenizer.forward`."""
        rows, keep = self._on_grid(z, mask)
        with torch.autocast(z.device.type, enabled=False):
            means, present = self._means(rows, keep, z)
            top = self.top.quantize(means[present])
            above = self._at_places(spread(top.z_q.detach(), present, 0.0), z, keep)
            bottom = self.bottom.quantize(rows - above)
            z_q = self.estimator(rows, above + bottom.z_q.detach())
            columns = [self._at_places(spread(top.codes, present, MASKED), z, keep), bottom.codes]
            codes, stats = torch.stack(columns, 1), mean_of([top.stats, bottom.stats])
            stats = {name: value.detach() for name, value in stats.items()} | self._usage(codes)
        whole = spread(z_q.to(z.dtype), keep, 0.0).reshape(z.shape)
        return Quantized(whole, self._codes_of(spread(codes, keep, MASKED), z.shape), top.loss + bottom.loss, stats)

    @torch.no_grad()
    def encode(self, z: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the codes of `forward` in eval mode, (batch, ..., 2) int64."""
        rows, keep = self._on_grid(z, mask)
        with torch.autocast(z.device.type, enabled=False):
            means, present = self._means(rows, keep, z)
            top = self._at_places(spread(self.top.assign(means[present]), present, MASKED), z, keep)
            bottom = self.bottom.assign(rows - self.top.lookup(top))
        return self._codes_of(spread(torch.stack([top, bottom], 1), keep, MASKED), z.shape)

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the rows (n, dim) of codes (n, 2); a level of code -1 adds nothing."""
        return self.top.lookup(codes[:, 0]) + self.bottom.lookup(codes[:, 1])

    def _on_grid(self, z: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        rows, keep = self._rows(z, mask)
        if z.ndim != self.axes + 2:
            raise ShapeError(f"z: shape {tuple(z.shape)}, expected (batch, {self.axes} axes, {self.dim})")
        return rows, keep

    def _means(self, rows: Tensor, keep: Tensor | None, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean of each window (windows, dim), and which windows have a place that counts."""
        shape = z.shape[:-1]
        places = rows.new_ones(len(rows)) if keep is None else keep.to(rows.dtype)
        counts = self._window_sums(places.reshape(*shape, 1))
        sums = self._window_sums(spread(rows, keep, 0.0).reshape(*shape, self.dim))
        return sums / counts.clamp_min(1), counts[:, 0] > 0

    def _window_sums(self, grid: Tensor) -> Tensor:
        """Return the sums of windows (windows, d) of a grid (batch, ..., d)."""
        lengths, width = grid.shape[1:-1], grid.shape[-1]
        missing = [amount for length in reversed(lengths) for amount in (0, -length % self.factor)]
        padded = torch.nn.functional.pad(grid, (0, 0, *missing))
        split = [size for length in self._windows(lengths) for size in (length, self.factor)]
        inside = tuple(range(2, 2 + 2 * self.axes, 2))
        return padded.reshape(len(grid), *split, width).sum(inside).reshape(-1, width)

    def _at_places(self, windows: Tensor, z: Tensor, keep: Tensor | None) -> Tensor:
        """Return for each place that counts what its window has, of (windows, ...)."""
        lengths = z.shape[1:-1]
        grid = windows.reshape(len(z), *self._windows(lengths), *windows.shape[1:])
        for axis, length in enumerate(lengths, 1):
            grid = grid.repeat_interleave(self.factor, axis).narrow(axis, 0, length)
        places = grid.reshape(-1, *windows.shape[1:])
        return places if keep is None else places[keep]

    def _windows(self, lengths: torch.Size) -> list[int]:
        return [-(-length // self.factor) for length in lengths]
