"""The state of a training run in one safetensors file: parameters, optimizer, codes, history. No pickle."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.errors import CorruptIndexError, ParameterError
from annvq.io.replacing import replacing
from annvq.learn.runtime import safetensors_of_torch, torch

if TYPE_CHECKING:
    from torch import Tensor

FILE = "checkpoint.safetensors"
_FORMAT = 2


@dataclass
class Advance:
    """How far a training run has come.

    Parameters
    ----------
    step
        Steps done.
    best, best_step
        The best dev metric so far and the step at which it was reached.
    history
        One entry per measurement: step, loss, dev metric, entropy of codes.
    stopped
        Why it stopped before its last step, or "".

    """

    step: int = 0
    best: float = float("-inf")
    best_step: int = -1
    history: list[dict[str, float]] = field(default_factory=list)
    stopped: str = ""


def save(path: Path, parts: dict[str, dict[str, Tensor]], optimizer: Any, progress: Advance, asked: str) -> None:
    """Write a checkpoint atomically.

    Parameters
    ----------
    path
        The file.
    parts
        Named groups of tensors: the student, the best student, codes.
    optimizer
        The optimizer whose state is saved too.
    progress
        How far it is.
    asked
        A text that says what is being trained: resuming anything else is refused.

    """
    tensors = {f"{part}/{name}": value for part, group in parts.items() for name, value in group.items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{number}/{name}": torch.as_tensor(value) for name, value in state.items()}
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    about = {"format": _FORMAT, "asked": asked, "progress": vars(progress), "sha256": _digest_of(plain)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        safetensors_of_torch().save_file(plain, str(partial), metadata={"annvq": json.dumps(about)})


def load(
    path: Path, asked: str, expected: dict[str, Tensor]
) -> tuple[dict[str, dict[str, Tensor]], dict[int, dict[str, Tensor]], Advance]:
    """Read a checkpoint: parts, each with the names and shapes of ``expected``, the optimizer's state, progress.

    Raises
    ------
    ParameterError
        The checkpoint is from another training run: other data, method or parameters.
    CorruptIndexError
        The file cannot be read, or is damaged.

    """
    from safetensors import safe_open

    safetensors_of_torch()
    try:
        with safe_open(str(path), framework="pt") as opened:
            about = json.loads(opened.metadata()["annvq"])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}
        if about["format"] == _FORMAT and about["sha256"] != _digest_of(tensors):
            raise ValueError("its checksum differs")
        progress = Advance(**about["progress"])
        parts: dict[str, dict[str, Tensor]] = {}
        optimizer: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            part, _, rest = name.partition("/")
            if part == "optimizer":
                number, _, key = rest.partition("/")
                optimizer.setdefault(int(number), {})[key] = value
            else:
                parts.setdefault(part, {})[rest] = value
        known, found = about["asked"], about["format"]
    except FileNotFoundError:
        raise
    except Exception as error:  # safetensors' own errors, JSON's, missing keys
        raise CorruptIndexError(f"{path.name} cannot be read: {type(error).__name__}: {error}") from error
    if found != _FORMAT:
        raise CorruptIndexError(f"{path.name} is of format {found}, expected {_FORMAT}")
    if known != asked:
        raise ParameterError(
            f"{path.name} is of another training ({known}); this is {asked}. Use another folder, or resume=False"
        )
    for part in ("student", "best"):
        found_shapes = {name: value.shape for name, value in parts.get(part, {}).items()}
        if found_shapes != {name: value.shape for name, value in expected.items()}:
            raise CorruptIndexError(f"{path.name} does not hold the parts that are trained ({part})")
    return parts, optimizer, progress


def _digest_of(tensors: dict[str, Tensor]) -> str:
    names = sorted(tensors)
    return digest(*(tensors[name].reshape(-1).view(torch.uint8).numpy() for name in names))


def digest(*arrays: np.ndarray) -> str:
    """Return a short fingerprint of arrays: what was learned from."""
    made = hashlib.sha256()
    for array in arrays:
        made.update(str((array.dtype.str, array.shape)).encode())
        made.update(np.ascontiguousarray(array).data)
    return made.hexdigest()[:16]
