"""How often rows are used: what users give, and the weights and groups made from it."""

from __future__ import annotations

from typing import Any

import numpy as np

from annvq.errors import DtypeError, ParameterError, ShapeError
from annvq.learn.runtime import torch


def weights_of(frequencies: np.ndarray | None, n: int) -> np.ndarray:
    """Return the weight of every row, (n,) float64, about 1 on average; rows never seen have a small weight."""
    if frequencies is None or not frequencies.any():
        return np.ones(n)
    shares = frequencies / frequencies.max()  # which may be counts as well as probabilities
    return shares / shares.mean() + 1e-3


def by_frequency(frequencies: Any, n: int) -> np.ndarray:
    """Return the rows (n,) int64 from frequent to rare; without frequencies, their own order is taken to be that.

    Raises
    ------
    ShapeError, ParameterError
        Frequencies are not one per row, or are negative or not finite.

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
