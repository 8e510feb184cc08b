"""Rows that are kept as they are, and found by a simple map from ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from annvq.errors import CorruptIndexError
from annvq.kernels.embeddings.embedding import gather_rows, gather_sums
from annvq.kernels.registers.tiles import readonly
from annvq.tables.frozen.form import Form, below, rows_with_spare, setting, stored
from annvq.tables.frozen.partition import Partition

_NOTHING = readonly(np.empty(0, np.float32))


@dataclass(frozen=True, eq=False)
class Hashed(Form):
    """Row id modulo the number of kept rows; with as many as there are ids, a plain table.

    Parameters
    ----------
    weight
        (rows, d) float32 or float16.

    """

    weight: np.ndarray
    kind: ClassVar[str] = "hashed"

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        return {"weight": self.weight}

    @classmethod
    def from_arrays(cls, n: int, d: int, settings: dict[str, Any], arrays: dict[str, np.ndarray]) -> Hashed:
        """Build from stored parts; CorruptIndexError if they do not fit."""
        weight = stored(arrays, "weight", (np.float32, np.float16), (None, d))
        if not 1 <= len(weight) <= n:
            raise CorruptIndexError(f"{len(weight)} kept rows of a table of {n}")
        return cls(n, d, weight)

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """Return rows (m, d) float32."""
        return gathered(self.weight, self._places(ids))

    def sums(self, ids: np.ndarray, offsets: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return sums (b, d) float32 of bags, without materializing rows."""
        return gathered_sums(self.weight, self._places(ids), offsets, weights)

    def _places(self, ids: np.ndarray) -> np.ndarray:
        return ids if len(self.weight) == self.n else ids % len(self.weight)


@dataclass(frozen=True, eq=False)
class Blocks(Form):
    """Blocks of neighbouring rows, of which some share one.

    Parameters
    ----------
    weight
        (kept, block, d) float32.
    remap
        (ceil(n / block),) int32: the kept block of every block of rows.

    """

    weight: np.ndarray
    remap: np.ndarray
    kind: ClassVar[str] = "blocks"

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        return {"weight": self.weight, "remap": self.remap}

    @classmethod
    def from_arrays(cls, n: int, d: int, settings: dict[str, Any], arrays: dict[str, np.ndarray]) -> Blocks:
        """Build from stored parts; CorruptIndexError if they do not fit."""
        weight = stored(arrays, "weight", np.float32, (None, None, d))
        if not weight.size:
            raise CorruptIndexError("a table without blocks")
        remap = stored(arrays, "remap", np.int32, (-(-n // weight.shape[1]),))
        return cls(n, d, weight, below("remap", remap, len(weight)))

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """Return rows (m, d) float32."""
        return gathered(self.weight, self._places(ids))

    def sums(self, ids: np.ndarray, offsets: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return sums (b, d) float32 of bags, without materializing rows."""
        return gathered_sums(self.weight, self._places(ids), offsets, weights)

    def _places(self, ids: np.ndarray) -> np.ndarray:
        block = self.weight.shape[1]
        return self.remap[ids // block].astype(np.int64) * block + ids % block


@dataclass(frozen=True, eq=False)
class HotAndShared(Form):
    """Frequent rows of their own; all others share some by their number modulo.

    Parameters
    ----------
    partition
        Group 0: rows of their own.
    hot
        (h, d) float32.
    shared
        (s, d) float32.

    """

    partition: Partition
    hot: np.ndarray
    shared: np.ndarray
    kind: ClassVar[str] = "hot-and-shared"

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        return {**self.partition.arrays(), "hot": self.hot, "shared": self.shared}

    def settings(self) -> dict[str, Any]:
        """Return what is not an array."""
        return {"hot": len(self.hot)}

    @classmethod
    def from_arrays(cls, n: int, d: int, settings: dict[str, Any], arrays: dict[str, np.ndarray]) -> HotAndShared:
        """Build from stored parts; CorruptIndexError if they do not fit."""
        partition = Partition.from_arrays(n, 2, arrays)
        hot = stored(arrays, "hot", np.float32, (setting(settings, "hot", 0, n), d))
        shared = stored(arrays, "shared", np.float32, (None, d))
        groups, _ = partition.find(np.arange(n))
        if int((groups == 0).sum()) != len(hot) or not len(shared):
            raise CorruptIndexError("rows of their own and the partition do not fit each other")
        return cls(n, d, partition, hot, shared)

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """Return rows (m, d) float32."""
        groups, places = self.partition.find(ids)
        found = gathered(self.shared, places % len(self.shared))
        own = groups == 0
        found[own] = gathered(self.hot, places[own])
        return found


def gathered(weight: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return rows (m, d) float32 at places (m,) of a weight (..., d), float32 or float16."""
    d = weight.shape[-1]
    flat, rows = rows_with_spare(len(places), d)
    gather_rows(_store(weight), d, _NOTHING, readonly(places), flat)
    return rows


def gathered_sums(weight: np.ndarray, places: np.ndarray, offsets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return sums (b, d) float32 of the rows that `gathered` would return."""
    d = weight.shape[-1]
    flat, pooled = rows_with_spare(len(offsets) - 1, d)
    gather_sums(_store(weight), d, _NOTHING, readonly(places), readonly(offsets), weights, flat)
    return pooled


def _store(weight: np.ndarray) -> np.ndarray:
    flat = weight.reshape(-1)
    return flat.view(np.uint16) if flat.dtype == np.float16 else flat
