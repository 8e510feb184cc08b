"""Choice of a second list for every vector."""

from __future__ import annotations

import numpy as np

from annvq.kernels.compile.jit import kernel


@kernel
def second_lists(products, own_products, own, squares, labels, inner, squared, weight, losses, out):
    """Choose the list of least loss |r'|^2 + weight * (r' r / |r|)^2 after the first one (Sun et al. 2023).

    r is the vector's difference from the centroid of its list, r' that from another centroid; the second
    term is large where both point the same way, so that a query far from one is far from the other.
    Source: "SOAR: Improved Indexing for Approximate Nearest Neighbor Search", arXiv:2404.00774, theorem 3.1.

    Parameters
    ----------
    products, own_products, own
        (n, nlist) float32: x c with every centroid c; (m, nlist) float32: that of some centroids with every one;
        (n,) int64: which row of these is that of a vector's own list.
    squares
        (nlist,) float32: c c.
    labels
        (n,) int64: the vectors' lists.
    inner, squared
        (n,) float32: r x and r r.
    weight
        Lambda of the paper.
    losses
        (nlist,) float32, scratch.
    out
        Output, (n,) int32; the vector's own list where there is no other.

    """
    n, nlist = products.shape
    for i in range(n):
        share = weight / squared[i] if squared[i] > np.float32(0.0) else np.float32(0.0)
        for l in range(nlist):  # x x is left out: it is the same for all
            along = inner[i] - (products[i, l] - own_products[own[i], l])
            losses[l] = squares[l] - np.float32(2.0) * products[i, l] + share * along * along
        losses[labels[i]] = np.float32(np.inf)
        best = np.int32(labels[i])
        for l in range(nlist):
            if losses[l] < losses[best]:
                best = np.int32(l)
        out[i] = best
