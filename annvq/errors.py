"""The errors that annvq raises on purpose.

    AnnvqError
    ├── ShapeError(ValueError)          wrong dimension, number of axes or length
    ├── DtypeError(TypeError, ValueError)  a dtype that is not accepted here
    ├── NonFiniteError(ValueError)      NaN or infinity in vectors or queries, or scores that would overflow
    ├── ZeroVectorError(ValueError)     a vector without direction under the cosine metric
    ├── DuplicateIdError(ValueError)    an id given twice, or already in the index
    ├── UnknownIdError(KeyError)        an id that the index does not hold
    ├── ParameterError(ValueError)      an argument outside its range
    │   └── BudgetError                 a budget of bytes that no compressed table can meet
    ├── RecipeError(ValueError)         a recipe that cannot be read or does not fit the vectors
    ├── FilterError(ValueError)         a filter that does not fit the index's attributes
    ├── StateError(RuntimeError)        the object is not in a state that allows the call
    ├── StorageError(OSError)           the operating system refused a read or a write
    │   ├── LockedError                 another writer holds the index
    │   ├── CorruptIndexError(ValueError)  bytes that are not what was written
    │   └── VersionError(ValueError)    written by a newer, or no longer readable, version
    ├── DataFormatError(ValueError)     an input file that is not in the format it should be
    ├── DeviceError(RuntimeError)       no GPU that can be used, or one that cannot hold what it should
    │   └── DeviceMemoryError(MemoryError)  more memory of a GPU than there is
    └── MissingExtraError(ImportError)  an optional dependency is not installed

A message says what was expected, what was given and, if there is one, the way out.
"""

from __future__ import annotations


class AnnvqError(Exception):
    """The base class of all errors that annvq raises."""


class ShapeError(AnnvqError, ValueError):
    """An array has the wrong dimension, number of axes or length."""


class DtypeError(AnnvqError, TypeError, ValueError):
    """A dtype is not accepted here."""


class NonFiniteError(AnnvqError, ValueError):
    """Vectors or queries hold NaN or infinity, or are so long that their squares overflow."""


class ZeroVectorError(AnnvqError, ValueError):
    """A vector is zero, and so has no direction under the cosine metric."""


class DuplicateIdError(AnnvqError, ValueError):
    """An id is given twice, or is already in the index."""


class UnknownIdError(AnnvqError, KeyError):
    """The index does not hold an id."""

    def __str__(self) -> str:
        """Return the plain message (KeyError would quote it)."""
        return str(self.args[0]) if self.args else ""


class ParameterError(AnnvqError, ValueError):
    """An argument is outside its range."""


class BudgetError(ParameterError):
    """No compressed table can be made within the budget of bytes."""


class RecipeError(AnnvqError, ValueError):
    """A recipe cannot be read, or does not fit the vectors."""


class FilterError(AnnvqError, ValueError):
    """A filter does not fit the index or its attributes."""


class StateError(AnnvqError, RuntimeError):
    """The object is not in a state that allows the call."""


class StorageError(AnnvqError, OSError):
    """The operating system refused a read or a write."""


class LockedError(StorageError):
    """Another writer holds the index."""


class CorruptIndexError(StorageError, ValueError):
    """Bytes on disk are not those that were written."""


class VersionError(StorageError, ValueError):
    """A file was written by a newer version of annvq, or by one whose files can no longer be read."""


class DataFormatError(AnnvqError, ValueError):
    """An input file is not in the format that it should have."""


class DeviceError(AnnvqError, RuntimeError):
    """There is no GPU that can be used, or it cannot do what was asked for."""


class DeviceMemoryError(DeviceError, MemoryError):
    """A GPU has less free memory than is needed, or than it was allowed to take."""


class MissingExtraError(AnnvqError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, note: str = "") -> None:
        reason = f" ({note})" if note else ""
        super().__init__(f"{package} is not installed; it comes with: pip install 'annvq[{extra}]'{reason}")
        self.package = package
        self.extra = extra
