"""Launching kernels: the one place that knows of grids, options and the device of the arguments."""

from __future__ import annotations

from threading import Lock
from typing import Any

import torch
import triton

from annvq.gpu.interpreting import correct_interpreter

_BLACKWELL = 10
_INTERPRETER = Lock()  # it changes Triton's language for as long as a kernel runs


def launch(kernel: Any, programs: int | tuple[int, ...], *arguments: Any, warps: int = 4, **constants: Any) -> None:
    """Run a Triton kernel in so many programs; none if a number is 0.

    Parameters
    ----------
    kernel
        What ``triton.jit`` made.
    programs
        The sizes of the grid: the first at most 2^31 - 1, two more at most 65,535.
    arguments
        Tensors on one device, C-contiguous unless the kernel takes strides, and numbers.
    warps
        Groups of 32 threads per program.
    constants
        The kernel's compile-time constants.

    """
    grid = (programs,) if isinstance(programs, int) else programs
    if min(grid) > 0:
        run(kernel, grid, arguments, warps, constants)


def programs_for(places: torch.Tensor, rows: int) -> int:
    """Return how many programs score candidates, (nq, P), so many of a query each."""
    return len(places) * -(-places.shape[1] // rows)


def tile_queries(capability: int) -> int:
    """Return how many queries a tile of bfloat16 products has on a GPU of this major compute capability.

    The products of larger tiles take another way on Blackwell, which Triton before 3.9 fails to compile.
    """
    is_old = tuple(int(part) for part in triton.__version__.split(".")[:2]) < (3, 9)
    return 32 if is_old and capability >= _BLACKWELL else 64


def capability_of(device: torch.device) -> int:
    """Return the major compute capability of a device, 0 for the interpreter."""
    return torch.cuda.get_device_capability(device)[0] if device.type == "cuda" else 0


def run(kernel: Any, grid: tuple[int, ...], arguments: tuple, warps: int, constants: dict[str, Any]) -> None:
    """Run a kernel on the device of its first tensor, in that device's current stream.

    Multiplications and additions are not fused but where a kernel says so: sums have to be those of the CPU.
    """
    device = next(one.device for one in arguments if isinstance(one, torch.Tensor))
    if device.type == "cpu":
        correct_interpreter()
    with torch.cuda.device(device) if device.type == "cuda" else _INTERPRETER:
        kernel[grid](*arguments, **constants, num_warps=warps, enable_fp_fusion=False)
