"""Sorted UTF-8 strings, stored as offsets and bytes: comparing, finding, ranking, gathering.

The order of the bytes of UTF-8 is the order of code points, which is also the order of Python's ``str``.

    offsets (n + 1,) int64    string i is data[offsets[i] : offsets[i + 1]]
    data    (bytes,) uint8
    order   (n,) int64        row numbers in ascending order of their strings
"""

from __future__ import annotations

import numpy as np

from annvq.kernels.compile.jit import kernel


@kernel
def compare(a, b):
    """Return -1, 0 or 1 if the bytes ``a`` sort before, are equal to, or sort after the bytes ``b``."""
    for i in range(min(len(a), len(b))):
        if a[i] != b[i]:
            return np.int64(-1) if a[i] < b[i] else np.int64(1)
    if len(a) == len(b):
        return np.int64(0)
    return np.int64(-1) if len(a) < len(b) else np.int64(1)


@kernel
def find(offsets, data, order, wanted_offsets, wanted_data, rows):
    """Write the row of every wanted string to ``rows`` (m,) int64, or -1 if no row has it, by binary search."""
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
    """Write the rank of every row's string to ``ranks`` (n,) int64; return a row whose string is repeated, or -1.

    Equal strings share a rank, and ranks have no gaps.
    """
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
    """Copy the strings of ``rows`` (m,) int64 to ``out_data``; string i goes to ``out_offsets[i]`` and following.

    ``out_offsets`` is (m + 1,) int64 and gives the strings the lengths that they have.
    """
    for i in range(len(rows)):
        start = offsets[rows[i]]
        target = out_offsets[i]
        for j in range(out_offsets[i + 1] - target):
            out_data[target + j] = data[start + j]
