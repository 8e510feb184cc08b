"""What a table's state dictionary says about the table, and whether a state fits one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from annvq.errors import DtypeError, ParameterError, ShapeError
from annvq.learn.runtime import torch

if TYPE_CHECKING:
    from torch import Tensor

KEY = "_extra_state"  # torch's own name for what is neither a parameter nor a buffer
SIZES = ("num_embeddings", "embedding_dim")


def written(description: Mapping[str, Any]) -> Tensor:
    """Return what decides the meaning of a table's tensors as JSON in uint8: safetensors takes tensors alone."""
    return torch.frombuffer(bytearray(json.dumps(dict(description)).encode()), dtype=torch.uint8)


def check_method(own: Mapping[str, Any], state: Mapping[str, Any], prefix: str) -> None:
    """Raise ParameterError or ShapeError if a state is of another method or of other rows than a description."""
    _compare(own, state, prefix, ("method", *SIZES))


def check(own: Mapping[str, Any], tensors: Mapping[str, Tensor], state: Mapping[str, Any], prefix: str) -> None:
    """Raise if a state is not of a table of this description and tensors; torch reports those that it lacks.

    Raises
    ------
    ParameterError, ShapeError, DtypeError
        The state of another method, of another stage, of other arguments; tensors of other shapes or dtypes.

    """
    _compare(own, state, prefix, tuple(own))
    for name, tensor in tensors.items():
        given: Any = state.get(name)
        if not isinstance(given, torch.Tensor) or name == prefix + KEY:
            continue
        if given.shape != tensor.shape:
            raise ShapeError(
                f"{name} of the state has shape {tuple(given.shape)}, and this {own['method']} has "
                f"{tuple(tensor.shape)}: make the table with the arguments of the one that was saved"
            )
        if given.dtype != tensor.dtype and not (given.is_floating_point() and tensor.is_floating_point()):
            raise DtypeError(f"{name} of the state is of {given.dtype}, expected {tensor.dtype}")


def check_budget(method: str, nbytes: int, most: int) -> None:
    """Raise ParameterError if a state asks for more bytes than the budget with which its table was made."""
    if nbytes > most:
        raise ParameterError(
            f"the state of a {method} of {nbytes} bytes, and this one was made for {most}: "
            "make the table with the arguments of the one that was saved"
        )


def _compare(own: Mapping[str, Any], state: Mapping[str, Any], prefix: str, names: tuple[str, ...]) -> None:
    if prefix + KEY not in state:
        return
    given = _read(state[prefix + KEY], prefix + KEY)
    for name in names:
        if given.get(name) == own[name]:
            continue
        if name in SIZES:
            raise ShapeError(f"the state of a table of {name}={given.get(name)!r}, and this one has {own[name]}")
        if name == "is_final":
            raise ParameterError(
                f"the state of a {own['method']} that is still searching, and this one is finished: "
                "load it into a new one"
            )
        raise ParameterError(f"the state of a table of {name} {given.get(name)!r}, and this one has {own[name]!r}")


def _read(given: Any, name: str) -> dict[str, Any]:
    try:
        read = json.loads(bytes(given.cpu().numpy()).decode()) if given.dtype == torch.uint8 else None
    except (AttributeError, TypeError, ValueError, RecursionError):
        read = None
    if not isinstance(read, dict):
        raise ParameterError(f"{name} of the state is not what a table writes: expected JSON as uint8")
    return read


def become(table: torch.nn.Module, other: torch.nn.Module) -> None:
    """Turn a module into another in place, so that a model still holds it, as torch's lazy modules do."""
    plain = torch.nn.Module().__dict__
    moved = {"_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"}
    for name in [name for name in table.__dict__ if name not in plain]:
        del table.__dict__[name]
    table.__dict__.update({name: value for name, value in other.__dict__.items() if name in moved or name not in plain})
    table.__class__ = type(other)
