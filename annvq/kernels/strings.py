"""Sorted UTF-8 strings kept as offsets and bytes: comparing, finding, ranking, gathering.

Byte order of UTF-8 is code point order, the order of Python's ``str``.

    offsets (n + 1,) int64    string i is data[offsets[i] : offsets[i + 1]]
    data    (bytes,) uint8
    order   (n,) int64        row numbers, strings ascending
"""

from __future__ import annotations

import numpy as np

from annvq.kernels.compile.jit import kernel


@kernel
def compare(a, b):
    """Return -1, 0 or 1 as the bytes ``a`` sort before, equal or after ``b``."""
    for i in range(min(len(a), len(b))):
        if a[i] != b[i]:
            return np.int64(-1) if a[i] < b[i] else np.int64(1)
    if len(a) == len(b):
        return np.int64(0)
    return np.int64(-1) if len(a) < len(b) else np.int64(1)


@kernel
def find(offsets, data, order, wanted_offsets, wanted_data, rows):
    """Write the row of every wanted string to ``rows`` (m,) int64, -1 where there is none."""
    for w in range(len(rows)):
        wanted = wanted_data[wanted_offsets[w] : wanted_offsets[w + 1]]
        rows[w] = -1
        low = np.int64(0)
        high = np.int64(len(order))
        while low < high:
            middle = (low + high) // 2
            row = order[middle]
            sign = compare(data[offsets[row] : offsets[row + 1]], wanted)
            if sign == 0:
                rows[w] = row
                break
            if sign < 0:
                low = middle + 1
            else:
                high = middle


@kernel
def dense_ranks(offsets, data, order, ranks):
    """Write every row's rank to ``ranks`` (n,) int64, equal strings sharing one; return a repeated row or -1."""
    repeated = np.int64(-1)
    rank = np.int64(0)
    for i in range(len(order)):
        row = order[i]
        if i > 0:
            before = order[i - 1]
            if compare(data[offsets[before] : offsets[before + 1]], data[offsets[row] : offsets[row + 1]]) == 0:
                repeated = row
            else:
                rank += 1
        ranks[row] = rank
    return repeated


@kernel
def gather(offsets, data, rows, out_offsets, out_data):
    """Write the bytes of ``rows`` (m,) int64 to ``out_data`` at ``out_offsets`` (m + 1,) int64."""
    for i in range(len(rows)):
        start = offsets[rows[i]]
        target = out_offsets[i]
        for j in range(out_offsets[i + 1] - target):
            out_data[target + j] = data[start + j]
