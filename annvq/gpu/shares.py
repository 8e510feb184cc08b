"""Shares of a segment, for several GPUs that each hold some of its lists."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from annvq.errors import DeviceError
from annvq.index.codes.kind import Layout
from annvq.index.rows.segment import Segment
from annvq.index.trained import Trained
from annvq.kernels.scan.lists import BLOCK


def check_sharing(trained: Trained) -> None:
    """Raise DeviceError if the lists of an index cannot be held apart."""
    if trained.codes.copies > 1:
        raise DeviceError(
            f"recipe {trained.recipe.name!r}: second codes are of rows in other lists, which another GPU would hold; "
            "use split='replicas'"
        )


def share_of(segment: Segment, layout: Layout, share: int, shares: int) -> Segment:
    """Return one of several shares of a segment: some of its lists or, if it has only one, some of its rows.

    Lists stay where they are by number; those of other shares are empty. Codes, masks and offsets are those of the
    share's rows, ids and the like those of the whole segment.
    """
    begin, end = (_edge(segment, part, shares) for part in (share, share + 1))
    first, last = (_block_of(segment, row) for row in (begin, end))
    arrays = {}
    for name, section in layout.items():
        held = segment.arrays[name]
        size = BLOCK * section.columns
        arrays[name] = held[first * size : last * size] if section.form == "blocks" else held[begin:end]
    offsets = np.clip(segment.offsets, begin, end) - begin
    allow = segment.allow[begin:end] if len(segment.allow) else segment.allow
    return replace(segment, offsets=offsets, arrays=arrays, allow=allow, few=None, base=segment.base + begin, found={})


def _edge(segment: Segment, share: int, shares: int) -> int:
    """Return the row at which a share begins, so that all have about as many."""
    row = segment.n * share // shares
    if len(segment.offsets) == 2:
        return segment.n if share == shares else row // BLOCK * BLOCK
    return int(segment.offsets[np.searchsorted(segment.offsets, row)])


def _block_of(segment: Segment, row: int) -> int:
    """Return the block of a row at which a share begins or ends."""
    if len(segment.offsets) == 2:
        return -(-row // BLOCK)
    return int(segment.block_offsets[np.searchsorted(segment.offsets, row, side="right") - 1])
