"""Saving codebooks to container files and opening these."""

from __future__ import annotations

import json
import os
from typing import Any, Protocol

import numpy as np

from annvq.arguments import as_path
from annvq.codebooks.kmeans import KMeans
from annvq.codebooks.product import ProductCodebook
from annvq.codebooks.rabitq import RaBitQCodebook
from annvq.codebooks.residual import ResidualCodebook
from annvq.codebooks.rotation import Rotation
from annvq.codebooks.scalar import ScalarCodebook
from annvq.errors import CorruptIndexError, ParameterError


class Storable(Protocol):
    """An object that can be written: it has settings that JSON can hold, and arrays."""

    def config(self) -> dict[str, Any]:
        """Return the settings, which are all that is not an array."""
        ...

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        ...


CLASSES: dict[str, Any] = {
    "kmeans": KMeans,
    "scalar": ScalarCodebook,
    "product": ProductCodebook,
    "residual": ResidualCodebook,
    "rabitq": RaBitQCodebook,
    "rotation": Rotation,
}
_KIND = "codebook"


def save(path: str | os.PathLike[str], codebook: Storable) -> None:
    """Write a codebook, or a rotation, to one container file.

    Raises
    ------
    ParameterError
        The object is not a codebook, or the path is not one.

    Examples
    --------
    >>> vectors = np.random.default_rng(0).normal(size=(1000, 32))
    >>> annvq.codebooks.save("lists", annvq.codebooks.KMeans.train(vectors, 16))
    >>> annvq.codebooks.open("lists").k
    16

    """
    from annvq.storage import write_container  # a layer above: only these two functions need it

    name = next((name for name, cls in CLASSES.items() if type(codebook) is cls), None)
    if name is None:
        kinds = ", ".join(cls.__name__ for cls in CLASSES.values())
        raise ParameterError(f"a codebook must be one of {kinds}, not {type(codebook).__name__}")
    config = json.dumps({"class": name, **codebook.config()}).encode()
    write_container(as_path(path), _KIND, {"config": np.frombuffer(config, np.uint8), **codebook.arrays()})


def open_codebook(path: str | os.PathLike[str]) -> Any:
    """Return the codebook that `save` wrote.

    Raises
    ------
    CorruptIndexError
        The file is not what was written, or holds something other than a codebook.
    ParameterError
        The path is not one.

    Examples
    --------
    >>> vectors = np.random.default_rng(0).normal(size=(1000, 32))
    >>> annvq.codebooks.save("lists", annvq.codebooks.KMeans.train(vectors, 16))
    >>> annvq.codebooks.open("lists").assign(vectors)[0].shape
    (1000,)

    """
    from annvq.storage import read_container

    path = as_path(path)
    kind, sections = read_container(path)
    if kind != _KIND:
        raise CorruptIndexError(f"{os.fspath(path)!r} holds {kind!r}, not a codebook")
    arrays = dict(sections)
    try:
        config = dict(json.loads(arrays.pop("config").tobytes()))  # bytes() of a scalar would be that many zeros
        cls = CLASSES[config.pop("class")]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CorruptIndexError(f"{os.fspath(path)!r}: the codebook's settings cannot be read") from error
    return cls.from_arrays(config, arrays)
