"""How gradients pass a choice that has none: from the chosen code, z_q, back to z."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from annvq.learn.runtime import torch

if TYPE_CHECKING:
    from torch import Tensor

Estimator = Callable[["Tensor", "Tensor"], "Tensor"]


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, q: Tensor) -> Tensor:
        return q.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def straight_through(z: Tensor, q: Tensor) -> Tensor:
    """Return q (n, d), bit for bit, with z's gradient equal to that of the result (Bengio et al. 2013).

    Written as z + (q - z).detach(), rounding would make the result differ from what codes decode to.
    """
    return _StraightThrough.apply(z, q.detach())  # pyright: ignore[reportReturnType]


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, q: Tensor) -> Tensor:
        ctx.save_for_backward(z, q)
        return q.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        z, q = ctx.saved_tensors
        gradient = gradients[0]
        long_z, long_q = z.norm(dim=-1, keepdim=True), q.norm(dim=-1, keepdim=True)
        tiny = torch.finfo(z.dtype).tiny
        unit_z, unit_q = z / long_z.clamp_min(tiny), q / long_q.clamp_min(tiny)
        middle = torch.nn.functional.normalize(unit_z + unit_q, dim=-1, eps=tiny)
        along = (gradient * middle).sum(-1, keepdim=True)
        turned = gradient - 2 * along * middle + 2 * (gradient * unit_q).sum(-1, keepdim=True) * unit_z
        has_direction = (long_z > tiny) & (long_q > tiny)
        return torch.where(has_direction, turned * long_q / long_z.clamp_min(tiny), gradient), None


def rotation_trick(z: Tensor, q: Tensor) -> Tensor:
    """Return q (n, d), bit for bit, as a rotation and scaling of z (the rotation trick, Fifty et al. 2024).

    The gradient of z is that of the result, turned back and scaled by |q| / |z|, with rotation and scale taken as
    constants; if z or q is 0 there is no rotation, and the gradient is the straight-through one.
    """
    return _Rotation.apply(z, q.detach())  # pyright: ignore[reportReturnType]
