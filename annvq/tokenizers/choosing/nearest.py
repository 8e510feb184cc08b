"""The nearest code of each row, without the matrix of all distances.

On the CPU float32 rows go through the engine's own arg-min (`annvq.kernels.clusters.assign`), and on a GPU through that
of `annvq.gpu.nearest` where Triton is installed, which makes the same sums; on other devices, and in float64, products
propose and sums in a fixed order decide (`annvq.learn.codes.deciding`). Equal distances go to the lowest code.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from annvq.kernels.clusters.assign import assign
from annvq.learn.codes.deciding import largest_logit, least_distance
from annvq.learn.runtime import torch
from annvq.tokenizers.choosing.approximate import ApproximateCodes
from annvq.tokenizers.kinds import check_kind

if TYPE_CHECKING:
    from torch import Tensor

MANY_CODES = 1 << 18  # from here on, by default, not all of them are compared on a CPU


@torch.no_grad()
def nearest(rows: Tensor, codes: Tensor, metric: str = "l2") -> Tensor:
    """Return the nearest code (n,) int64 of each row.

    Parameters
    ----------
    rows, codes
        (n, d) and (k, d) of one float dtype, finite; k >= 1.
    metric
        "l2": least squared distance; "ip": largest inner product.

    """
    if rows.device.type == "cpu" and rows.dtype == torch.float32:
        vectors, sites = (tensor.detach().contiguous().numpy() for tensor in (rows, codes))
        labels, _ = assign(vectors, sites, metric=metric, threads=torch.get_num_threads())
        return torch.from_numpy(labels).long()
    if rows.device.type == "cuda" and rows.dtype == torch.float32 and find_spec("triton") is not None:
        from annvq.gpu.nearest import nearest as on_gpu

        return on_gpu(rows, codes, metric)
    return largest_logit(rows, codes) if metric == "ip" else least_distance(rows, codes)


class CodeSearch:
    """The search of one quantizer for its codes: exact, or approximate if there are many codes.

    It holds only a cache that can be rebuilt, so copies and state dictionaries of modules leave it out.

    Parameters
    ----------
    exact
        Whether all codes are compared; False for an approximate search; None: approximate on a CPU from `MANY_CODES`
        on.

    """

    def __init__(self, exact: bool | None = None) -> None:
        check_kind("exact", exact, bool, type(None))
        self.exact = exact
        self._approximate: ApproximateCodes | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> CodeSearch:
        return CodeSearch(self.exact)

    def __getstate__(self) -> dict[str, Any]:
        return {"exact": self.exact, "_approximate": None}

    @torch.no_grad()
    def __call__(self, rows: Tensor, codes: Tensor, metric: str = "l2", *, moving: bool = False) -> Tensor:
        """Return what `nearest` returns, or nearly.

        Parameters
        ----------
        rows, codes, metric
            As of `nearest`.
        moving
            Whether an index of codes that have moved a little since may serve, as in training. Otherwise it is rebuilt
            if they are not the same, so that the result follows from the codes alone.

        """
        is_fit = codes.device.type == "cpu" and len(codes) >= ApproximateCodes.LEAST
        exact = len(codes) < MANY_CODES if self.exact is None else self.exact
        if exact or not is_fit or not len(rows):
            return nearest(rows, codes, metric)
        if self._approximate is None or self._approximate.is_stale(codes, moving):
            self._approximate = ApproximateCodes(codes, metric)
        return self._approximate.nearest(rows, codes)
