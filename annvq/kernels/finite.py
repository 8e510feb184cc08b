"""Finding NaN and infinity in float32 rows at memory speed."""

from __future__ import annotations

import numpy as np

from annvq.kernels.jit import kernel

_BLOCK = 4096  # values looked at between two chances to stop
_INFINITY = np.int32(0x7F800000)  # bits of +inf: a magnitude at or above it is inf or NaN
_MAGNITUDE = np.int32(0x7FFFFFFF)  # all bits but the sign


@kernel
def first_non_finite(vectors):
    """Return the first row that holds NaN or infinity, or -1.

    Integer maxima vectorize without any float flag, and cannot be optimized away as ``x != x`` can.

    Parameters
    ----------
    vectors
        (n, d) float32, C-contiguous.

    """
    n, d = vectors.shape
    bits = vectors.reshape(n * d).view(np.int32)
    total = np.int64(n) * np.int64(d)
    for start in range(0, total, _BLOCK):
        block = bits[start : start + _BLOCK]  # a loop from 0 needs no care for negative indices
        largest = np.int32(0)
        for i in range(len(block)):
            largest = max(largest, np.int32(block[i] & _MAGNITUDE))  # else int64; neither would vectorize
        if largest >= _INFINITY:
            for i in range(len(block)):
                if (block[i] & _MAGNITUDE) >= _INFINITY:
                    return np.int64((start + i) // d)
    return np.int64(-1)
