"""Tables whose structure is still being searched."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from annvq.errors import DtypeError, ParameterError, ShapeError, StateError
from annvq.tables.frequencies import popularity_groups
from annvq.tables.frozen.partition import MOST_GROUPS
from annvq.tables.method import TableMethod
from annvq.tables.state import become, check_method
from annvq.tables.table import Table

if TYPE_CHECKING:
    from annvq.tables.frozen.form import Form

_GROUPS = 8


class SearchedTable(TableMethod):
    """A table that `finish` turns into its final structure; until then it has no inference form.

    Loading the state of a finished table turns it into that final table in place.
    """

    is_final: ClassVar[bool] = False
    final_mark: ClassVar[str]  # a tensor that the final table has and this one does not

    @property
    def nbytes(self) -> int:
        """The budget: `finish` makes a table of at most this many bytes."""
        return self.budget_bytes

    def form(self) -> Form:
        """Raise StateError: the structure is not known yet."""
        raise StateError(f"{self.method} is still searching: call finish() and train what it returns")

    @abstractmethod
    def empty_final(self) -> Table:
        """Return a final table that holds nothing yet, which a state gives its structure."""

    def prepare(self, given: Mapping[str, Any], prefix: str) -> None:
        """Become the final table if the state is of one; errors as of `Table.prepare`, and nothing has changed."""
        if prefix + self.final_mark not in given:
            super().prepare(given, prefix)
            return
        check_method(self.description(), given, prefix)
        learned = [parameter for parameter in self.parameters() if parameter.requires_grad]
        final = self.empty_final().to(next(self.parameters())).train(self.training).requires_grad_(bool(learned))
        final.prepare(given, prefix)
        become(self, final)


def as_groups(groups: Any, n: int, frequencies: Any) -> np.ndarray:
    """Return every row's group (n,) int64.

    Parameters
    ----------
    groups
        (n,) whole numbers from 0, such as the field that a row belongs to; None: eight by popularity.
    n
        Rows.
    frequencies
        (n,) or None, as of `annvq.tables.frequencies.popularity_groups`.

    Raises
    ------
    ShapeError, DtypeError, ParameterError
        Groups of other rows, no whole numbers, or too many.

    """
    if groups is None:
        return popularity_groups(n, frequencies, _GROUPS)[0]
    given = np.asarray(groups)
    if given.shape != (n,):
        raise ShapeError(f"groups of shape {given.shape}, expected one of each of {n} rows")
    if given.dtype.kind not in "iu":
        raise DtypeError(f"groups of dtype {given.dtype}, expected whole numbers")
    if given.min() < 0 or given.max() >= MOST_GROUPS - 1:
        raise ParameterError(f"groups must be 0 to {MOST_GROUPS - 2}, not {given.min()} to {given.max()}")
    return np.unique(given, return_inverse=True)[1].astype(np.int64).reshape(n)
