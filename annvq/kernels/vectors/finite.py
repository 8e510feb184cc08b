"""Finding NaN and infinity in float32 rows at memory speed."""

from __future__ import annotations

import numpy as np

from annvq.kernels.compile.jit import kernel

_LARGEST = np.float32(np.finfo(np.float32).max)


@kernel
def first_non_finite(vectors):
    """Return the first row that holds NaN or infinity, or -1.

    Counting what is no larger than the largest number vectorizes, and NaN is not.

    Parameters
    ----------
    vectors
        (n, d) float32, C-contiguous.

    """
    n, d = vectors.shape
    for row in range(n):
        finite = np.int32(0)
        for i in range(d):
            finite += np.int32(abs(vectors[row, i]) <= _LARGEST)  # of 64 bits, half as many at a time
        if finite < d:
            return np.int64(row)
    return np.int64(-1)
