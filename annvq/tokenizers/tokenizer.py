"""The interface of all quantizers, which checks shapes, masks, dtypes and NaN in one place."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from annvq.arguments import as_count
from annvq.errors import DtypeError, NonFiniteError, ParameterError, ShapeError
from annvq.learn.runtime import torch
from annvq.tokenizers.projection import least_dtype
from annvq.tokenizers.quantized import MASKED, Quantized, bits_of, usage_of

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


class Tokenizer(torch.nn.Module):
    """The base class of all quantizers, which turn vectors into codes and back.

    A quantizer implements `quantize`, `assign` and `lookup` on rows (n, dim), where n may be 0.

    Parameters
    ----------
    dim
        Dimension of the vectors.
    codebook_size
        Number of codes in the codebook; with several codebooks, in each of them.
    num_codebooks
        M, the length of the codes' last axis; None for one code per vector and no such axis.

    Raises
    ------
    ParameterError
        In the constructors of all quantizers: an argument is outside its range, or of another kind.

    """

    def __init__(self, dim: int, codebook_size: int, num_codebooks: int | None = None) -> None:
        super().__init__()
        self.dim = as_count("dim", dim)
        self.codebook_size = as_count("codebook_size", codebook_size)
        self.num_codebooks = None if num_codebooks is None else as_count("num_codebooks", num_codebooks)

    @property
    def bits_per_vector(self) -> float:
        """Bits that the codes of one vector hold."""
        return (self.num_codebooks or 1) * bits_of(self.codebook_size)

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        """Quantize vectors.

        Parameters
        ----------
        z
            (batch, ..., dim) of any float dtype. Scores, losses and codebooks are float32 (float64 if z is), even under
            autocast; z_q comes back in z's dtype.
        mask
            (batch, ...) bool, False where there is no vector (see `mask_of_lengths`): there, z may hold anything, z_q
            is 0, codes are -1, and losses and statistics ignore it.

        Raises
        ------
        ShapeError, DtypeError, NonFiniteError
            z or mask of another shape or dtype; NaN or infinity in a vector that is not masked.

        """
        rows, keep = self._rows(z, mask)
        with torch.autocast(z.device.type, enabled=False):
            z_q, codes, loss, stats = self.quantize(rows)
            stats = {name: value.detach() for name, value in stats.items()} | self._usage(codes)
        z_q, codes = spread(z_q.to(z.dtype), keep, 0.0), spread(codes, keep, MASKED)
        return Quantized(z_q.reshape(z.shape), self._codes_of(codes, z.shape), loss, stats)

    @torch.no_grad()
    def encode(self, z: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the codes of `forward` in eval mode, int64; no statistics change. Parameters as of `forward`."""
        rows, keep = self._rows(z, mask)
        with torch.autocast(z.device.type, enabled=False):
            codes = self.assign(rows)
        return self._codes_of(spread(codes, keep, MASKED), z.shape)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the vectors (batch, ..., dim) that codes stand for: z_q of `forward` in eval mode.

        Parameters
        ----------
        codes
            As `forward` returns them, of any integer dtype. If all codes of a vector are -1, it is 0.

        Raises
        ------
        ShapeError, DtypeError, ParameterError
            These are not codes of this quantizer: another number of codebooks, not integers, or out of range.

        """
        flat, shape = self.flat_codes(codes)
        keep = flat >= 0 if flat.ndim == 1 else (flat >= 0).any(1)
        keep = None if bool(keep.all()) else keep
        with torch.autocast(codes.device.type, enabled=False):
            z_q = self.lookup(flat if keep is None else flat[keep])
        return spread(z_q, keep, 0.0).reshape(*shape, self.dim)

    def flat_codes(self, codes: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """Return checked codes as (n,) or (n, M) int64, and the shape (batch, ...) that they had.

        ShapeError, DtypeError and ParameterError are raised as by `decode`.
        """
        if not is_integers(codes):
            kind = codes.dtype if isinstance(codes, torch.Tensor) else type(codes).__name__
            raise DtypeError(f"codes: {kind}, expected a torch tensor of an integer dtype")
        shape, wanted = tuple(codes.shape), self.num_codebooks
        if wanted is not None:
            if not shape or shape[-1] != wanted:
                raise ShapeError(f"codes: shape {shape}, expected (batch, ..., {wanted})")
            shape = shape[:-1]
        codes = codes.long()
        if codes.numel() and not (codes.min() >= MASKED and codes.max() < self.codebook_size):
            raise ParameterError(
                f"codes from {int(codes.min())} to {int(codes.max())}, expected 0 to {self.codebook_size - 1}, "
                f"or {MASKED} for none"
            )
        return codes.reshape(-1) if wanted is None else codes.reshape(-1, wanted), shape

    @property
    def column_size(self) -> int:
        """The most codes of a column, see `code_columns`."""
        return self.codebook_size

    def code_columns(self, codes: Tensor) -> Tensor:
        """Return codes (n,) or (n, M) as columns (n, C), for each of which `column_tables` has a table."""
        return codes[:, None] if codes.ndim == 1 else codes

    @torch.no_grad()
    def column_tables(self) -> list[Tensor]:
        """Return C tables (k, dim) float: a vector is the sum of its columns' rows."""
        codes = torch.arange(self.codebook_size, device=self._device())
        if self.num_codebooks is None:
            return [self.lookup(codes)]
        alone = torch.full((self.num_codebooks, self.codebook_size, self.num_codebooks), MASKED, device=codes.device)
        for column in range(self.num_codebooks):
            alone[column, :, column] = codes
        return [self.lookup(column) for column in alone]

    def _device(self) -> torch.device:
        first = next(chain(self.parameters(), self.buffers()), None)
        return torch.device("cpu") if first is None else first.device

    def quantize(self, rows: Tensor) -> Quantized:
        """Do what `forward` does for unmasked rows (n, dim); the statistics need not include the use of the codes."""
        raise NotImplementedError

    def assign(self, rows: Tensor) -> Tensor:
        """Return the codes (n,) or (n, M) of rows (n, dim)."""
        raise NotImplementedError

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the rows (n, dim) that codes (n,) or (n, M) stand for; some, not all, of M may be -1."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Return what the module's repr shows."""
        several = "" if self.num_codebooks is None else f", num_codebooks={self.num_codebooks}"
        return f"dim={self.dim}, codebook_size={self.codebook_size}{several}"

    def _usage(self, codes: Tensor) -> dict[str, Tensor]:
        return usage_of(codes, self.codebook_size)

    def _codes_of(self, codes: Tensor, shape: Any) -> Tensor:
        return codes.reshape(shape[:-1] if self.num_codebooks is None else (*shape[:-1], self.num_codebooks))

    def _rows(self, z: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return the vectors that are not masked (n, dim) and, with a mask, which those are."""
        if not isinstance(z, torch.Tensor) or not z.is_floating_point():
            kind = z.dtype if isinstance(z, torch.Tensor) else type(z).__name__
            raise DtypeError(f"z: {kind}, expected a torch tensor of a float dtype")
        if z.ndim < 2 or z.shape[-1] != self.dim:
            raise ShapeError(f"z: shape {tuple(z.shape)}, expected (batch, ..., {self.dim})")
        rows = z.reshape(-1, self.dim)
        keep = None
        if mask is not None:
            if not isinstance(mask, torch.Tensor) or mask.dtype != torch.bool:
                kind = mask.dtype if isinstance(mask, torch.Tensor) else type(mask).__name__
                raise DtypeError(f"mask: {kind}, expected a torch tensor of torch.bool")
            if mask.shape != z.shape[:-1]:
                raise ShapeError(f"mask: shape {tuple(mask.shape)}, expected {tuple(z.shape[:-1])}")
            keep = mask.reshape(-1)
            rows = rows[keep]
        rows = rows.to(least_dtype(z))
        finite = torch.isfinite(rows).all(1)
        if not finite.all():
            bad = int((~finite).sum())
            raise NonFiniteError(f"z holds NaN or infinity in {bad} of {len(rows)} vectors; expected finite numbers")
        return rows, keep


def mask_of_lengths(lengths: Tensor, most: int) -> Tensor:
    """Return the mask (batch, most) of sequences of these lengths (batch,): True where there is a vector.

    Raises
    ------
    DtypeError, ParameterError
        The lengths are no tensor of integers, or not all from 0 to ``most``.

    """
    if not is_integers(lengths):
        raise DtypeError("lengths: expected a torch tensor of an integer dtype")
    if lengths.numel() and not (lengths.min() >= 0 and lengths.max() <= most):
        found = f"lengths from {int(lengths.min())} to {int(lengths.max())}"
        raise ParameterError(f"{found}, but sequences have 0 to {most} places")
    return torch.arange(most, device=lengths.device) < lengths[:, None]


def is_integers(values: Any) -> bool:
    """Return whether values are a tensor of an integer dtype."""
    is_tensor = isinstance(values, torch.Tensor)
    return is_tensor and not (values.is_floating_point() or values.is_complex() or values.dtype == torch.bool)


def table_rows(table: Tensor, codes: Tensor) -> Tensor:
    """Return rows (n, d), at least float32, of a table (k, d) for codes (n,); the row of a code -1 is 0."""
    if not codes.numel() or codes.min() >= 0:
        return table[codes].to(least_dtype(table))
    return table[codes.clamp_min(0)].to(least_dtype(table)) * (codes >= 0)[:, None]


def spread(rows: Tensor, keep: Tensor | None, fill: float) -> Tensor:
    """Put kept rows back in their places and fill the others; ``keep`` None keeps all."""
    if keep is None:
        return rows
    whole = rows.new_full((len(keep), *rows.shape[1:]), fill)
    return whole.masked_scatter(keep.reshape(-1, *(1,) * (rows.ndim - 1)).expand_as(whole), rows)


def array_of_table(table: Tensor) -> np.ndarray:
    """Return a read-only float32 copy of a tensor."""
    array = table.detach().to("cpu", torch.float32).numpy().copy()
    array.flags.writeable = False
    return array
