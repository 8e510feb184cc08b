"""A GPU as what does the long work of a build: training and encoding, to the bit as on the CPU."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from annvq.gpu.codes.kinds import refuse_graphs
from annvq.gpu.device import resolve
from annvq.gpu.documents.encodings import encoder_on
from annvq.gpu.encoding import ResidentEncoder
from annvq.gpu.memory import enough_memory
from annvq.gpu.trained import in_bytes, multiplied, multiplied_in_bytes
from annvq.gpu.training.points import PointsThere
from annvq.gpu.training.subspaces import learned_codebooks
from annvq.gpu.upload import uploaded
from annvq.index.recipe import Recipe
from annvq.index.trained import Trained
from annvq.kernels.vectors.bytematrix import ByteMatrix

_MULTIPLIED, _ENCODED = 1 << 28, 1 << 26  # bytes of vectors that lie in the device's memory together


class GpuAccelerator:
    """The `annvq.codebooks.accelerator.Accelerator` of a device (errors of `annvq.gpu.device.resolve`)."""

    def __init__(self, device: Any) -> None:
        self._device: torch.device = resolve(device)
        self._encoder: ResidentEncoder | None = None

    def working(self) -> AbstractContextManager[None]:
        """Return a context in which memory that runs out is a DeviceMemoryError."""
        return enough_memory(self._device, "vectors were learned from or coded there")

    def points(self, rows: np.ndarray) -> PointsThere:
        """Return the vectors (n, d) float32 that k-means learns from."""
        return PointsThere(rows, self._device)

    def learned_codebooks(self, rows: np.ndarray, start: np.ndarray, niter: int) -> np.ndarray:
        """Return codebooks (M, ksub, dsub) after Lloyd's iterations on rows (n, d) from ``start``."""
        return learned_codebooks(rows, start, niter, self._device)

    def products(self, rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        """Return the products (n, k) of rows (n, d) with a matrix (k, d), summed in the order of the dimensions."""
        columns = uploaded(np.ascontiguousarray(matrix.T), self._device)
        return self._by_parts(rows, len(matrix), lambda part: multiplied(part, columns))

    def products_of_bytes(self, rows: np.ndarray, shift: np.ndarray, matrix: ByteMatrix, width: int) -> np.ndarray:
        """Return the products (n, width) of rows (n, d), less ``shift``, with a matrix in bytes."""
        there = in_bytes(matrix, shift, width, self._device)
        return self._by_parts(rows, width, lambda part: multiplied_in_bytes(part, there))

    def encodings(self, encoder: Any, vectors: np.ndarray, offsets: np.ndarray, of_documents: bool) -> np.ndarray:
        """Return the encodings (m, numbers) float32 of m sets of vectors; the encoder is one of `annvq.multivector`."""
        there = encoder_on(encoder, self._device)
        out = np.empty((len(offsets) - 1, encoder.output_dim), np.float32)
        for begin, end in there.parts(offsets):
            own = uploaded(np.ascontiguousarray(vectors[offsets[begin] : offsets[end]]), self._device)
            out[begin:end] = there.encode(own, offsets[begin : end + 1] - offsets[begin], of_documents).cpu().numpy()
        return out

    def encode(self, trained: Trained, vectors: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return the lists (n,) int64 and the unpacked rows of float32 vectors (n, d)."""
        if self._encoder is None or self._encoder.trained is not trained:
            self._encoder = ResidentEncoder(trained, self._device)
        size = max(1, _ENCODED // (4 * trained.dim))
        parts = [self._encoder.encode(vectors[start : start + size]) for start in range(0, len(vectors) or 1, size)]
        if len(parts) == 1:
            return parts[0]
        arrays = {name: np.concatenate([part[name] for _, part in parts]) for name in parts[0][1]}
        return np.concatenate([labels for labels, _ in parts]), arrays

    def release(self) -> None:
        """Release the memory of the device; what is needed again is copied again."""
        self._encoder = None

    def check(self, recipe: Recipe) -> None:
        """Raise DeviceError if an index of a recipe cannot be moved to a device."""
        refuse_graphs(recipe)

    def _by_parts(self, rows: np.ndarray, width: int, multiply: Any) -> np.ndarray:
        out = np.empty((len(rows), width), np.float32)
        size = max(1, _MULTIPLIED // (4 * max(1, rows.shape[1])))
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            out[part] = multiply(uploaded(np.ascontiguousarray(rows[part]), self._device)).cpu().numpy()
        return out
