"""What a library must offer to be measured beside others."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

Params = dict[str, int]

CANDIDATES = (1, 2, 3, 4, 8, 16, 32)  # times k: those that libraries which re-rank are measured with


class Peer(Protocol):
    """One index of one library, which is built once and searched with many settings.

    Attributes
    ----------
    lib
        The library's name.
    recipe
        What is built, in the library's own words.

    """

    lib: str
    recipe: str

    def build(self, base: np.ndarray, metric: str, threads: int) -> None:
        """Build the index of ``base`` (n, d) float32 for metric "ip" or "l2"."""
        ...

    def settings(self, k: int) -> list[list[Params]]:
        """Return series of search parameters, each from fast to exact and with the same keys; called after `build`."""
        ...

    def set(self, params: Params) -> None:
        """Use these search parameters from now on."""
        ...

    def search(self, queries: np.ndarray, k: int, threads: int) -> np.ndarray:
        """Return (nq, k) int64 rows of the base, best first, for contiguous float32 queries; missing ones are -1."""
        ...

    def bytes_per_vector(self) -> float:
        """Return the size of the index in bytes, by the library's own account, divided by n."""
        ...


def doubling(first: int, last: int) -> list[int]:
    """Return ``first``, then values about 1.4 times the one before, up to and including ``last``."""
    values, value = [], float(first)
    while round(value) < last:
        values.append(round(value))
        value = max(value * 2**0.5, round(value) + 1)
    return [*values, last]


def power_of_two_near(value: float) -> int:
    """Return the power of two nearest to ``value`` on a log scale, at least 1."""
    return 2 ** max(0, round(float(np.log2(max(value, 1.0)))))


def divisor_at_most(dim: int, limit: int, among: Sequence[int] | None = None) -> int:
    """Return the largest divisor of ``dim``, perhaps only of those ``among`` some, that is at most ``limit``, or 1."""
    values = range(1, limit + 1) if among is None else among
    return max((value for value in values if value <= limit and dim % value == 0), default=1)


def file_bytes(save: Callable[[str], object]) -> int:
    """Return the size of the file that ``save``, given a path, writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        save(str(path))
        return path.stat().st_size
