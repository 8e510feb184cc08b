"""How vectors are assigned to centroids: to the nearest, softly, or so that all clusters are used equally."""

from __future__ import annotations

from typing import TYPE_CHECKING

from annvq.errors import NonFiniteError, ParameterError
from annvq.learn.runtime import torch

if TYPE_CHECKING:
    from torch import Tensor

EPSILON = 0.05  # Zhan et al. 2022 (RepCONC), section 4.3
ITERATIONS = 100
LEAST_EPSILON = 0.002
_ENOUGH_FOR_FLOAT32 = 0.02


def soft(distances: Tensor, temperature: float) -> Tensor:
    """Return weights (..., ksub) that sum to 1: softmax of minus distances / temperature."""
    if not temperature > 0:
        raise ParameterError(f"temperature must be above 0, not {temperature}")
    return torch.softmax(-distances / temperature, -1)


def hardened(weights: Tensor, codes: Tensor) -> Tensor:
    """Return one-hot rows (..., ksub) of codes (...), whose gradient is that of the weights (Bengio et al. 2013)."""
    hard = torch.zeros_like(weights).scatter_(-1, codes[..., None], 1.0)
    return hard + weights - weights.detach()


def sinkhorn(distances: Tensor, epsilon: float = EPSILON, iterations: int = ITERATIONS) -> Tensor:
    """Return the transport plan (n, ..., ksub) under which all centroids are used equally.

    Of all plans whose rows sum to 1 and whose columns sum to n / ksub, the one that minimises the mean distance less
    epsilon times its entropy (Cuturi 2013; for quantization Zhan et al. 2022, section 4.3). Distances are first scaled
    to the range 0 to 1 in each sub-space, so that epsilon means the same for all data.

    Parameters
    ----------
    distances
        (n, ..., ksub); the rows along axis 0 share the columns, and each sub-space in between is solved on its own.
    epsilon
        At least 0.002; smaller values come closer to a hard assignment and take more iterations.
    iterations
        Number of alternations between columns and rows.

    Raises
    ------
    ParameterError, NonFiniteError
        epsilon or iterations are out of range; distances are not finite.

    """
    if not epsilon >= LEAST_EPSILON or iterations < 1:
        raise ParameterError(
            f"epsilon must be at least {LEAST_EPSILON} and iterations at least 1, not {epsilon} and {iterations}"
        )
    if not distances.numel():
        return distances.detach().clone()
    if not torch.isfinite(distances).all():
        raise NonFiniteError("distances hold NaN or infinity")
    with torch.no_grad():
        n, ksub = distances.shape[0], distances.shape[-1]
        # float32's smallest number is about exp(-87), and distances go up to 1 / epsilon.
        costs = distances.reshape(n, -1, ksub).transpose(0, 1)
        costs = costs.to(torch.float32 if epsilon >= _ENOUGH_FOR_FLOAT32 else torch.float64)
        spread = (costs.amax((1, 2), keepdim=True) - costs.amin((1, 2), keepdim=True)).clamp_min(1e-12)
        kernel = torch.exp(-(costs - costs.amin(2, keepdim=True)) / (spread * epsilon))
        rows = torch.ones_like(kernel[:, :, :1])
        tiny = torch.finfo(kernel.dtype).tiny
        columns = torch.ones_like(kernel[:, :1]).transpose(1, 2)
        for _ in range(iterations):
            columns = (n / ksub) / (kernel.transpose(1, 2) @ rows).clamp_min(tiny)
            rows = 1 / (kernel @ columns)
        plan = rows * kernel * columns.transpose(1, 2)
        return plan.transpose(0, 1).reshape(distances.shape).to(distances.dtype)
