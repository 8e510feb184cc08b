"""The devices that indexes can be moved to, and clear errors where there are none."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any

from annvq.errors import DeviceError, MissingExtraError, ParameterError

INTERPRETER = "interpreter"
_LEAST_CAPABILITY = (8, 0)  # of Ampere: bfloat16, and asynchronous copies


@dataclass(frozen=True)
class DeviceInfo:
    """A GPU, as `annvq info` shows it: its name, memory in bytes, and compute capability."""

    device: str
    name: str
    memory: int
    free: int
    capability: tuple[int, int]


def resolve(device: Any) -> Any:
    """Return the torch.device that is meant by "cuda", "cuda:1", a torch.device, or "interpreter".

    The interpreter is Triton's, which runs kernels on the CPU, very slowly: with it, what is written for a GPU can be
    tested without one. It has to be switched on by ``TRITON_INTERPRET=1`` in the environment of the process.

    Raises
    ------
    MissingExtraError
        torch or Triton is not installed.
    DeviceError
        There is no such GPU, or its driver or the GPU itself is too old, or torch was built without CUDA.
    ParameterError
        It is no device.

    """
    name = str(device)
    if name != INTERPRETER and not re.fullmatch(r"cuda(:[0-9]{1,3})?", name):
        raise ParameterError(f"device: {device!r}, expected 'cpu', 'cuda', or 'cuda:1' for the second GPU")
    torch = _imported()
    if name == INTERPRETER:
        if not _is_interpreting():
            raise DeviceError("device 'interpreter' needs TRITON_INTERPRET=1 in the environment of the process")
        return torch.device("cpu")
    if _is_interpreting():
        raise DeviceError(f"TRITON_INTERPRET is set, so that kernels would not run on {name}: unset it")
    return _usable(torch, name)


def _imported() -> Any:
    """Return torch, if it and Triton are installed (MissingExtraError)."""
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("torch", "gpu") from error
    try:
        import triton  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("triton", "gpu", "it has wheels for Linux") from error
    return torch


def _is_interpreting() -> bool:
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes", "y")


def _usable(torch: Any, name: str) -> Any:
    """Return the device of a GPU that kernels run on (DeviceError)."""
    if torch.version.cuda is None:
        raise DeviceError(
            f"device {name!r}: torch {torch.__version__} is built without CUDA; install a build with it "
            "(https://pytorch.org/get-started/locally)"
        )
    try:
        torch.cuda.init()
        count = torch.cuda.device_count()
    except (RuntimeError, AssertionError) as error:  # no driver, or one that is too old; torch says which
        raise DeviceError(f"device {name!r} cannot be used: {' '.join(str(error).split())}") from error
    number = int(name[5:]) if ":" in name else (torch.cuda.current_device() if count else 0)
    if number >= count:
        raise DeviceError(f"device {name!r}: there are {count} GPUs that torch can use")
    capability = torch.cuda.get_device_capability(number)
    if capability < _LEAST_CAPABILITY:
        shown, least = (".".join(map(str, one)) for one in (capability, _LEAST_CAPABILITY))
        raise DeviceError(
            f"device {name!r}: {torch.cuda.get_device_name(number)} has compute capability {shown}, {least} or newer "
            "is needed"
        )
    return torch.device("cuda", number)


def devices() -> tuple[list[DeviceInfo], str]:
    """Return the GPUs that can be used, and why there are none if there are none."""
    try:
        resolve("cuda")
    except (DeviceError, MissingExtraError) as error:
        return [], str(error)
    import torch

    found = []
    for number in range(torch.cuda.device_count()):
        free, memory = torch.cuda.mem_get_info(number)
        name, capability = torch.cuda.get_device_name(number), torch.cuda.get_device_capability(number)
        found.append(DeviceInfo(f"cuda:{number}", name, memory, free, capability))
    return found, ""
