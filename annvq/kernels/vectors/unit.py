"""Rows scaled to length one."""

from __future__ import annotations

import numpy as np

from annvq.kernels.compile.jit import kernel


@kernel
def unit_rows(vectors, out):
    """Write the rows, divided by their Euclidean norms, to ``out``; return the first row that is zero, or -1.

    The squared norm is summed in float64, in eight lanes (lane = dimension mod 8) that are then added in a fixed tree.
    The product of two float32 values is exact in float64, so that a fused multiply-add gives the same bits, and the
    square of the smallest denormal is still above zero.

    Parameters
    ----------
    vectors
        (n, d) float32, C-contiguous and finite.
    out
        (n, d) float32, C-contiguous; its content is undefined if the return value is not -1.

    """
    n, d = vectors.shape
    whole = d - d % 8
    for i in range(n):
        row = vectors[i]
        s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
        for step in range(d // 8):
            lanes = row[8 * step : 8 * step + 8]
            s0 += np.float64(lanes[0]) * np.float64(lanes[0])
            s1 += np.float64(lanes[1]) * np.float64(lanes[1])
            s2 += np.float64(lanes[2]) * np.float64(lanes[2])
            s3 += np.float64(lanes[3]) * np.float64(lanes[3])
            s4 += np.float64(lanes[4]) * np.float64(lanes[4])
            s5 += np.float64(lanes[5]) * np.float64(lanes[5])
            s6 += np.float64(lanes[6]) * np.float64(lanes[6])
            s7 += np.float64(lanes[7]) * np.float64(lanes[7])
        tail = 0.0
        for value in row[whole:]:
            tail += np.float64(value) * np.float64(value)
        squared = (((s0 + s4) + (s2 + s6)) + ((s1 + s5) + (s3 + s7))) + tail
        if squared == 0.0:
            return np.int64(i)
        inverse = 1.0 / np.sqrt(squared)
        for j in range(d):
            out[i, j] = np.float32(np.float64(row[j]) * inverse)
    return np.int64(-1)
