"""The nearest entry of every point of a sub-space, as in `annvq.kernels.clusters.lloyd`."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def label_sub_vectors(
    points, n, dsub, spaces, codebooks, bias, ksub, labels, errors, changed, TRAINING: tl.constexpr,
    ROWS: tl.constexpr, ENTRIES: tl.constexpr,
):  # fmt: skip
    """Write the nearest entry of every point of some sub-spaces; of equal ones the lowest.

    Parameters
    ----------
    points, n, dsub
        (M * dsub, n) float32: dimension i of sub-space m in row ``m * dsub + i``.
    spaces
        (A,) int64: the sub-spaces.
    codebooks, bias, ksub
        (M, ksub, dsub) and (M, ksub) float32: the sum of an entry begins at its bias, and products are added in the
        order of the dimensions.
    labels
        Output, (M, n) int32 or uint8: the entries.
    errors, changed
        Outputs when TRAINING, (M, n) float32 and (M,) int32: the sums of the entries, and how many labels are not those
        that were there; the latter is at first zero.
    ROWS, ENTRIES
        Points of a program, and entries that it compares at a time.

    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    space = tl.load(spaces + tl.program_id(1))
    best = tl.full([ROWS], float("-inf"), tl.float32)
    label = tl.zeros([ROWS], tl.int32)
    for first in range(0, ksub, ENTRIES):
        entry = first + tl.arange(0, ENTRIES)
        total = tl.zeros([ROWS, ENTRIES], tl.float32) + tl.load(bias + space * ksub + entry)[None, :]
        for i in range(0, dsub):
            x = tl.load(points + (space * dsub + i) * n + row, mask=row < n, other=0.0)
            y = tl.load(codebooks + (space * ksub + entry) * dsub + i)
            total = tl.math.fma(x[:, None] + tl.zeros_like(total), y[None, :] + tl.zeros_like(total), total)
        highest = tl.max(total, axis=1)
        where = tl.min(tl.where(total == highest[:, None], entry[None, :], 0x7FFFFFFF), axis=1)
        label = tl.where(highest > best, where, label)
        best = tl.maximum(highest, best)
    at = space * n + row
    if TRAINING:
        is_new = (tl.load(labels + at, mask=row < n, other=0) != label) & (row < n)
        tl.store(errors + at, best, mask=row < n)
        tl.atomic_add(changed + space, tl.sum(is_new.to(tl.int32), axis=0), sem="relaxed")
    tl.store(labels + at, label.to(labels.dtype.element_ty), mask=row < n)
