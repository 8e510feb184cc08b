"""Choice of a second list for every vector (SOAR)."""

from __future__ import annotations

import numpy as np

from annvq.kernels.compile.jit import kernel


@kernel
def second_lists(products, own_products, own, squares, labels, inner, squared, weight, losses, out):
    """Choose for every vector, besides its own list, the list with the least loss |r'|^2 + weight * (r' r / |r|)^2.

    Here r is the difference between the vector and the centroid of its own list, and r' the difference between the
    vector and another centroid. The second term is large if both point the same way, in which case a query that misses
    the vector in one list misses it in the other, too. Source: Sun et al. 2023, "SOAR: Improved Indexing for
    Approximate Nearest Neighbor Search", arXiv:2404.00774, theorem 3.1.

    Parameters
    ----------
    products
        (n, nlist) float32: inner products of the vectors with all centroids.
    own_products, own
        (m, nlist) float32: inner products of some centroids with all centroids; (n,) int64: the row of these that
        belongs to the vector's own list.
    squares
        (nlist,) float32: squared norms of the centroids.
    labels
        (n,) int64: the vectors' own lists.
    inner, squared
        (n,) float32: the inner products <r, x> of r and the vector x, and |r|^2.
    weight
        Lambda in the paper.
    losses
        (nlist,) float32, scratch.
    out
        Output, (n,) int32: the second lists; the vector's own list if there is no other.

    """
    n, nlist = products.shape
    for i in range(n):
        share = weight / squared[i] if squared[i] > np.float32(0.0) else np.float32(0.0)
        for l in range(nlist):  # |x|^2 is left out, because it is the same for all lists
            along = inner[i] - (products[i, l] - own_products[own[i], l])
            losses[l] = squares[l] - np.float32(2.0) * products[i, l] + share * along * along
        losses[labels[i]] = np.float32(np.inf)
        best = np.int32(labels[i])
        for l in range(nlist):
            if losses[l] < losses[best]:
                best = np.int32(l)
        out[i] = best
