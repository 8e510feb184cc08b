"""How often rows are used: as users give it, and what is made of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from annvq.errors import DtypeError, ParameterError, ShapeError
from annvq.learn.runtime import torch


def weights_of(frequencies: np.ndarray | None, n: int) -> np.ndarray:
    """Return how much every row counts, (n,) float64, about 1 on average; rows never seen count a little."""
    if frequencies is None or not frequencies.any():
        return np.ones(n)
    shares = frequencies / frequencies.max()  # which may be counts as well as probabilities
    return shares / shares.mean() + 1e-3


def by_frequency(frequencies: Any, n: int) -> np.ndarray:
    """Return the rows (n,) int64 from frequent to rare; without frequencies they are so in their order.

    Raises
    ------
    ShapeError, ParameterError
        Frequencies of other rows; negative or not finite ones.

    """
    return np.arange(n) if frequencies is None else np.argsort(-as_frequencies(frequencies, n), kind="stable")


def as_frequencies(frequencies: Any, n: int) -> np.ndarray:
    """Return how often every row is used, (n,) float64; errors as of `by_frequency`."""
    given = np.asarray(frequencies.detach().cpu() if isinstance(frequencies, torch.Tensor) else frequencies)
    if given.shape != (n,):
        raise ShapeError(f"frequencies of shape {given.shape}, expected one of each of {n} rows")
    if given.dtype.kind not in "fiu":
        raise DtypeError(f"frequencies of dtype {given.dtype}, expected numbers")
    counts = given.astype(np.float64)
    if not (np.isfinite(counts).all() and (counts >= 0).all()):
        raise ParameterError("frequencies must be finite and not negative")
    return counts


def popularity_groups(n: int, frequencies: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return every row's group (n,) int64, 0 the most frequent, each group twice as large, and mean frequencies."""
    order = by_frequency(frequencies, n)
    given = 1.0 / (1.0 + np.arange(n)) if frequencies is None else as_frequencies(frequencies, n)[order]
    shares = np.cumsum(2.0 ** np.arange(count))
    ends = np.unique(np.maximum(np.round(n * shares / shares[-1]), np.minimum(np.arange(count) + 1, n)).astype(int))
    labels, means, start = np.empty(n, np.int64), [], 0
    for group, end in enumerate(ends):
        labels[order[start:end]] = group
        means.append(max(float(given[start:end].mean()), 1e-30))
        start = end
    return labels, np.array(means)
