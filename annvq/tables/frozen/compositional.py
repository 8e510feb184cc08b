"""Rows composed of one row from each of several small tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from annvq.errors import CorruptIndexError
from annvq.tables.frozen.form import Form, setting, stored
from annvq.tables.frozen.gather import gathered

OPS = ("mult", "add", "concat")
MOST_PARTS = 32


def digits(ids: Any, sizes: list[int]) -> list[Any]:
    """Return the digits of ids (int64 array or tensor) in mixed radix: remainders first, the last is the quotient."""
    found = []
    for size in sizes[:-1]:
        found.append(ids % size)
        ids = ids // size
    return [*found, ids]


@dataclass(frozen=True, eq=False)
class Compositional(Form):
    """A product, sum or concatenation of rows of small tables.

    Parameters
    ----------
    tables
        Tables of (size, d) float32 each or, for "concat", of (size, run of d).
    op
        "mult", "add" or "concat".

    """

    tables: tuple[np.ndarray, ...]
    op: str
    kind: ClassVar[str] = "compositional"

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        return {f"tables.{i}": table for i, table in enumerate(self.tables)}

    def settings(self) -> dict[str, Any]:
        """Return what is not an array."""
        return {"op": self.op, "parts": len(self.tables)}

    @classmethod
    def from_arrays(cls, n: int, d: int, settings: dict[str, Any], arrays: dict[str, np.ndarray]) -> Compositional:
        """Build from stored parts; CorruptIndexError if they do not fit."""
        op = settings.get("op")
        if op not in OPS:
            raise CorruptIndexError(f"a composition by {op!r}, expected one of {', '.join(OPS)}")
        width = None if op == "concat" else d
        parts = range(setting(settings, "parts", 2, MOST_PARTS))
        tables = tuple(stored(arrays, f"tables.{i}", np.float32, (None, width)) for i in parts)
        capacity = 1
        for table in tables:
            capacity *= len(table)
        if capacity < n or (op == "concat" and sum(table.shape[1] for table in tables) != d):
            raise CorruptIndexError(f"small tables that do not make {n} rows of {d}")
        return cls(n, d, tables, op)

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """Return rows (m, d) float32."""
        found = digits(ids, [len(table) for table in self.tables])
        parts = [gathered(table, place) for table, place in zip(self.tables, found)]
        if self.op == "concat":
            return np.concatenate(parts, axis=1)
        for part in parts[1:]:
            (np.multiply if self.op == "mult" else np.add)(parts[0], part, out=parts[0])
        return parts[0]
