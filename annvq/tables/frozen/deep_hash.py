"""Rows computed from ids: many hashes, then a small network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from annvq.errors import CorruptIndexError
from annvq.kernels.embeddings.embedding import hashed_numbers
from annvq.kernels.registers.tiles import readonly
from annvq.tables.frozen.form import Form, setting, stored
from annvq.tables.frozen.robe import MOST_SEED

BUCKETS = 1_000_000
MOST_LAYERS, MOST_HASHES = 16, 65_536
_ROWS_AT_ONCE = 2048


def encoded(ids: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return ``count`` hashes of each id (m,) as numbers from -1 to 1, (m, count) float32.

    Source: Kang et al. 2021, "Learning to embed categorical features without embedding tables for recommendation",
    section 3.2, with the uniform transform.
    """
    numbers = np.empty((len(ids), count), np.float32)
    hashed_numbers(readonly(np.ascontiguousarray(ids)), seed, BUCKETS, numbers)
    return numbers


@dataclass(frozen=True, eq=False)
class DeepHash(Form):
    """Hashes and the layers that follow, batch normalization folded into them.

    Parameters
    ----------
    matrices
        (width in, width out) float32 each; the first takes the hashes, the last gives d.
    biases
        (width out,) float32 each.
    seed
        Seed of the hashes.

    """

    matrices: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    seed: int
    kind: ClassVar[str] = "deep-hash"

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        named = {f"matrices.{i}": matrix for i, matrix in enumerate(self.matrices)}
        return {**named, **{f"biases.{i}": bias for i, bias in enumerate(self.biases)}}

    def settings(self) -> dict[str, Any]:
        """Return what is not an array."""
        return {"layers": len(self.matrices), "seed": self.seed}

    @classmethod
    def from_arrays(cls, n: int, d: int, settings: dict[str, Any], arrays: dict[str, np.ndarray]) -> DeepHash:
        """Build from stored parts; CorruptIndexError if they do not fit."""
        matrices, biases, width = [], [], None
        for i in range(setting(settings, "layers", 1, MOST_LAYERS)):
            matrices.append(stored(arrays, f"matrices.{i}", np.float32, (width, None)))
            width = matrices[-1].shape[1]
            biases.append(stored(arrays, f"biases.{i}", np.float32, (width,)))
        if width != d or not 1 <= len(matrices[0]) <= MOST_HASHES:
            raise CorruptIndexError(f"layers that make rows of {width} for a table of {d}")
        return cls(n, d, tuple(matrices), tuple(biases), setting(settings, "seed", 0, MOST_SEED))

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """Return rows (m, d) float32; the network runs once for each distinct id."""
        distinct, places = np.unique(ids, return_inverse=True)
        found = np.empty((len(distinct), self.d), np.float32)
        for start in range(0, len(distinct), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            values = encoded(distinct[part], len(self.matrices[0]), self.seed)
            for matrix, bias in zip(self.matrices[:-1], self.biases[:-1]):
                values = _mish(values @ matrix + bias)
            found[part] = values @ self.matrices[-1] + self.biases[-1]
        return found[places.reshape(-1)]


def _mish(values: np.ndarray) -> np.ndarray:
    return values * np.tanh(np.logaddexp(np.float32(0), values))
