"""An index in a store: reading a version, writing the next."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from annvq.arguments import as_choice, as_count
from annvq.errors import CorruptIndexError, DtypeError, StorageError
from annvq.index.filters.given import Filter
from annvq.index.rows.segment import Segment
from annvq.index.rows.snapshot import Snapshot
from annvq.index.search.params import SearchParams
from annvq.index.search.prepared import PreparedFilter, narrowed
from annvq.index.search.view import View
from annvq.index.trained import Trained
from annvq.index.versions import persist
from annvq.storage import MemoryStore, Store

_MOST = 1 << 31  # lists or candidates per query


@dataclass(frozen=True)
class Version:
    """Everything that makes up one version of an index.

    ``trained_name`` is the container of the trained parts in the store, or None while they are only in memory;
    ``next_id`` is the first id that `add` assigns by itself.
    """

    trained: Trained
    snapshot: Snapshot
    depth: SearchParams
    next_id: int
    number: int = 1
    trained_name: str | None = None

    @classmethod
    def first(cls, trained: Trained, segments: list[Segment], depth: SearchParams | None = None) -> Version:
        """Return the version that new segments begin with; the default of ``depth`` is the recipe's."""
        first_free = 0
        for segment in segments:
            first_free = segment.ids.next_free(first_free)
        return cls(trained, Snapshot.of(segments), depth or trained.default_depth, first_free)

    @cached_property
    def view(self) -> View:
        """What a search without a filter sees."""
        return View(self.trained, self.snapshot)

    def narrowed(self, given: Any) -> View:
        """Return what a search with this filter sees (everything if it is None); as for `annvq.Index.search`."""
        if given is None:
            return self.view
        if isinstance(given, PreparedFilter):
            return given.on(self.view)
        return narrowed(self.view, Filter.parse(given, self.snapshot))

    def rows_matching(self, ids: Any, filter: Any, missing: str) -> np.ndarray:
        """Return index-wide rows (int64): those of the ids, or those in the order of insertion, that pass the filter.

        Without ids all rows are meant, without a filter all pass; ``missing`` is the same as for `Snapshot.rows_of`.
        """
        as_choice("missing", missing, ("error", "ignore"))
        snapshot = self.narrowed(filter).snapshot
        if ids is None:
            return snapshot.rows_in_order()
        rows = self.snapshot.rows_of(ids, missing)
        return rows if filter is None else rows[snapshot.are_allowed(rows)]

    def depth_for(self, nprobe: int | None, rerank: int | None, params: SearchParams | None = None) -> SearchParams:
        """Return the depth of a search with these parameters; None stands for the version's own (ParameterError)."""
        default = self.depth if params is None else params
        if nprobe is None and rerank is None:
            return default
        nprobe = default.nprobe if nprobe is None else min(as_count("nprobe", nprobe), self.trained.nlist)
        rerank = default.rerank if rerank is None else as_count("rerank", rerank)
        return SearchParams(nprobe, rerank)


def open_version(path: Path, mode: str) -> tuple[Store, Version]:
    """Open a folder's current version; errors are those of `Store.open` and `read`."""
    store = Store.open(path, mode)
    try:
        return store, _read_or_verify(store)
    except BaseException:
        with suppress(StorageError):  # the first error is the one to report
            store.close()
        raise


def _read_or_verify(store: Store) -> Version:
    try:
        return read(store)
    except CorruptIndexError:
        store.verify()  # if a checksum is wrong, it says more precisely what is damaged
        raise


