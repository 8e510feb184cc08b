"""Which method to choose, by a quick measurement."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from annvq.arguments import as_count
from annvq.errors import BudgetError, ParameterError
from annvq.learn.runtime import torch
from annvq.tables.budget import Budget
from annvq.tables.coding.code_sizes import residual_sizes
from annvq.tables.frequencies import as_frequencies, weights_of
from annvq.tables.models.compression import compress, weight_of
from annvq.tables.models.replaceable import check_compressible

QUICK = (
    "FP16", "INT16", "INT8", "ALPT", "PQ", "RVQ", "RaBitQ", "MGQE", "MDE", "TTRec", "DeepLight", "AdaptEmb", "Dedup",
    "CompoEmb", "ROBE", "Hash",
)  # fmt: skip
_MOST_ROWS = 50_000
_MOST_WORK = 3e10  # of residual codes, as `_too_long` counts it: some 15 seconds
_A_PASS = 128  # centroids that take as long as a pass over the rows does besides comparing them


@dataclass(frozen=True)
class Trial:
    """What a method makes of a trained table.

    Parameters
    ----------
    method
        Its name.
    nbytes
        Bytes at inference, of the rows that were measured.
    error
        Squared error of the rows weighted by frequency, as a share of their variance so weighted: 0 is exact, 1 is what
        the mean row would give. Infinite if nothing was made.
    seconds
        How long it took to make.
    refused
        Why it cannot meet the budget or was not tried, or "".

    """

    method: str
    nbytes: int
    error: float
    seconds: float
    refused: str = ""


def recommend(
    embedding: Any,
    ratio: float | None = None,
    *,
    bytes: int | None = None,
    frequencies: Any = None,
    methods: Sequence[str] = QUICK,
    seed: int = 0,
) -> list[Trial]:
    """Try methods on a trained table and return the trials, from the least error to the largest.

    The quality of the model is not measured: take the first two or three methods and measure the model with each.

    Parameters
    ----------
    embedding
        nn.Embedding or nn.EmbeddingBag. If there are more than 50,000 rows, that many are drawn, by frequency, and the
        budget is scaled to them.
    ratio, bytes
        The budget, given as one of the two.
    frequencies
        (n,), how often each row is used; None: all equally.
    methods
        Names of methods; those that have to be trained with a model cannot be tried.
    seed
        Seed of all random draws.

    Returns
    -------
    trials
        One per method. Last come those that cannot meet the budget, and residual codes with so many stages that
        training takes longer than some 15 seconds (`compress` trains them if asked to).

    Raises
    ------
    ParameterError, ShapeError, NonFiniteError
        As for `compress`.

    """
    check_compressible(embedding)
    weight = weight_of(embedding)
    n = len(weight)
    counts = None if frequencies is None else as_frequencies(frequencies, n)
    if (ratio is None) == (bytes is None):
        raise ParameterError(f"expected ratio or bytes, one of them: ratio={ratio!r}, bytes={bytes!r}")
    if bytes is not None:
        ratio = weight.nbytes / as_count("bytes", bytes)
    if n > _MOST_ROWS:
        share = weights_of(counts, n)
        drawn = np.random.default_rng(seed).choice(n, _MOST_ROWS, replace=False, p=share / share.sum())
        weight, counts = weight[np.sort(drawn)], None if counts is None else counts[np.sort(drawn)]
    layer = torch.nn.Embedding.from_pretrained(torch.from_numpy(weight))
    share = weights_of(counts, len(weight))
    spread = float((share * np.square(weight - np.average(weight, 0, share)).sum(1)).sum())
    size = float((share * np.square(weight).sum(1)).sum())
    spread = max(spread, 1e-9 * size, 1e-30)  # of rows that are all alike
    trials = []
    for method in methods:
        start = time.perf_counter()
        try:
            too_long = _too_long(method, weight, ratio)
            if too_long:
                trials.append(Trial(method, 0, np.inf, 0.0, too_long))
                continue
            table = compress(layer, method, ratio=ratio, frequencies=counts, seed=seed)
        except BudgetError as error:
            trials.append(Trial(method, 0, np.inf, time.perf_counter() - start, str(error)))
            continue
        seconds = time.perf_counter() - start
        lost = float((share * np.square(table.decoded() - weight).sum(1)).sum())
        trials.append(Trial(method, table.nbytes, lost / spread, seconds))
    return sorted(trials, key=lambda trial: trial.error)


def _too_long(method: str, weight: np.ndarray, ratio: Any) -> str:
    """Return why a method takes longer than a quick look may, or "".

    Stages of a residual codebook are trained one after the other, on all rows, and of wide rows a budget has room for
    a hundred. All other methods pass over the rows a fixed number of times.
    """
    if method != "RVQ":
        return ""
    n, d = weight.shape
    sizes = residual_sizes(Budget.of(n, d, ratio, None), method)
    if weight.size * sizes.M * (sizes.ksub + _A_PASS) <= _MOST_WORK:
        return ""
    return f"RVQ of {sizes.M} stages of {sizes.nbits} bits takes too long for a quick look"
