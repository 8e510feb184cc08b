"""Codes and centroids for the anisotropic loss eta |r_par|^2 + |r_perp|^2.

r is the error of the code, r_par its part along the original vector x, and r_perp its part perpendicular to x. With the
direction g = x / |x|, the loss is |r|^2 + (eta - 1) <g, r>^2. The effect of a change in one sub-space thus depends on
the other sub-spaces only through the scalar p = <g, r> (Guo et al. 2020, "Accelerating large-scale inference with
anisotropic vector quantization", section 3 and appendix).
"""

from __future__ import annotations

import numpy as np

from annvq.kernels.clusters.assign import fill_panel, tile_scores
from annvq.kernels.compile.jit import kernel
from annvq.kernels.compile.scratch import empty, zeros
from annvq.kernels.registers.tiles import LANES


@kernel
def _start_projection(panel, along, M, ksub, dsub, shifted, codes, first, count, projection):
    """Set p of each lane: <g, v> less <g, c> of the centroids c that its codes select."""
    for lane in range(count):
        total = np.float32(0.0)
        for m in range(M):
            base = (m * ksub + np.int64(codes[first + lane, m])) * dsub
            for i in range(dsub):
                place = (m * dsub + i) * LANES + lane
                total += along[place] * (panel[place] - shifted[base + i])
        projection[lane] = total


@kernel
def _improve_subspace(scores, dots, ksub, weight, projection, code):
    """Choose the best centroid of one sub-space for each lane while all other codes are kept.

    The loss of a lane for centroid j is, up to a constant, -2 scores[j] + weight (rest - dots[j])^2.
    """
    rest = empty(LANES, np.float32)
    best = empty(LANES, np.float32)
    pick = empty(LANES, np.int32)
    for lane in range(LANES):
        place = np.int64(code[lane]) * LANES + lane
        rest[lane] = projection[lane] + dots[place]
        par = rest[lane] - dots[place]
        best[lane] = weight * par * par - np.float32(2.0) * scores[place]
        pick[lane] = code[lane]
    for j in range(ksub):
        for lane in range(LANES):
            par = rest[lane] - dots[j * LANES + lane]
            loss = weight * par * par - np.float32(2.0) * scores[j * LANES + lane]
            better = loss < best[lane]
            best[lane] = loss if better else best[lane]
            pick[lane] = np.int32(j) if better else pick[lane]
    for lane in range(LANES):
        code[lane] = pick[lane]
        projection[lane] = rest[lane] - dots[np.int64(pick[lane]) * LANES + lane]


@kernel
def descend(vectors, directions, M, ksub, dsub, shifted, shift, bias, eta, rounds, panel, along, scores, dots, codes):
    """Improve ``codes`` by coordinate descent; what becomes of a vector does not depend on the others.

    Parameters
    ----------
    vectors, directions
        (n, d) float32; directions have unit norm, or are zero for the plain squared error.
    M, ksub, dsub, shifted, shift, bias
        As in `annvq.kernels.codes.encode.product_encode`.
    eta
        float32, above 0: the weight of the parallel error.
    rounds
        Number of rounds over the M sub-spaces.
    panel, along
        Scratch, (M * dsub * LANES,) float32. Beyond the first d * LANES elements, ``along`` is zero, and ``panel`` is
        minus the shift.
    scores, dots
        Scratch, (ksub * LANES,) float32.
    codes
        (n, M) uint8: at first the initial codes, at last the result.

    """
    n, d = vectors.shape
    weight = np.float32(eta) - np.float32(1.0)
    nothing = zeros(max(ksub, d), np.float32)
    projection = zeros(LANES, np.float32)
    code = zeros(LANES, np.int32)
    for first in range(0, n, LANES):
        count = min(LANES, n - first)
        fill_panel(vectors, first, count, shift, panel[: d * LANES])
        fill_panel(directions, first, count, nothing, along[: d * LANES])
        _start_projection(panel, along, M, ksub, dsub, shifted, codes, first, count, projection)
        for _ in range(rounds):
            for m in range(M):
                at, base = m * dsub * LANES, m * ksub * dsub
                tile_scores(panel, at, dsub, shifted, base, bias, m * ksub, ksub, scores)
                tile_scores(along, at, dsub, shifted, base, nothing, 0, ksub, dots)
                for lane in range(LANES):
                    code[lane] = codes[first + lane, m] if lane < count else 0
                _improve_subspace(scores, dots, ksub, weight, projection, code)
                for lane in range(count):
                    codes[first + lane, m] = code[lane]


@kernel
def normal_equations(vectors, directions, projections, codes, m, centroids, eta, lhs, rhs):
    """Sum up, for each centroid of sub-space m, the linear equations of its best place.

    If the other sub-spaces are kept, the loss of a member is |v - c|^2 + (eta - 1)(p + <g, c_now - c>)^2. The sum of
    the losses is least if (sum I + (eta - 1) g g^T) c = sum v + (eta - 1)(p + <g, c_now>) g.

    Parameters
    ----------
    vectors, directions
        (n, M * dsub) float32.
    projections
        (n,) float64: p = <g, r> with the present codes and centroids.
    codes
        (n, M) uint8.
    m
        The number of the sub-space.
    centroids
        (ksub, dsub) float32: the present centroids of the sub-space.
    eta
        float64, the weight of the parallel error.
    lhs, rhs
        Outputs, (ksub, dsub, dsub) and (ksub, dsub) float64: the left and right sides of the equations.

    """
    dsub = centroids.shape[1]
    first = m * dsub
    weight = eta - 1.0
    lhs[:] = 0.0
    rhs[:] = 0.0
    for row in range(vectors.shape[0]):
        j = np.int64(codes[row, m])
        target = projections[row]
        for i in range(dsub):
            target += np.float64(directions[row, first + i]) * np.float64(centroids[j, i])
        for i in range(dsub):
            g = weight * np.float64(directions[row, first + i])
            rhs[j, i] += np.float64(vectors[row, first + i]) + g * target
            lhs[j, i, i] += 1.0
            for other in range(dsub):
                lhs[j, i, other] += g * np.float64(directions[row, first + other])


@kernel
def move_projections(directions, codes, m, before, after, projections):
    """Update p = <g, r> (n,) float64 for centroids of sub-space m that have moved.

    ``before`` and ``after`` are its centroids (ksub, dsub) float32.
    """
    dsub = before.shape[1]
    for row in range(directions.shape[0]):
        j = np.int64(codes[row, m])
        for i in range(dsub):
            moved = np.float64(before[j, i]) - np.float64(after[j, i])
            projections[row] += np.float64(directions[row, m * dsub + i]) * moved
