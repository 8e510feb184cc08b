"""What users give as a filter, and the rows that it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.errors import AnnvqError, FilterError
from annvq.index.filters import dialect, text
from annvq.index.filters.conditions import Condition
from annvq.index.filters.expressions import is_expression, rows_of_expression
from annvq.index.filters.masks import as_mask, narrowed_by_mask
from annvq.index.filters.matching import Matcher
from annvq.index.filters.rowset import RowSet
from annvq.index.rows.ids import IdColumn
from annvq.index.rows.segment import Segment
from annvq.index.rows.snapshot import Snapshot

if TYPE_CHECKING:
    import pyarrow.compute as pc


@dataclass(frozen=True, eq=False)
class Filter:
    """A filter that fits the kind of an index, ready to be applied to its segments.

    Parameters
    ----------
    allowed
        Ids; booleans (n,) for the rows in the order of their insertion; a condition on the attributes, or an expression
        over them.

    """

    allowed: IdColumn | np.ndarray | Condition | pc.Expression

    @classmethod
    def parse(cls, given: Any, snapshot: Snapshot) -> Filter:
        """Return what a user gave as a filter, checked against the index.

        Parameters
        ----------
        given
            A dict (`annvq.index.filters.dialect`), a text (`annvq.index.filters.text`) or a `pyarrow.compute`
            expression over the attributes; booleans, one for every row of the index in the order of insertion, null is
            false; or ids (`annvq.index.rows.id_input.parse_ids`), of which those that the index does not hold do no
            harm. An empty list allows nothing.
        snapshot
            The index's rows.

        Raises
        ------
        FilterError
            With what was given and what is accepted; also for integers that may as well be a mask.

        """
        condition = read(given)
        if condition is not None:
            return cls(condition)
        if is_expression(given):
            return cls(given)
        mask = as_mask(given)
        if mask is not None:
            return cls(mask)
        ids = _as_ids(given)
        _check_no_mask(ids, snapshot.live_count)
        return cls(ids)

    def narrowed(self, snapshot: Snapshot) -> Snapshot:
        """Return the snapshot with the rows that pass.

        Raises
        ------
        FilterError
            The mask has another length; the ids are of another kind than the index's; or the segments do not have what
            the condition or expression needs, with the attributes that there are.

        """
        allowed = self.allowed
        if isinstance(allowed, np.ndarray):
            return narrowed_by_mask(allowed, snapshot)
        if isinstance(allowed, Condition):
            matcher = Matcher.of(allowed, snapshot.schema)
            passing = [matcher.rows(segment, snapshot.schema) for segment in snapshot.segments]
        elif isinstance(allowed, IdColumn):
            passing = [_by_ids(allowed, segment.ids) for segment in snapshot.segments]
        else:
            passing = [_by_expression(allowed, segment, snapshot) for segment in snapshot.segments]
        return snapshot.narrowed(
            [
                segment.narrowed(rows.as_mask()) if rows.few is None else segment.narrowed_to(rows.few)
                for segment, rows in zip(snapshot.segments, passing, strict=True)
            ]
        )


def read(given: Any) -> Condition | None:
    """Return the condition that a filter as data or text stands for; None for filters of other kinds (FilterError)."""
    if isinstance(given, Condition):
        return given
    if isinstance(given, str):
        return text.read(given)
    return dialect.read(given) if isinstance(given, Mapping) else None


def _as_ids(given: Any) -> IdColumn:
    try:
        return IdColumn.of(given)
    except AnnvqError as error:
        raise FilterError(
            f"filter: {error}; or a boolean mask, a condition as dict or text, or a pyarrow.compute expression"
        ) from error


def _check_no_mask(ids: IdColumn, rows: int) -> None:
    """Refuse integers 0 and 1 with repeats, as many as there are rows, for they may be ids or a mask."""
    if ids.kind == "str" or len(ids) != rows or rows < 2:
        return
    values = ids.values
    if values.min() >= 0 and values.max() <= 1 and (rows > 2 or values[0] == values[1]):
        raise FilterError(
            f"filter: {rows} integers, all 0 or 1, for {rows} vectors: a mask has to be boolean (x.astype(bool)), "
            "ids are to be given once (numpy.unique(x))"
        )


def _by_ids(allowed: IdColumn, ids: IdColumn) -> RowSet:
    if len(allowed) and allowed.kind != ids.kind:
        raise FilterError(f"filter by {allowed.kind} ids, but those of the index are {ids.kind}")
    rows = ids.find(allowed)
    return RowSet.of(rows[rows >= 0], len(ids))


def _by_expression(expression: pc.Expression, segment: Segment, snapshot: Snapshot) -> RowSet:
    return RowSet(segment.n, None, rows_of_expression(expression, segment, snapshot.schema))
