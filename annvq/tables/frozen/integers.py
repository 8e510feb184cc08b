"""Rows as whole numbers times a scale."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from annvq.errors import CorruptIndexError
from annvq.kernels.embeddings.embedding import scaled_rows
from annvq.tables.frozen.form import Form, contiguous, stored


@dataclass(frozen=True, eq=False)
class Integers(Form):
    """int8 or int16 codes and a scale of every row, or one of the whole table.

    Parameters
    ----------
    codes
        (n, d) int8 or int16.
    scales
        (n,) float32, or (1,): then it is a setting and no array.

    """

    codes: np.ndarray
    scales: np.ndarray
    kind: ClassVar[str] = "integers"

    @property
    def _is_one_scale(self) -> bool:
        return self.scales.shape != (self.n,) or self.n == 1

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        return {"codes": self.codes} if self._is_one_scale else {"codes": self.codes, "scales": self.scales}

    def settings(self) -> dict[str, Any]:
        """Return what is not an array."""
        return {"scale": float(self.scales[0])} if self._is_one_scale else {}

    @classmethod
    def from_arrays(cls, n: int, d: int, settings: dict[str, Any], arrays: dict[str, np.ndarray]) -> Integers:
        """Build from stored parts; CorruptIndexError if they do not fit."""
        codes = stored(arrays, "codes", (np.int8, np.int16), (n, d))
        if "scale" not in settings:
            return cls(n, d, codes, stored(arrays, "scales", np.float32, (n,)))
        scale = settings["scale"]
        if type(scale) not in (int, float) or not math.isfinite(scale):
            raise CorruptIndexError(f"a scale of {scale!r}")
        return cls(n, d, codes, contiguous(np.array([scale], np.float32)))

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """Return rows (m, d) float32."""
        found = np.empty((len(ids), self.d), np.float32)
        scaled_rows(self.codes, self.scales, ids, found)
        return found
