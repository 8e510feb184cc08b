"""An inverted file over codes that move: its lists name candidates, and the current codes decide."""

from __future__ import annotations

from typing import TYPE_CHECKING

import annvq
from annvq.learn.codes.deciding import tree_sum
from annvq.learn.runtime import torch

if TYPE_CHECKING:
    from torch import Tensor

_NPROBE = 32
_CANDIDATES = 32
_WHOLE_DIMENSIONS = 32  # up to here every dimension has 4 bits, beyond it every two have
_WATCHED = 4096  # codes of which the movement is measured
_DRIFT = 0.1
_SEARCHES = 200


class ApproximateCodes:
    """An index of codes as they were when it was made, and a copy of them.

    Codes are kept as residuals from their lists in 4-bit product codes, which one scan of 32 lists reads; the 32 best
    are compared as they are now. The index should be rebuilt once codes have moved by a tenth of their spread (root
    mean square), or once they have moved at all and 200 searches have passed: a single code that has moved far is not
    found where it now is.

    Parameters
    ----------
    codes
        (k, d) float, on the CPU, k at least `LEAST`.
    metric
        "l2" or "ip".

    """

    LEAST = 1024

    def __init__(self, codes: Tensor, metric: str) -> None:
        self._metric = metric
        self._watched = slice(None, None, -(-len(codes) // _WATCHED))
        self._before = codes.detach().clone()
        watched = self._before[self._watched]
        self._spread = float((watched - watched.mean(0)).square().mean())
        self._searches = 0
        nlist = 1 << (len(codes).bit_length() // 2)
        vectors = codes.detach().float().contiguous().numpy()
        sample = vectors[:: max(1, len(vectors) // (32 * nlist))]
        dim = vectors.shape[1]
        recipe = f"IVF{nlist},PQ{dim if dim <= _WHOLE_DIMENSIONS else -(-dim // 2)}x4fs"
        self._index = annvq.build(vectors, recipe, metric=metric, train=sample, threads=torch.get_num_threads())

    def is_stale(self, codes: Tensor, moving: bool) -> bool:
        """Return whether the index should be rebuilt for these codes (k, d), which may be moving or should stand."""
        if codes.shape != self._before.shape or codes.dtype != self._before.dtype:
            return True
        if not moving:
            return not torch.equal(codes, self._before)
        self._searches += 1
        moved = float((codes[self._watched] - self._before[self._watched]).square().mean())
        if moved > _DRIFT**2 * self._spread:
            return True
        return self._searches > _SEARCHES and not torch.equal(codes, self._before)

    def nearest(self, rows: Tensor, codes: Tensor) -> Tensor:
        """Return the nearest code (n,) int64 of each row (n, d), of those that the index names."""
        queries = rows.detach().float().contiguous().numpy()
        hits = self._index.search(queries, _CANDIDATES, nprobe=_NPROBE, threads=torch.get_num_threads())
        found = torch.from_numpy(hits.ids).sort(1).values  # the lowest code first among equals
        candidates = codes[found.clamp_min(0)]
        if self._metric == "ip":
            scores = tree_sum(candidates * rows[:, None])
        else:
            scores = -tree_sum((candidates - rows[:, None]).square())
        best = scores.masked_fill(found < 0, -torch.inf).argmax(1, keepdim=True)
        return found.gather(1, best)[:, 0]
