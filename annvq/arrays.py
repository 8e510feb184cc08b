"""Small things that many parts do with arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def frozen(array: np.ndarray, dtype: Any = None) -> np.ndarray:
    """Return a C-contiguous, read-only, plain view: one compiled kernel serves memory and mapped files."""
    view = np.ascontiguousarray(np.asarray(array), dtype=dtype).view()
    view.flags.writeable = False
    return view


def offsets_of(lengths: np.ndarray | Sequence[int]) -> np.ndarray:
    """Return where each of consecutive runs begins, and the end: (n + 1,) int64 from their lengths (n,)."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets
