"""Rows as RaBitQ codes of their differences from the mean row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from annvq.codebooks import RaBitQCodebook
from annvq.tables.frozen.form import Form, setting, stored

PARTS = ("codes1", "codes_ex", "factors")


@dataclass(frozen=True, eq=False)
class RaBitQRows(Form):
    """RaBitQ codes and their factors.

    Parameters
    ----------
    codebook
        Rotation and bits.
    codes1, codes_ex, factors
        As `RaBitQCodebook.encode` gives them, for inner products.
    center
        (d,) float32, the mean row.

    """

    codebook: RaBitQCodebook
    codes1: np.ndarray
    codes_ex: np.ndarray
    factors: np.ndarray
    center: np.ndarray
    kind: ClassVar[str] = "rabitq"

    @property
    def encoded(self) -> dict[str, np.ndarray]:
        """What the codebook decodes."""
        return {name: getattr(self, name) for name in PARTS}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        made = {**self.encoded, "center": self.center, **self.codebook.arrays()}
        return {name: array for name, array in made.items() if array.size}

    def settings(self) -> dict[str, Any]:
        """Return what is not an array."""
        return {"bits": self.codebook.nbits}

    @classmethod
    def from_arrays(cls, n: int, d: int, settings: dict[str, Any], arrays: dict[str, np.ndarray]) -> RaBitQRows:
        """Build from stored parts; CorruptIndexError if they do not fit."""
        bits = setting(settings, "bits", 1, 8)
        codebook = RaBitQCodebook.from_arrays({"dim": d, "bits": bits}, arrays)
        width = codebook.padded_dim // 8
        if bits == 1:  # an array without bytes is not written
            signs = arrays.get("codes1", np.empty((0, 0)))
            arrays = {**arrays, "codes_ex": np.empty((len(signs), 0), np.uint8)}
        parts = (
            stored(arrays, "codes1", np.uint8, (n, width)),
            stored(arrays, "codes_ex", np.uint8, (n, (bits - 1) * width)),
            stored(arrays, "factors", np.float32, (n, codebook.factor_columns)),
        )
        return cls(n, d, codebook, *parts, stored(arrays, "center", np.float32, (d,)))

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """Return rows (m, d) float32."""
        encoded = {name: array[ids] for name, array in self.encoded.items()}
        return self.codebook.decode_trusted(encoded, "ip") + self.center
