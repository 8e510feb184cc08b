"""One index of several that share what they have learned."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeVar

import numpy as np

from annvq.arguments import as_path
from annvq.errors import ParameterError, StateError
from annvq.index.base import BaseIndex
from annvq.index.rows.ids import IdColumn
from annvq.index.rows.segment import Segment
from annvq.index.trained import Trained
from annvq.index.versions.merge import merge as merge_segments
from annvq.index.versions.versioned import VersionedRows
from annvq.storage import Store

AnyIndex = TypeVar("AnyIndex", bound=BaseIndex)


def merge(indexes: Iterable[AnyIndex], *, path: str | os.PathLike[str] | None = None) -> AnyIndex:
    """Return one index of the rows of several, in their order, without decoding anything.

    Indexes that were built from the parts of a collection with the same trained parts (`annvq.train`, and ``trained``
    of `annvq.build`) become, to the bit, the index that is built of the whole.

    Parameters
    ----------
    indexes
        At least one `annvq.Index`, or at least one index of documents.
    path
        A folder to write to; the index that is returned is opened there, in mode "rw". Default: it is in memory.

    Raises
    ------
    ParameterError
        There are no indexes, or something else is among them.
    StateError
        They do not share what they have learned; the message says what differs.
    DuplicateIdError
        Two of them hold the same id; give ids when building.
    DtypeError
        Ids, or attributes of the same name, are of different types.
    CorruptIndexError
        A file is damaged; all are read and checked first.

    Examples
    --------
    >>> vectors = np.random.default_rng(0).normal(size=(1000, 32))
    >>> trained = annvq.train(vectors, "IVF16,Flat", metric="l2")
    >>> first = annvq.build(vectors[:600], trained=trained)
    >>> second = annvq.build(vectors[600:], trained=trained, ids=np.arange(600, 1000))
    >>> len(annvq.merge([first, second]))
    1000

    """
    given = list(indexes)
    if not given:
        raise ParameterError("merge: expected at least one index")
    kind = type(given[0])
    for index in given:
        if not isinstance(index, BaseIndex) or type(index) is not kind:
            raise ParameterError(f"merge: {type(index).__name__}, expected indexes of one kind")
    versions = [index.rows.current for index in given]
    trained = versions[0].trained
    for number, version in enumerate(versions[1:], 1):
        difference = _difference(trained, version.trained)
        if difference is not None:
            raise StateError(f"merge: index {number} differs from index 0 in {difference}; see annvq.train")
    for index in given:
        index.rows.check_files()
    segments = [segment for version in versions for segment in version.snapshot.segments]
    live = [segment.ids.reorder(segment.insertion_order()) for segment in segments]
    live = [column for column in live if len(column)]
    if live:
        if len({column.kind for column in live}) > 1:
            raise StateError("merge: ids of some indexes are integers, those of others are strings")
        IdColumn.concat(live).check_unique()

    def encode(store: Store | None) -> list[Segment]:
        return [merge_segments(trained, segments)] if segments else []

    folder = None if path is None else as_path(path)
    return kind(VersionedRows.build(trained, encode, folder, versions[0].depth))


def _difference(a: Trained, b: Trained) -> str | None:
    """Return what two indexes have learned differently, or None."""
    if a is b:
        return None
    if (a.metric, a.dim) != (b.metric, b.dim):
        return f"metric or dimension: {a.metric} of {a.dim}, {b.metric} of {b.dim}"
    one, other = a.sections(), b.sections()
    for name in sorted(one.keys() | other.keys()):
        if name not in one or name not in other or not np.array_equal(one[name], other[name]):
            return "the recipe or its numbers" if name == "config" else name.replace("_", " ").replace(".", ": ")
    return None
