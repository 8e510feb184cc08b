"""Rows made of runs of one circular array of floats, at hashed places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from annvq.errors import CorruptIndexError
from annvq.kernels.embeddings.embedding import robe_rows
from annvq.tables.frozen.form import Form, setting, stored

MOST_SEED = 2**30


@dataclass(frozen=True, eq=False)
class Robe(Form):
    """ROBE-Z.

    Parameters
    ----------
    array
        (size,) float32.
    Z
        Length of a run.
    seed
        Seed of the hash.

    """

    array: np.ndarray
    Z: int
    seed: int
    kind: ClassVar[str] = "robe"

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        return {"array": self.array}

    def settings(self) -> dict[str, Any]:
        """Return what is not an array."""
        return {"Z": self.Z, "seed": self.seed}

    @classmethod
    def from_arrays(cls, n: int, d: int, settings: dict[str, Any], arrays: dict[str, np.ndarray]) -> Robe:
        """Build from stored parts; CorruptIndexError if they do not fit."""
        array = stored(arrays, "array", np.float32, (None,))
        if not 1 <= len(array) < 2**31:
            raise CorruptIndexError(f"a circular array of {len(array)} floats")
        return cls(n, d, array, setting(settings, "Z", 1, d), setting(settings, "seed", 0, MOST_SEED))

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """Return rows (m, d) float32."""
        found = np.empty((len(ids), self.d), np.float32)
        robe_rows(self.array, self.Z, self.seed, ids, found)
        return found
