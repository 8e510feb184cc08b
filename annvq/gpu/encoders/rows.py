"""Rows of floats, of 8-bit and 4-bit scalars and of bits, of vectors on a device."""

from __future__ import annotations

import numpy as np
import torch

from annvq.codebooks import ScalarCodebook
from annvq.errors import NonFiniteError
from annvq.gpu.upload import uploaded
from annvq.index.codes.bits import PackedBits
from annvq.index.codes.rowstore import RowStore


class ScalarEncoder:
    """Encodes vectors as `ScalarCodebook.encode_trusted` does."""

    def __init__(self, codebook: ScalarCodebook, device: torch.device) -> None:
        self._minimum = uploaded(np.asarray(codebook.minimum), device)
        self._inverse, self._top = uploaded(np.asarray(codebook.inverse), device), float(codebook.top)

    def encode(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return codes (n, d) uint8 of vectors (n, d) float32."""
        levels = torch.floor((vectors - self._minimum) * self._inverse + 0.5)
        return levels.clamp(0.0, self._top).to(torch.uint8)


class RowEncoder:
    """Encodes vectors as `RowStore.encode` does."""

    def __init__(self, store: RowStore, device: torch.device) -> None:
        self._store = store
        self._scalar = None if store.scalar is None else ScalarEncoder(store.scalar, device)

    def encode(self, vectors: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the rows of vectors (n, d) float32 (NonFiniteError beyond the range of float16)."""
        if self._scalar is not None:
            return {self._store.section: self._scalar.encode(vectors)}
        if self._store.kind == "fp32":
            return {self._store.section: vectors}
        rows = vectors.half()
        if len(rows) and not bool(torch.isfinite(rows).all()):
            largest = float(vectors.abs().max())
            raise NonFiniteError(f"float16 holds values up to 65504, the largest given is {largest:g}: use fp32")
        return {self._store.section: rows}


class BitEncoder:
    """Encodes vectors of 0 and 1 as `PackedBits.encode` does."""

    def __init__(self, codes: PackedBits, device: torch.device) -> None:
        self._width = codes.width
        self._weights = torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.int32, device=device)

    def encode(self, vectors: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the bits of vectors (n, d) float32, the first of a byte in its highest bit."""
        n, d = vectors.shape
        bits = torch.nn.functional.pad((vectors > 0.5).to(torch.int32), (0, 8 * self._width - d))
        bytes_ = (bits.reshape(n, self._width, 8) * self._weights).sum(dim=2, dtype=torch.int32)
        return {"codes": bytes_.to(torch.uint8)}
