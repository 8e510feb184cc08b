"""A tokenizer's state in one safetensors file. No pickle."""

from __future__ import annotations

import os

from annvq.arguments import as_file, as_path
from annvq.errors import DataFormatError, ParameterError
from annvq.io.replacing import replacing
from annvq.learn.runtime import safetensors_of_torch, torch


def save_weights(path: str | os.PathLike[str], module: torch.nn.Module) -> None:
    """Write parameters and buffers of a tokenizer, or of a module around one, whole or not at all."""
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in module.state_dict().items()}
    store = safetensors_of_torch()
    with replacing(as_path(path)) as partial:
        store.save_file(tensors, str(partial), metadata={"annvq": "tokenizer"})


def load_weights(path: str | os.PathLike[str], module: torch.nn.Module) -> None:
    """Load what `save_weights` wrote into a module built the same way; if it does not fit, nothing changes.

    Raises
    ------
    DataFormatError
        The file is damaged, or is not a safetensors file.
    ParameterError
        It was written from a module with other tensors.
    OSError
        It cannot be read.

    """
    from safetensors import SafetensorError

    store, place = safetensors_of_torch(), as_file(path)
    try:
        tensors = store.load_file(place)
    except SafetensorError as error:
        raise DataFormatError(f"{place.name} cannot be read: {error}") from error
    wanted = {name: (tuple(value.shape), value.dtype) for name, value in module.state_dict().items()}
    found = {name: (tuple(value.shape), value.dtype) for name, value in tensors.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise ParameterError(
                f"{place.name} is of another module: {name} is {found.get(name)}, expected {wanted.get(name)}"
            )
    module.load_state_dict(tensors)
