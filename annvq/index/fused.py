"""Search of the usual kind of index in one kernel call: lists, 4-bit product codes, one segment."""

from __future__ import annotations

import numpy as np

from annvq.codebooks import ProductCodebook
from annvq.index.segment import frozen
from annvq.index.snapshot import Snapshot
from annvq.index.tablecodes import TableCodes
from annvq.index.trained import Trained
from annvq.kernels import pipeline
from annvq.kernels.tiles import readonly
from annvq.kernels.topk import capacity_for

_NOTHING = frozen(np.empty(0, np.float32))
_NO_PANELS = frozen(np.empty((0, 0, 0), np.float32))


def takes(trained: Trained, snapshot: Snapshot) -> bool:
    """Return whether `search_block` can search this index."""
    return (
        isinstance(trained.codebook, ProductCodebook)
        and trained.codebook.nbits == 4
        and trained.centroids is not None
        and len(snapshot.segments) == 1
    )


def search_block(
    trained: Trained,
    snapshot: Snapshot,
    queries: np.ndarray,
    k: int,
    keep: int,
    nprobe: int,
    need: int,
    live: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best k scores and rows of queries (nq, d), as the stages of `annvq.index.search` do."""
    coarse, codebook, codes, segment = trained.coarse, trained.codebook, trained.codes, snapshot.segments[0]
    assert coarse is not None
    assert isinstance(codebook, ProductCodebook)
    assert isinstance(codes, TableCodes)
    arrays = segment.arrays
    scores, rows = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    pipeline.search_block(
        readonly(queries),
        _NO_PANELS if trained.rotation is None else trained.rotation.panels,
        (coarse.panels, coarse.shift, coarse.squares, live, coarse.keys),
        (codebook.transposed, codes.residual),
        (
            arrays[codes.section],
            segment.offsets,
            segment.block_offsets,
            arrays.get("constants", _NOTHING),
            segment.allow,
            segment.base,
        ),
        (_NOTHING, _NOTHING, _NOTHING) if trained.refine is None else trained.refine.flat(segment),
        snapshot.keys, k, keep, capacity_for(keep), nprobe, need, trained.l2, scores, rows,
    )  # fmt: skip
    return scores, rows
