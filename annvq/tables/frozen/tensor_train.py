"""Rows as products of the slices of three small tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from annvq.errors import CorruptIndexError
from annvq.tables.frozen.form import Form, stored

_FLOATS_AT_ONCE = 1 << 22  # of the slices that are gathered


def indices(ids: Any, sizes: tuple[int, int, int]) -> tuple[Any, Any, Any]:
    """Return the three indices of ids (int64 array or tensor): the last changes fastest."""
    _, n2, n3 = sizes
    return ids // (n2 * n3), ids // n3 % n2, ids % n3


@dataclass(frozen=True, eq=False)
class TensorTrain(Form):
    """A tensor train of three cores.

    Parameters
    ----------
    first, middle, last
        (n1, d1, r), (n2, r, d2, r) and (n3, r, d3) float32 with n1 n2 n3 >= n and d1 d2 d3 >= d.

    """

    first: np.ndarray
    middle: np.ndarray
    last: np.ndarray
    kind: ClassVar[str] = "tensor-train"

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        return {"first": self.first, "middle": self.middle, "last": self.last}

    @classmethod
    def from_arrays(cls, n: int, d: int, settings: dict[str, Any], arrays: dict[str, np.ndarray]) -> TensorTrain:
        """Build from stored parts; CorruptIndexError if they do not fit."""
        first = stored(arrays, "first", np.float32, (None, None, None))
        n1, d1, r = first.shape
        middle = stored(arrays, "middle", np.float32, (None, r, None, r))
        last = stored(arrays, "last", np.float32, (None, r, None))
        n2, d2, n3, d3 = len(middle), middle.shape[2], len(last), last.shape[2]
        if not (n1 * n2 * n3 >= n and d1 * d2 * d3 >= d and r):
            raise CorruptIndexError(f"cores of {n1 * n2 * n3} rows of {d1 * d2 * d3} for {n} of {d}")
        return cls(n, d, first, middle, last)

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """Return rows (m, d) float32."""
        found = np.empty((len(ids), self.d), np.float32)
        step = max(1, _FLOATS_AT_ONCE // self.middle[0].size)
        for start in range(0, len(ids), step):
            found[start : start + step] = self._some(ids[start : start + step])
        return found

    def _some(self, ids: np.ndarray) -> np.ndarray:
        i, j, k = indices(ids, (len(self.first), len(self.middle), len(self.last)))
        m, r = len(ids), self.first.shape[2]
        rows = self.first[i] @ self.middle[j].reshape(m, r, -1)
        return (rows.reshape(m, -1, r) @ self.last[k]).reshape(m, -1)[:, : self.d]
