"""What a table's state dictionary says of the table, and whether a state fits one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from annvq.errors import DtypeError, ParameterError, ShapeError
from annvq.learn.runtime import torch

if TYPE_CHECKING:
    from torch import Tensor

    from annvq.tables.table import Table

KEY = "_extra_state"  # torch's own name for what is neither a parameter nor a buffer
_SIZES = ("num_embeddings", "embedding_dim")


def described(table: Table) -> Tensor:
    """Return what decides the meaning of a table's tensors, as JSON in uint8: safetensors takes tensors alone."""
    text = json.dumps(_description(table)).encode()
    return torch.frombuffer(bytearray(text), dtype=torch.uint8)


def _description(table: Table) -> dict[str, Any]:
    own = {name: getattr(table, name) for name in (*_SIZES, *table.structure)}
    return {"method": table.made_by, "is_final": table.is_final, **own}


def check_method(table: Table, state: Mapping[str, Any], prefix: str) -> None:
    """Raise ParameterError or ShapeError where a state is of another method or of other rows."""
    _compare(table, state, prefix, ("method", *_SIZES))


def check(table: Table, state: Mapping[str, Any], prefix: str) -> None:
    """Raise where a state is not of such a table; tensors that it lacks are told by torch.

    Raises
    ------
    ParameterError, ShapeError, DtypeError
        The state of another method, of another stage, of other arguments; tensors of other shapes or dtypes.

    """
    _compare(table, state, prefix, tuple(_description(table)))
    tensors: dict[str, Tensor] = table.state_dict(prefix=prefix)
    for name, own in tensors.items():
        given: Any = state.get(name)
        if not isinstance(given, torch.Tensor) or name == prefix + KEY:
            continue
        if given.shape != own.shape:
            raise ShapeError(
                f"{name} of the state has shape {tuple(given.shape)}, and this {table.made_by} has "
                f"{tuple(own.shape)}: make the table with the arguments of the one that was saved"
            )
        if given.dtype != own.dtype and not (given.is_floating_point() and own.is_floating_point()):
            raise DtypeError(f"{name} of the state is of {given.dtype}, expected {own.dtype}")


def check_budget(table: Table, nbytes: int) -> None:
    """Raise ParameterError where the bytes that a state asks for are above the budget that the table was made with."""
    if nbytes > table.budget_bytes:
        raise ParameterError(
            f"the state of a {table.made_by} of {nbytes} bytes, and this one was made for {table.budget_bytes}: "
            "make the table with the arguments of the one that was saved"
        )


def _compare(table: Table, state: Mapping[str, Any], prefix: str, names: tuple[str, ...]) -> None:
    if prefix + KEY not in state:
        return
    given, own = _read(state[prefix + KEY], prefix + KEY), _description(table)
    for name in names:
        if given.get(name) == own[name]:
            continue
        if name in _SIZES:
            raise ShapeError(f"the state of a table of {name}={given.get(name)!r}, and this one has {own[name]}")
        if name == "is_final":
            raise ParameterError(
                f"the state of a {table.made_by} that is still searching, and this one is finished: "
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


def become(table: Table, other: Table) -> None:
    """Turn a table into another in its place, so that a model goes on holding it, as torch's lazy modules do."""
    plain = torch.nn.Module().__dict__
    moved = {"_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"}
    for name in [name for name in table.__dict__ if name not in plain]:
        del table.__dict__[name]
    table.__dict__.update({name: value for name, value in other.__dict__.items() if name in moved or name not in plain})
    table.__class__ = type(other)
