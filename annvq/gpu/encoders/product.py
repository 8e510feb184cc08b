"""Product codes of vectors on a device: the nearest entries, or score-aware ones."""

from __future__ import annotations

import numpy as np
import torch

from annvq.codebooks import ProductCodebook
from annvq.codebooks.anisotropic import ROUNDS
from annvq.gpu.kernels.encode_aware import encode_aware, scale_to_unit
from annvq.gpu.kernels.label_sub_vectors import label_sub_vectors
from annvq.gpu.kernels.shape_noise import divide_by_lengths, shape_noise
from annvq.gpu.launch import launch
from annvq.gpu.training.subspaces import ENTRIES, ROWS
from annvq.gpu.upload import uploaded
from annvq.kernels.clusters.aware4 import LEAST
from annvq.kernels.codes.encode import product_sites

_SHAPED = 64  # vectors of a program that shapes noise
_SMALL = (16, 2)  # entries and dimensions of the sub-spaces whose score-aware codes have a kernel of their own


class ProductEncoder:
    """Encodes vectors as `ProductCodebook.encode_trusted` does."""

    def __init__(self, codebook: ProductCodebook, device: torch.device) -> None:
        M, ksub, dsub = codebook.codebooks.shape
        self._shape, self._eta = (M, ksub, dsub), codebook.anisotropic_eta
        sites = product_sites(codebook.codebooks)
        self._entries, self._shift, self._bias = (uploaded(np.asarray(one), device) for one in sites)
        self._spaces = torch.arange(M, device=device)

    def encode(self, rows: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
        """Return codes (n, M) uint8 of rows (n, d) float32; errors along ``directions`` (n, d) may weigh more."""
        (n, _), (M, ksub, dsub), device = rows.shape, self._shape, rows.device
        points = (_padded(rows, M * dsub) - self._shift).T.contiguous()
        codes = torch.empty((M, n), dtype=torch.uint8, device=device)
        programs = -(-n // ROWS)
        if self._eta is not None and (ksub, dsub) == _SMALL:
            self._fill_small(points, directions, codes)
            return codes.T.contiguous()
        launch(
            label_sub_vectors, (programs, M), points, n, dsub, self._spaces, self._entries, self._bias, ksub, codes,
            points, self._spaces, TRAINING=False, ROWS=ROWS, ENTRIES=ENTRIES,
        )  # fmt: skip
        if self._eta is not None:
            units = torch.zeros_like(points)
            launch(divide_by_lengths, programs, directions.T.contiguous(), n, directions.shape[1], units, ROWS=ROWS)
            launch(
                shape_noise, -(-n // _SHAPED), points, units, n, M, self._entries, self._bias, ksub, dsub,
                float(np.float32(self._eta) - np.float32(1.0)), ROUNDS, codes, ROWS=_SHAPED, ENTRIES=ENTRIES,
            )  # fmt: skip
        return codes.T.contiguous()

    def _fill_small(self, points: torch.Tensor, directions: torch.Tensor, codes: torch.Tensor) -> None:
        """Write score-aware codes (M, n) of 4 bits for two dimensions each."""
        (M, n), units = codes.shape, torch.zeros_like(points)
        programs, weight = -(-n // ROWS), np.float32(0.5) * (np.float32(1.0) - np.float32(self._eta))
        launch(
            scale_to_unit, programs, directions.T.contiguous(), n, directions.shape[1], units, float(LEAST), ROWS=ROWS
        )
        launch(
            encode_aware, programs, points, units, n, M, self._entries, self._bias, float(weight), ROUNDS,
            torch.empty((M, n), dtype=torch.float32, device=points.device), codes, ROWS=ROWS,
        )  # fmt: skip


def _padded(rows: torch.Tensor, width: int) -> torch.Tensor:
    return torch.nn.functional.pad(rows, (0, width - rows.shape[1]))
