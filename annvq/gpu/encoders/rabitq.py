"""RaBitQ codes of vectors on a device."""

from __future__ import annotations

import numpy as np
import torch

from annvq.gpu.hadamard import rotated_by_signs
from annvq.gpu.kernels.encode_rabitq import encode_rabitq
from annvq.gpu.launch import launch
from annvq.gpu.upload import uploaded
from annvq.index.codes.rabitq import RaBitQCodes
from annvq.kernels.codes.rabitq import EPSILON, GAUSSIAN_FACTORS, MULTIPLES

_ROWS = 16  # of one program


class RaBitQEncoder:
    """Encodes vectors as `RaBitQCodes.encode` does."""

    def __init__(self, codes: RaBitQCodes, device: torch.device) -> None:
        self._codes, self._codebook = codes, codes.codebook
        self._centroids = uploaded(np.asarray(codes.centroids), device)
        self._rotated = rotated_by_signs(self._centroids, self._codebook.signs).contiguous()
        numbers = np.concatenate([[EPSILON, GAUSSIAN_FACTORS[self._codebook.nbits]], MULTIPLES])
        self._numbers = uploaded(numbers, device)

    def encode(self, rotated: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the sections of vectors (n, d) float32 of the lists ``labels`` (n,) int64."""
        n, D, nbits, device = len(rotated), self._codebook.padded_dim, self._codebook.nbits, rotated.device
        residuals = rotated_by_signs(rotated - self._centroids[labels], self._codebook.signs).contiguous()
        codes = torch.empty((n, D // 32), dtype=torch.int32, device=device)
        others = torch.empty((n, (nbits - 1) * D // 32), dtype=torch.int32, device=device)
        factors = torch.empty((n, self._codebook.factor_columns), dtype=torch.float32, device=device)
        launch(
            encode_rabitq, -(-n // _ROWS), residuals, n, D, self._rotated, labels, self._numbers, codes, others,
            factors, BITS=nbits, L2=self._codes.metric == "l2", ROWS=_ROWS,
        )  # fmt: skip
        return {"codes1": codes.view(torch.uint8), "codes_ex": others.view(torch.uint8), "factors": factors}
