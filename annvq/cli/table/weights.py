"""Weights of trained embedding tables, from files of vectors or of tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from annvq import io
from annvq.arguments import as_file
from annvq.errors import DataFormatError, ParameterError

_TENSORS = ".safetensors"
FORMATS = ("npy", "npz", "Parquet", "Arrow", "HDF5", "safetensors")


def read_weights(path: Path, name: str | None) -> np.ndarray:
    """Return a weight matrix (n, d) in float32.

    Parameters
    ----------
    path
        A safetensors file, or one that `annvq.io.read` reads.
    name
        The tensor, array or column; by default the only one that can be a weight matrix.

    Raises
    ------
    DataFormatError, ParameterError, OSError
        The file is damaged or missing, or there is no such matrix.

    """
    matrix = _tensor(path, name) if path.suffix.lower() == _TENSORS else io.read(path, vector_column=name)
    if 0 in matrix.shape:
        raise DataFormatError(f"{path}: a matrix of shape {matrix.shape}, expected at least one row and one column")
    return np.array(matrix, dtype=np.float32, order="C")  # a copy, for torch warns of arrays that are read-only


def _tensor(path: Path, name: str | None) -> np.ndarray:
    """Return a tensor of two axes, read by torch, which has bfloat16."""
    from annvq.learn.runtime import safetensors_of_torch, torch

    safetensors_of_torch()
    from safetensors import safe_open

    with open(as_file(path), "rb"):  # a missing file is an OSError that names it
        pass
    try:
        with safe_open(str(path), framework="pt") as opened:
            matrices = [key for key in opened.keys() if len(opened.get_slice(key).get_shape()) == 2]
            if name is None and len(matrices) != 1:
                raise ParameterError(f"{path}: matrices {', '.join(matrices) or 'none'}; name one with --vector-column")
            if name is not None and name not in matrices:
                raise ParameterError(f"{path}: no matrix {name!r}; matrices: {', '.join(matrices) or 'none'}")
            return opened.get_tensor(name or matrices[0]).to(torch.float32).numpy()
    except (ParameterError, MemoryError):
        raise
    except Exception as error:  # safetensors' own error class derives from Exception alone
        raise DataFormatError(f"{path}: no safetensors file: {error}") from error
