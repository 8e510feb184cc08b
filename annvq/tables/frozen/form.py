"""What all inference forms share: named arrays and settings, and rows from ids."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from annvq.errors import CorruptIndexError
from annvq.kernels.embeddings.embedding import SPARE
from annvq.kernels.registers.tiles import readonly

LARGEST_DIM = 65_536


@dataclass(frozen=True, eq=False)
class Form(ABC):
    """A table of ``n`` rows of ``d`` floats, made of arrays that NumPy alone can read.

    Settings are numbers of the table as a whole: sizes, seeds, one scale. They are stored in a file's header and do not
    count as bytes; everything that grows with rows, groups or codebooks is an array.
    """

    n: int
    d: int

    kind: ClassVar[str]

    @abstractmethod
    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""

    def settings(self) -> dict[str, Any]:
        """Return what is not an array, as JSON can hold it."""
        return {}

    @classmethod
    @abstractmethod
    def from_arrays(cls, n: int, d: int, settings: dict[str, Any], arrays: dict[str, np.ndarray]) -> Form:
        """Build from `arrays` and `settings`; CorruptIndexError if they do not fit."""

    @abstractmethod
    def rows(self, ids: np.ndarray) -> np.ndarray:
        """Return rows (m, d) float32 of ids (m,) int64, each from 0 to n - 1."""

    def sums(self, ids: np.ndarray, offsets: np.ndarray, weights: np.ndarray) -> np.ndarray | None:
        """Return sums (b, d) float32 of bags without materializing rows; None if the form cannot."""
        return None

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.arrays().values())


def stored(arrays: dict[str, np.ndarray], name: str, dtypes: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    """Return an array that was stored, read-only; None in ``shape`` stands for any length.

    Parameters
    ----------
    arrays, name
        Where and which.
    dtypes
        One dtype or a tuple of those accepted.
    shape
        Expected.

    Raises
    ------
    CorruptIndexError
        It is missing, has another dtype or shape, or floats that are not finite.

    """
    if name not in arrays:
        raise CorruptIndexError(f"a table without its array {name!r}")
    array = arrays[name]
    accepted = dtypes if isinstance(dtypes, tuple) else (dtypes,)
    fits = array.ndim == len(shape) and all(want in (None, have) for have, want in zip(array.shape, shape))
    if array.dtype not in [np.dtype(dtype) for dtype in accepted] or not fits:
        wanted = "(" + ", ".join("any" if want is None else str(want) for want in shape) + ")"
        names = " or ".join(np.dtype(dtype).name for dtype in accepted)
        raise CorruptIndexError(f"table array {name!r} is {array.dtype} {array.shape}, expected {names} {wanted}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise CorruptIndexError(f"table array {name!r} holds NaN or infinity")
    return contiguous(array)


def contiguous(array: np.ndarray) -> np.ndarray:
    """Return an array as kernels take it: C-contiguous and read-only."""
    return readonly(np.ascontiguousarray(array))


def below(name: str, array: np.ndarray, limit: int) -> np.ndarray:
    """Return an array of whole numbers that must lie in 0 .. limit - 1; CorruptIndexError if one does not."""
    if array.size and not (0 <= int(array.min()) and int(array.max()) < limit):
        raise CorruptIndexError(f"table array {name!r} holds {array.min()} to {array.max()}, expected 0 to {limit - 1}")
    return array


def setting(settings: dict[str, Any], name: str, least: int, most: int) -> int:
    """Return a whole number of stored settings; CorruptIndexError outside its range."""
    value = settings.get(name)
    if type(value) is not int or not least <= value <= most:
        raise CorruptIndexError(f"table setting {name!r} is {value!r}, expected {least} to {most}")
    return value


def with_spare(array: np.ndarray) -> np.ndarray:
    """Return the numbers of an array, flat, with as many zeros behind them as kernels read too far."""
    flat = np.zeros(array.size + SPARE, array.dtype)
    flat[: array.size] = array.ravel()
    return readonly(flat)


def rows_with_spare(m: int, d: int, more: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return a flat buffer that kernels may write past the end of, and its rows (m, d) float32."""
    flat = np.empty(m * d + more + SPARE, np.float32)
    return flat, flat[: m * d].reshape(m, d)
