"""The nearest code of each row on a GPU: the same as on the CPU, in memory that does not grow with rows x codes."""

from __future__ import annotations

import torch

from annvq.gpu.kernels.nearest_code import nearest_code
from annvq.gpu.kernels.order import NOTHING, ranks_of
from annvq.gpu.launch import launch

_ROWS, _CODES = 64, 64  # of a program at a time
_LEAST_SHARE = 1024  # codes of a program; fewer are not worth another
_PROGRAMS = 1024  # that keep all multiprocessors busy


@torch.no_grad()
def nearest(rows: torch.Tensor, codes: torch.Tensor, metric: str = "l2") -> torch.Tensor:
    """Return the nearest code (n,) int64 of each row; of equal ones the lowest.

    Parameters
    ----------
    rows, codes
        (n, d) and (k, d) float32 on one device, finite; 1 <= k < 2^31.
    metric
        "l2": least squared distance; "ip": largest inner product.

    """
    (n, d), k = rows.shape, len(codes)
    rows, codes = rows.detach(), codes.detach()
    bias = torch.zeros(k, dtype=torch.float32, device=rows.device)
    if metric == "l2":
        shift = codes.double().mean(dim=0).float()
        rows, codes = rows - shift, codes - shift
        bias = (-0.5 * codes.double().square().sum(dim=1)).float()
    found = torch.full((n,), NOTHING, dtype=torch.int64, device=rows.device)
    blocks = -(-n // _ROWS)
    shares = max(1, min(-(-k // _LEAST_SHARE), _PROGRAMS // max(1, blocks)))
    share = -(-k // shares // _CODES) * _CODES
    launch(
        nearest_code, (blocks, -(-k // share)), rows.T.contiguous(), n, codes.T.contiguous(), k, d, bias, share, found,
        ROWS=_ROWS, CODES=_CODES,
    )  # fmt: skip
    return ranks_of(found)
