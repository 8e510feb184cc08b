"""Segments to named arrays and back, with every check that opening a file requires."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from annvq.arrays import frozen
from annvq.errors import AnnvqError, CorruptIndexError, DuplicateIdError
from annvq.index.rows import arrowfile
from annvq.index.rows.attributes import intact
from annvq.index.rows.ids import IdColumn
from annvq.index.rows.segment import NO_MASK, Segment
from annvq.index.trained import Trained

_ARRAY = "array."  # prefix of the sections that hold codes, constants and refine rows
# What kernels follow unchecked is kept in memory, where it stays as it was checked, whatever happens to the file.
# (So are offsets of string ids, from their first use on: `IdColumn`.)
LIVE = ("live", "rows")


def followed(trained: Trained) -> tuple[str, ...]:
    """Return the sections of a segment that kernels follow unchecked."""
    also = () if trained.extension is None else trained.extension.followed
    return ("offsets", *(_ARRAY + name for name in (*trained.codes.followed, *also)))


def segment_sections(segment: Segment) -> dict[str, np.ndarray]:
    """Return a segment as named arrays."""
    sections = {"offsets": segment.offsets, "positions": segment.positions}
    sections |= {_ARRAY + name: array for name, array in segment.arrays.items()}
    sections |= segment.ids.sections()
    if segment.attributes is not None:
        sections["attributes"] = arrowfile.to_section(intact(segment.attributes))
    return sections


def segment_from_sections(sections: dict[str, np.ndarray], trained: Trained, name: str) -> Segment:
    """Build a segment from named arrays; CorruptIndexError is raised if they do not fit together."""
    try:
        offsets = frozen(sections["offsets"])
        arrays = {key[len(_ARRAY) :]: frozen(array) for key, array in sections.items() if key.startswith(_ARRAY)}
        arrays = trained.codes.relaid(arrays)
        if trained.extension is not None:
            arrays = trained.extension.relaid(arrays)
        ids = IdColumn.from_sections(sections, name)
        table = arrowfile.from_section(sections["attributes"], name) if "attributes" in sections else None
        segment = Segment(offsets, arrays, ids, frozen(sections["positions"]), table, name=name)
        _check(segment, trained)
    except CorruptIndexError as error:
        raise CorruptIndexError(f"{name}: {error}") from error
    except (KeyError, AnnvqError) as error:
        raise CorruptIndexError(f"{name}: sections are missing or do not fit: {error}") from error
    return segment


def _check(segment: Segment, trained: Trained) -> None:
    offsets = segment.offsets
    if offsets.dtype != np.int64 or offsets.shape != (trained.nlist + 1,):
        raise CorruptIndexError(f"section offsets is {offsets.dtype} {offsets.shape}, expected ({trained.nlist + 1},)")
    if offsets[0] != 0 or (offsets[1:] < offsets[:-1]).any():  # not by differences, which could wrap around
        raise CorruptIndexError("section offsets does not rise from 0")
    if offsets[-1] >= 1 << 40:
        raise CorruptIndexError(f"section offsets names {int(offsets[-1])} rows")
    _expect(segment.positions, np.uint32, (segment.n,), "positions")
    if len(segment.ids) != segment.n:
        raise CorruptIndexError(f"{len(segment.ids)} ids for {segment.n} rows")
    if segment.attributes is not None and segment.attributes.num_rows != segment.n:
        raise CorruptIndexError(f"{segment.attributes.num_rows} rows of attributes for {segment.n} rows")
    blocks = int(segment.block_offsets[-1])
    expected = {name: (section.dtype, section.shape(segment.n, blocks)) for name, section in trained.layout.items()}
    expected |= trained.codes.check(segment.arrays, segment.n)
    if trained.extension is not None:
        expected |= trained.extension.layout(segment.arrays, segment.n)
    if set(expected) != set(segment.arrays):
        raise CorruptIndexError(f"sections {sorted(segment.arrays)}, expected {sorted(expected)}")
    for name, (dtype, shape) in expected.items():
        _expect(segment.arrays[name], dtype, shape, name)


def _expect(array: np.ndarray, dtype: type, shape: tuple[int, ...], name: str) -> None:
    if array.dtype != dtype or array.shape != shape:
        raise CorruptIndexError(f"section {name} is {array.dtype} {array.shape}, expected {np.dtype(dtype)} {shape}")


def verify_segment(segment: Segment, trained: Trained) -> None:
    """Check what opening does not read: that positions permute, ids are unique, codes valid, attributes intact."""
    if not np.array_equal(np.sort(segment.positions), np.arange(segment.n)):
        raise CorruptIndexError(f"{segment.name}: section positions is not a permutation of the rows")
    segment.ids.check()
    if segment.attributes is not None:
        intact(segment.attributes)
    try:
        trained.codes.verify(segment.arrays)
        for name, array in segment.arrays.items():
            if array.dtype.kind == "f" and not all(np.isfinite(part).all() for part in _parts(array)):
                raise CorruptIndexError(f"section {_ARRAY}{name} holds NaN or infinity")
    except CorruptIndexError as error:
        raise CorruptIndexError(f"{segment.name}: {error}") from error


def verify_together(segments: Sequence[Segment]) -> None:
    """Check that no id is live in two segments (CorruptIndexError)."""
    live = [
        segment.ids.reorder(np.flatnonzero(segment.live)) if len(segment.live) else segment.ids for segment in segments
    ]
    if len(live) < 2:
        return
    try:
        IdColumn.concat(live).check_unique()
    except DuplicateIdError as error:
        raise CorruptIndexError(f"two segments hold the same id: {error}") from error


def _parts(array: np.ndarray) -> list[np.ndarray]:
    """Cut an array into parts whose temporaries are small."""
    return [array[start : start + _ROWS] for start in range(0, len(array), _ROWS)]


_ROWS = 1 << 14


def live_sections(segment: Segment) -> dict[str, np.ndarray]:
    """Return the deletion bitmap of a segment as named arrays."""
    return {"live": np.packbits(segment.live), "rows": np.array([segment.n], np.int64)}


def live_from_sections(sections: dict[str, np.ndarray], n: int, name: str) -> np.ndarray:
    """Return (n,) uint8, which is 0 where a row was removed."""
    bits, rows = sections.get("live"), sections.get("rows")
    if bits is None or rows is None or bits.dtype != np.uint8 or bits.shape != ((n + 7) // 8,):
        raise CorruptIndexError(f"{name}: a deletion bitmap that does not fit {n} rows")
    if rows.dtype != np.int64 or rows.tolist() != [n]:
        raise CorruptIndexError(f"{name}: a deletion bitmap of {rows.dtype} {rows.tolist()} rows for a segment of {n}")
    return frozen(np.unpackbits(bits, count=n)) if n else NO_MASK
