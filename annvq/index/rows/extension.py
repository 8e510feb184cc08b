"""What rows may have beside their vectors, in additional sections of the same segments.

A package above this one decides what that is. Rows are then added, removed, merged, saved and verified by the same code
as any others, which knows their extension by `RowExtension` alone.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np


class ExtensionRows(Protocol):
    """What an extension keeps of n rows, coded and not yet packed."""

    def __getitem__(self, rows: np.ndarray, /) -> ExtensionRows:
        """Return that of some rows (int64), in that order."""
        ...

    @classmethod
    def joined(cls, parts: Sequence[Any]) -> ExtensionRows:
        """Concatenate the rows of several parts."""
        ...


class RowExtension(Protocol):
    """How what rows have beside their vectors is packed, checked and kept.

    All names of its sections begin with `name` and a dot.
    """

    @property
    def name(self) -> str:
        """The name in files and among unpacked rows; `EXTENSIONS` has it."""
        ...

    @property
    def followed(self) -> tuple[str, ...]:
        """The sections whose numbers kernels follow unchecked, which are therefore kept in memory."""
        ...

    @property
    def refusal(self) -> str:
        """What is said to whoever takes the vectors for all that the rows are."""
        ...

    def pack(self, rows: Any, /) -> dict[str, np.ndarray]:
        """Return the sections of `ExtensionRows`."""
        ...

    def unpack(self, arrays: dict[str, np.ndarray], rows: np.ndarray, /) -> ExtensionRows:
        """Return what some rows (int64) of a segment's sections have."""
        ...

    def relaid(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return a segment's sections in this machine's layout, whatever machine wrote them."""
        ...

    def layout(self, arrays: dict[str, np.ndarray], n: int) -> Mapping[str, tuple[type, tuple[int, ...]]]:
        """Return dtype and shape of the sections of ``n`` rows (CorruptIndexError if their numbers are wrong)."""
        ...

    def config(self) -> dict[str, Any]:
        """Return what is not an array; the classmethod ``from_sections`` takes it, and what `sections` returns."""
        ...

    def sections(self) -> dict[str, np.ndarray]:
        """Return the learned arrays by name."""
        ...


# The class of every extension, which is imported when an index that has it is opened.
EXTENSIONS = {"tokens": ("annvq.multivector.tokens", "TokenStore")}


def extension_class(name: str) -> Any:
    """Return the class of an extension."""
    module, of = EXTENSIONS[name]
    return getattr(importlib.import_module(module), of)
