"""Fixed-dimensional encodings on a device, to the bit as on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from annvq.arrays import offsets_of
from annvq.gpu.kernels.encode_sets import find_cells, sketch_numbers, sum_cells
from annvq.gpu.launch import launch
from annvq.gpu.trained import multiplied
from annvq.gpu.upload import uploaded

_ROWS, _CELLS, _BUCKETS = 128, 32, 128  # of one program
_SETS = 65_535  # that are sketched together: the second axis of a grid has no more programs
_NUMBERS = 1 << 26  # that lie in memory together: products, or encodings before they are sketched


class SetEncoder:
    """Encodes sets of vectors as `annvq.multivector.FixedDimensionalEncoder` does.

    Parameters
    ----------
    matrix
        (repetitions * (bits + width), d) float32: all hyperplanes, then the repetitions' projections.
    repetitions, bits, width
        There are 2**bits cells per repetition, with ``width`` numbers each.
    fill
        Whether a document's empty cells are filled.
    buckets, signs
        The count sketch: the place (numbers,) int64 and the sign float32 of every number; empty if there is none.
    final_dim
        The number of places of the sketch, or None.
    device
        Where vectors are encoded.

    """

    def __init__(
        self, matrix: np.ndarray, repetitions: int, bits: int, width: int, fill: bool, sketch: tuple,
        final_dim: int | None, device: torch.device,
    ) -> None:  # fmt: skip
        self._columns = uploaded(np.ascontiguousarray(matrix.T), device)
        self._repetitions, self._bits, self._width, self._fill = repetitions, bits, width, fill
        self._final = final_dim
        if final_dim is not None:
            buckets, signs = sketch
            order = np.argsort(buckets, kind="stable")
            starts = offsets_of(np.bincount(buckets, minlength=final_dim))
            self._sketch = tuple(uploaded(one, device) for one in (order, starts, np.asarray(signs)))

    @property
    def _numbers(self) -> int:
        return self._repetitions * 2**self._bits * self._width

    def encode(self, vectors: torch.Tensor, offsets: np.ndarray, of_documents: bool) -> torch.Tensor:
        """Return the encodings of m sets, float32, of vectors (n, d) float32 with offsets (m + 1,) int64."""
        parts = self.parts(offsets)
        made = [self._encoded(vectors, offsets[begin : end + 1], of_documents) for begin, end in parts]
        width = self._numbers if self._final is None else self._final
        return torch.cat(made) if made else torch.empty((0, width), dtype=torch.float32, device=vectors.device)

    def parts(self, offsets: np.ndarray) -> list[tuple[int, int]]:
        """Cut sets into runs whose products and numbers fit in memory, and return where each begins and ends."""
        parts, begin, m = [], 0, len(offsets) - 1
        vectors = max(1, _NUMBERS // self._columns.shape[1])
        sets = max(1, min(_SETS, _NUMBERS // self._numbers))
        while begin < m:
            end = int(np.searchsorted(offsets, offsets[begin] + vectors, side="right")) - 1
            end = min(m, begin + sets, max(end, begin + 1))
            parts.append((begin, end))
            begin = end
        return parts

    def _encoded(self, vectors: torch.Tensor, offsets: np.ndarray, of_documents: bool) -> torch.Tensor:
        m, n, device, cells = len(offsets) - 1, int(offsets[-1] - offsets[0]), vectors.device, 1 << self._bits
        products = multiplied(vectors[int(offsets[0]) : int(offsets[-1])], self._columns)
        columns = products.shape[1]
        labels = torch.empty((n, self._repetitions), dtype=torch.int32, device=device)
        launch(
            find_cells, (-(-n // _ROWS), self._repetitions), products, n, columns, self._repetitions, self._bits,
            labels, ROWS=_ROWS,
        )  # fmt: skip
        numbers = torch.empty((m, self._numbers), dtype=torch.float32, device=device)
        block = min(_CELLS, cells)
        launch(
            sum_cells, m * self._repetitions * (cells // block), products, columns, labels, self._repetitions,
            self._bits, self._width, cells, uploaded(offsets - offsets[0], device), numbers, AVERAGE=of_documents,
            FILL=of_documents and self._fill, CELLS=block, WIDTH=1 << (self._width - 1).bit_length(),
        )  # fmt: skip
        if self._final is None:
            return numbers
        sketched = torch.empty((m, self._final), dtype=torch.float32, device=device)
        launch(
            sketch_numbers, (-(-self._final // _BUCKETS), m), numbers, self._numbers, *self._sketch, self._final,
            sketched, BUCKETS=_BUCKETS,
        )  # fmt: skip
        return sketched


def encoder_on(encoder: Any, device: torch.device) -> SetEncoder:
    """Return an `annvq.multivector.FixedDimensionalEncoder` on a device."""
    return SetEncoder(
        encoder.matrix, encoder.repetitions, encoder.simhash_bits, encoder.width, encoder.fill_empty, encoder.sketch,
        encoder.final_dim, device,
    )  # fmt: skip
