"""Residual codes of vectors on a device, by the beam search of `annvq.kernels.codes.beam`."""

from __future__ import annotations

import numpy as np
import torch

from annvq.codebooks import ResidualCodebook
from annvq.gpu.kernels.order import candidates_of, ranks_of
from annvq.gpu.trained import multiplied
from annvq.gpu.upload import uploaded

_ROWS = 1 << 13  # that are extended together


class ResidualEncoder:
    """Encodes vectors as `ResidualCodebook.encode_trusted` does."""

    def __init__(self, codebook: ResidualCodebook, device: torch.device) -> None:
        self._beam = codebook.beam
        self._entries = uploaded(np.asarray(codebook.codebooks), device)
        self._columns = [entries.T.contiguous() for entries in self._entries]
        self._bias = uploaded(np.asarray(codebook.bias), device).reshape(len(self._entries), -1)

    def encode(self, rows: torch.Tensor) -> torch.Tensor:
        """Return codes (n, M) uint8 of rows (n, d) float32."""
        codes = torch.empty((len(rows), len(self._entries)), dtype=torch.uint8, device=rows.device)
        for start in range(0, len(rows), _ROWS):
            codes[start : start + _ROWS] = self._encoded(rows[start : start + _ROWS])
        return codes

    def _encoded(self, rows: torch.Tensor) -> torch.Tensor:
        (n, d), ksub = rows.shape, self._entries.shape[1]
        left = rows[:, None]  # (n, beams, d): what the beams' sums leave
        squares = torch.zeros(n, dtype=torch.float64, device=rows.device)
        for i in range(d):
            squares += rows[:, i].double().square()
        errors = squares.float()[:, None]
        codes = torch.empty((n, 1, 0), dtype=torch.uint8, device=rows.device)
        for columns, entries, bias in zip(self._columns, self._entries, self._bias, strict=True):
            beams = left.shape[1]
            scores = multiplied(left.reshape(-1, d), columns).reshape(n, beams, ksub) + bias
            longer = errors[:, :, None] - 2.0 * scores
            by_code = longer.transpose(1, 2).reshape(n, -1)  # equal errors go to the lower code, then to the first beam
            places = torch.arange(ksub * beams, device=rows.device, dtype=torch.int32).expand(n, -1)
            kept = torch.topk(candidates_of(-by_code, places), min(self._beam, ksub * beams), dim=1).values
            chosen = ranks_of(kept)
            errors, code, beam = by_code.gather(1, chosen), chosen // beams, chosen % beams
            left = left.gather(1, beam[:, :, None].expand(-1, -1, d)) - entries[code]
            codes = codes.gather(1, beam[:, :, None].expand(-1, -1, codes.shape[2]))
            codes = torch.cat([codes, code[:, :, None].to(torch.uint8)], dim=2)
        return codes[:, 0]
