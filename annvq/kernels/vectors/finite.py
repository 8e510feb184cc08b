"""Detection of NaN and infinity in float32 rows, at the speed of memory."""

from __future__ import annotations

import numpy as np

from annvq.kernels.compile.jit import kernel

_LARGEST = np.float32(np.finfo(np.float32).max)


@kernel
def first_non_finite(vectors):
    """Return the number of the first row that holds NaN or infinity, or -1 if there is none.

    The kernel counts the numbers whose magnitude is at most that of the largest float32, which neither NaN nor infinity
    is; the compiler vectorizes such a count.

    Parameters
    ----------
    vectors
        (n, d) float32, C-contiguous.

    """
    n, d = vectors.shape
    for row in range(n):
        finite = np.int32(0)
        for i in range(d):
            finite += np.int32(abs(vectors[row, i]) <= _LARGEST)  # with int64, a register would hold half as many
        if finite < d:
            return np.int64(row)
    return np.int64(-1)
