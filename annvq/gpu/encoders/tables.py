"""Codes that are scanned through look-up tables, of vectors on a device."""

from __future__ import annotations

import numpy as np
import torch

from annvq.codebooks import ProductCodebook, ResidualCodebook, ScalarCodebook
from annvq.gpu.encoders.product import ProductEncoder
from annvq.gpu.encoders.residual import ResidualEncoder
from annvq.gpu.encoders.rows import ScalarEncoder
from annvq.gpu.encoders.second_lists import SecondListsThere
from annvq.gpu.kernels.code_sums import sum_constants
from annvq.gpu.launch import launch
from annvq.gpu.upload import uploaded
from annvq.index.codes import spill
from annvq.index.codes.tablecodes import TableCodes

_ROWS = 128  # of one program


class TableEncoder:
    """Encodes vectors as `TableCodes.encode` does."""

    def __init__(self, codes: TableCodes, device: torch.device) -> None:
        self._codes, codebook = codes, codes.codebook
        self._centroids = None if codes.centroids is None else uploaded(np.asarray(codes.centroids), device)
        self._second = SecondListsThere(codes.second_lists, device) if codes.spill else None
        self._entries = None
        self._coder: ProductEncoder | ResidualEncoder | ScalarEncoder
        if isinstance(codebook, ScalarCodebook):
            self._coder = ScalarEncoder(codebook, device)
            return
        assert isinstance(codebook, ProductCodebook | ResidualCodebook)
        is_product = isinstance(codebook, ProductCodebook)
        self._coder = ProductEncoder(codebook, device) if is_product else ResidualEncoder(codebook, device)
        self._entries = uploaded(codebook.codebooks, device)

    def encode(self, rotated: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the sections of vectors (n, d) float32 of the lists ``labels`` (n,) int64."""
        of_rows = self._centroids[labels] if self._codes.residual and self._centroids is not None else None
        arrays = {"codes": self._coded(rotated if of_rows is None else rotated - of_rows, rotated)}
        if self._second is not None:
            assert self._centroids is not None
            arrays[spill.LISTS] = lists = self._second.of(rotated, labels)
            arrays[spill.UNPACKED] = self._coded(rotated - self._centroids[lists.long()], rotated)
        if self._codes.with_constants:
            arrays["constants"] = self._constants(arrays["codes"], of_rows, rotated.shape[1])
        return arrays

    def _coded(self, targets: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
        if isinstance(self._coder, ProductEncoder):
            return self._coder.encode(targets, directions)
        return self._coder.encode(targets)

    def _constants(self, codes: torch.Tensor, of_rows: torch.Tensor | None, d: int) -> torch.Tensor:
        """Return what scores of residuals lack without their queries, (n,) float32."""
        assert self._entries is not None
        n, M = codes.shape
        parts = [self._entries[m][codes[:, m].long()] for m in range(M)]
        if isinstance(self._coder, ProductEncoder):
            decoded = torch.cat(parts, dim=1)[:, :d]
        else:
            decoded = torch.zeros((n, d), dtype=torch.float32, device=codes.device)
            for part in parts:  # in the order in which the CPU adds
                decoded += part
        constants = torch.empty(n, dtype=torch.float32, device=codes.device)
        columns = decoded.T.contiguous()
        launch(
            sum_constants, -(-n // _ROWS), columns, columns if of_rows is None else of_rows.T.contiguous(), n, d,
            constants, CENTRED=of_rows is not None, ROWS=_ROWS,
        )  # fmt: skip
        return constants