def read(store: Store | MemoryStore) -> Version:
    """Read the store's version; CorruptIndexError is raised if its parts do not fit together."""
    config = store.config
    try:
        names = [(str(entry["name"]), entry["live"]) for entry in config["segments"]]
        depth, next_id = SearchParams(config["nprobe"], config["rerank"]), config["next_id"]
        trained_name = config["trained"]
        named = {trained_name, *(name for name, _ in names), *(live for _, live in names if live is not None)}
    except (KeyError, TypeError) as error:
        raise CorruptIndexError(f"the manifest's configuration cannot be read: {error!r}") from error
    if not all(type(number) is int and 0 <= number < _MOST for number in (depth.nprobe, depth.rerank)):
        raise CorruptIndexError("nprobe and rerank in the manifest are not both counts")
    if type(next_id) is not int or not 0 <= next_id <= 1 << 63:
        raise CorruptIndexError(f"next_id in the manifest is {next_id!r}, expected an id")
    if len({name for name, _ in names}) != len(names):
        raise CorruptIndexError("the manifest's configuration names a segment twice")
    if not named <= set(store.names()):
        raise CorruptIndexError("the manifest's configuration names files that the manifest does not list")
    # Opening reads all of it, and everything that is added is coded with it.
    store.check([trained_name])
    try:
        trained = Trained.from_sections(store.sections(trained_name))
    except CorruptIndexError as error:
        raise CorruptIndexError(f"{trained_name}: {error}") from error
    segments = [_segment(store, trained, name, live) for name, live in names]
    snapshot = Snapshot.of(segments)
    if len({segment.ids.kind for segment in segments}) > 1:
        raise CorruptIndexError("segments disagree about the kind of ids")
    try:
        snapshot.schema  # noqa: B018
    except DtypeError as error:
        raise CorruptIndexError(f"segments disagree about attributes: {error}") from error
    return Version(trained, snapshot, depth, next_id, store.version, trained_name)


def _segment(store: Store | MemoryStore, trained: Trained, name: str, live_name: str | None) -> Segment:
    segment = persist.segment_from_sections(store.sections(name, persist.followed(trained)), trained, name)
    if live_name is None:
        return segment
    live = persist.live_from_sections(store.sections(live_name, persist.LIVE), segment.n, live_name)
    return replace(segment, live=live, allow=live, live_name=live_name)


def moved_to_memory(version: Version) -> Version:
    """Return a version whose files have no names: wherever it is saved, everything is written."""
    segments = tuple(replace(segment, name=None, live_name=None) for segment in version.snapshot.segments)
    snapshot = replace(version.snapshot, segments=segments)
    return replace(version, snapshot=snapshot, trained_name=None)


def check(store: Store | None, segments: Iterable[Segment], *, trained_name: str | None = None) -> None:
    """Check the checksums of the segments' files, and of the trained parts if they are named.

    This comes before they are written again; otherwise damage would get a valid checksum (CorruptIndexError).
    """
    names = (trained_name, *(segment.name for segment in segments))
    if store is not None:
        store.check(name for name in names if name is not None)


def stage(store: Store, trained: Trained, segment: Segment) -> Segment:
    """Write a segment without committing it, and return it mapped from its file, so that memory is freed."""
    return _segment(store, trained, store.stage("segment", persist.segment_sections(segment)), None)


def write(store: Store | MemoryStore, version: Version, *, moved: bool) -> Version:
    """Commit a version and return it as it stands in the store.

    Only what has no file yet is written; with ``moved`` everything is, since the segments carry names
    from another store. On failure the store keeps its version.
    """
    held = set(store.names())
    staged: list[str] = []

    def put(kind: str, sections: dict[str, np.ndarray]) -> str:
        staged.append(store.stage(kind, sections))
        return staged[-1]

    try:
        trained_name = None if moved else version.trained_name
        if trained_name is None:
            trained_name = put("trained", version.trained.sections())
        names = []
        for segment in version.snapshot.segments:
            name, live_name = (None, None) if moved else (segment.name, segment.live_name)
            name = name or put("segment", persist.segment_sections(segment))
            if len(segment.live) and live_name is None:
                live_name = put("live", persist.live_sections(segment))
            names.append((name, live_name))
        config = {
            "trained": trained_name,
            "segments": [{"name": name, "live": live} for name, live in names],
            "nprobe": version.depth.nprobe,
            "rerank": version.depth.rerank,
            "next_id": version.next_id,
        }
        store.commit(config, [trained_name, *(part for pair in names for part in pair if part is not None)])
    except BaseException:
        store.discard([name for name in staged if name not in held])
        raise
    segments = []
    for segment, (name, live_name) in zip(version.snapshot.segments, names, strict=True):
        if segment.name == name and not moved:  # it keeps what was made of its ids and attributes
            segments.append(segment if segment.live_name == live_name else replace(segment, live_name=live_name))
        else:
            segments.append(_segment(store, version.trained, name, live_name))
    return replace(version, snapshot=Snapshot.of(segments), number=store.version, trained_name=trained_name)
