"""Which vertices are neighbours: candidates are pruned, joined with those that point back, and filled up.

The neighbours of a vertex are near it and lie in different directions: a candidate is left out if one that was taken
is clearly nearer to it than the vertex is (Vamana: Subramanya et al., NeurIPS 2019). All kernels work on a range of the
vertices, or take these in order, so that the graph does not depend on the number of threads. Missing vertices are -1.

Where scores are inner products of vectors that differ in length, a vertex takes the part of a query, whose own length
does not matter. Its candidates are those with the largest products with its direction. One that was taken leads to a
candidate better than the vertex does if its direction has a larger product with it, which is a matter of the angles
alone: the length of the candidate is in both products. Candidates are therefore ordered by products, and pruned as
vectors of length one are.
"""

from __future__ import annotations

import numpy as np

from annvq.kernels.compile.jit import kernel
from annvq.kernels.compile.scratch import empty
from annvq.kernels.registers import simd
from annvq.kernels.scan.topk import MINUS_INFINITY, cut, thinned
from annvq.kernels.vectors.bytematrix import to_levels
from annvq.kernels.vectors.bytetiles import COLUMNS, ROWS, fill_tile

_BETWEEN = 192  # dimensions, a multiple of 64, between two looks at a distance
_ROWS_AT_ONCE = 128  # rows of a list that look at other lists while these are in a cache


@kernel
def _by_list(around, first, rows, begins, visitors):
    """Sort the visits of rows ``first`` to ``first + rows`` by list.

    Those of list l are ``visitors[begins[l]:begins[l + 1]]``, counted from ``first``.
    """
    begins[:] = 0
    for r in range(first, first + rows):
        for rank in range(around.shape[1]):
            begins[around[r, rank] + 2] += 1
    for l in range(2, begins.size):
        begins[l] += begins[l - 1]
    for r in range(first, first + rows):
        for rank in range(around.shape[1]):
            l = around[r, rank]
            visitors[begins[l + 1]] = r - first
            begins[l + 1] += 1


@kernel
def _to_levels(vector, centroid, l2, moved, levels):
    """Write a vector, less a centroid if distances are wanted, as bytes; return what is added to products, and a step.

    All are (D,) float32; ``moved`` is scratch.
    """
    whole = vector.size - vector.size % 16
    total = simd.zero_f32x16()
    for i in range(0, whole, 16):
        x, c = simd.load_f32x16(vector, i), simd.load_f32x16(centroid, i)
        if l2:
            x = simd.sub(x, c)
            c = x
        simd.store_f32x16(moved, i, x)
        total = simd.fma(x, c, total)
    add = simd.hsum(total)
    for i in range(whole, vector.size):
        moved[i] = vector[i] - centroid[i] if l2 else vector[i]
        add += moved[i] * (moved[i] if l2 else centroid[i])
    return np.float32(-0.5) * add if l2 else add, to_levels(moved, vector.size, levels)


@kernel
def nearest_in_lists(vectors, centroids, l2, vertices, around, matrix, groups, columns, of_columns, keep, found):
    """Find the nearest ``keep`` vectors of every row of a list, in no order, by products of bytes.

    In bytes are differences to the centroid of the list that is looked in, for bytes of vectors whose lists are far
    from each other would tell these apart and nothing else.

    Parameters
    ----------
    vectors
        (m, D) float32: the list's rows.
    centroids
        (lists, D) float32: what was subtracted from the vectors of each list.
    l2
        Whether the nearest are wanted rather than those with the largest inner products.
    vertices
        (m,) int64: the vertices of the rows; a vertex is not its own neighbour.
    around
        (m, t) int64: the lists that each row looks in, each once, nearest first.
    matrix, groups
        A `ByteMatrix` of all vectors, less their centroids, in the order of their lists, each list padded to a
        multiple of 64 columns, and the number of groups of four dimensions in it. If the nearest are wanted, minus half
        of a vector's squared distance to its centroid is added to its products.
    columns
        (lists + 1,) int64: where each list's columns begin.
    of_columns
        (columns,) int64: the vertex of every column, or -1.
    found
        Output, (m, keep) int32.

    """
    m, lists, d = vertices.size, columns.size - 1, vectors.shape[1]
    capacity = 2 * keep + 64
    scores, places = empty((_ROWS_AT_ONCE, capacity), np.float32), empty((_ROWS_AT_ONCE, capacity), np.int64)
    counts, thresholds = empty(_ROWS_AT_ONCE, np.int64), empty(_ROWS_AT_ONCE, np.float32)
    tile = empty(ROWS * COLUMNS, np.float32)
    moved = empty(d, np.float32)
    levels, steps = empty((_ROWS_AT_ONCE, (d + 15) // 16 * 16), np.uint8), empty(_ROWS_AT_ONCE, np.float32)
    levels[:] = 0
    steps[:] = np.float32(0.0)
    adds = empty(_ROWS_AT_ONCE, np.float32)
    begins, visitors = empty(lists + 2, np.int64), empty(_ROWS_AT_ONCE * around.shape[1], np.int64)
    is_done = empty(lists, np.uint8)
    for first in range(0, m, _ROWS_AT_ONCE):
        rows = min(_ROWS_AT_ONCE, m - first)
        counts[:] = 0
        thresholds[:] = MINUS_INFINITY
        _by_list(around, first, rows, begins, visitors)
        is_done[:] = 0
        for turn in range(around.shape[1] + lists):  # lists near one row are near the others: thresholds rise fast
            l = around[first, turn] if turn < around.shape[1] else np.int64(turn - around.shape[1])
            start, held = begins[l], begins[l + 1] - begins[l]
            if is_done[l] or held == 0:
                continue
            is_done[l] = 1
            for i in range(held):
                vector = vectors[first + visitors[start + i]]
                adds[i], steps[i] = _to_levels(vector, centroids[l], l2, moved, levels[i])
            for column in range(columns[l], columns[l + 1], COLUMNS):
                for i in range(0, held, ROWS):
                    fill_tile(levels, steps, i, matrix, column, groups, tile, 0, COLUMNS)
                    for j in range(i, min(i + ROWS, held)):
                        r = visitors[start + j]
                        if not _reaches(tile, (j - i) * COLUMNS, adds[j], thresholds[r]):
                            continue
                        counts[r], thresholds[r] = _offer(
                            tile, (j - i) * COLUMNS, adds[j], column, of_columns, vertices[first + r], scores[r],
                            places[r], counts[r], thresholds[r], keep,
                        )  # fmt: skip
        for r in range(rows):
            count = counts[r]
            if count > keep:
                cut(scores[r], places[r], count, keep, of_columns)
                count = np.int64(keep)
            for j in range(count):
                found[first + r, j] = of_columns[places[r, j]]
            found[first + r, count:] = -1


@kernel
def _reaches(tile, at, add, threshold):
    """Return whether one of 64 scores, plus ``add``, reaches the threshold, which few do."""
    highest = simd.load_f32x16(tile, at)
    for i in range(16, COLUMNS, 16):
        highest = simd.maximum(simd.load_f32x16(tile, at + i), highest)
    return simd.ge_mask(simd.add(highest, simd.splat_f32(add)), threshold) != np.uint32(0)


@kernel
def _offer(tile, at, add, column, of_columns, vertex, scores, places, count, threshold, keep):
    """Add those of 64 scores, plus ``add``, that reach the threshold to a pool; return its new count and threshold."""
    for i in range(0, COLUMNS, 16):
        mask = simd.ge_mask(simd.add(simd.load_f32x16(tile, at + i), simd.splat_f32(add)), threshold)
        while mask != np.uint32(0):
            lane = i + simd.trailing_zeros(mask)
            mask &= mask - np.uint32(1)
            other = of_columns[column + lane]
            score = tile[at + lane] + add
            if other < 0 or other == vertex or score < threshold:
                continue
            scores[count], places[count] = score, column + lane
            count += 1
            if count == scores.size:
                count, threshold = thinned(scores, places, count, keep, of_columns)
    return count, threshold


@kernel
def _load_vectors(store, lengths, ids, count, scratch):
    """Decode some vectors to (count, width) float32, and divide them by their ``lengths`` if there are any."""
    stored, d, minimum, step = store
    width = scratch.shape[1]
    whole = d - d % 16
    for i in range(count):
        start = ids[i] * d
        for j in range(0, whole, 16):
            simd.store_f32x16(scratch, i * width + j, simd.load_row(stored, start + j, minimum, step, j))
        if whole < d:
            tail = simd.load_row_tail(stored, start + whole, d - whole, minimum, step, whole)
            simd.store_f32x16(scratch, i * width + whole, tail)
        for j in range(d, width):
            scratch[i, j] = np.float32(0.0)
        if lengths.size > 0:
            length = lengths[ids[i]]
            scale = simd.splat_f32(np.float32(1.0) / length if length > np.float32(0.0) else np.float32(0.0))
            for j in range(0, width, 16):
                at = i * width + j
                simd.store_f32x16(scratch, at, simd.mul(simd.load_f32x16(scratch, at), scale))


@kernel
def _with_squares(vectors, at, to, sums):
    """Return four registers of sums, increased by the squared differences of 64 numbers from ``at`` and ``to`` on."""
    a, b, c, e = sums
    x = simd.sub(simd.load_f32x16(vectors, at), simd.load_f32x16(vectors, to))
    a = simd.fma(x, x, a)
    x = simd.sub(simd.load_f32x16(vectors, at + 16), simd.load_f32x16(vectors, to + 16))
    b = simd.fma(x, x, b)
    x = simd.sub(simd.load_f32x16(vectors, at + 32), simd.load_f32x16(vectors, to + 32))
    c = simd.fma(x, x, c)
    x = simd.sub(simd.load_f32x16(vectors, at + 48), simd.load_f32x16(vectors, to + 48))
    return a, b, c, simd.fma(x, x, e)


@kernel
def _total(sums):
    return simd.hsum(simd.add(simd.add(sums[0], sums[1]), simd.add(sums[2], sums[3])))


@kernel
def _distance(vectors, i, j):
    """Return the squared distance of two vectors (m, width) float32; width is a multiple of 64."""
    width, zero = vectors.shape[1], simd.zero_f32x16()
    sums = (zero, zero, zero, zero)
    for k in range(0, width, 64):
        sums = _with_squares(vectors, i * width + k, j * width + k, sums)
    return _total(sums)


@kernel
def _is_farther(vectors, i, j, alpha, than):
    """Return whether ``alpha`` times the squared distance of two vectors, as `_distance` sums it, is above ``than``.

    Sums only grow: where those of some dimensions are above, the others are not looked at.
    """
    width, zero = vectors.shape[1], simd.zero_f32x16()
    sums = (zero, zero, zero, zero)
    for start in range(0, width, _BETWEEN):
        for k in range(start, min(start + _BETWEEN, width), 64):
            sums = _with_squares(vectors, i * width + k, j * width + k, sums)
        if alpha * _total(sums) > than:
            return True
    return False


@kernel
def _without_repeats(candidates, v, ids):
    """Write vertex v and its candidates to ``ids``, each once; return how many there are."""
    count = np.int64(1)
    ids[0] = v
    for o in candidates:
        known = o < 0
        for j in range(count):
            known |= ids[j] == o
        if not known:
            ids[count] = o
            count += 1
    return count


@kernel
def _sort(vectors, lengths, ids, count, distances, keys, order):
    """Order places 1 to ``count``, best first, and by vertex where they are equally good.

    The best are those at the least distance from place 0 or, if there are ``lengths``, those with the largest product
    with the direction of place 0. ``distances`` gets the squared distances either way.
    """
    for i in range(1, count):
        distance = _distance(vectors, 0, i)
        key = distance
        if lengths.size > 0:  # minus the product, by the cosine of directions
            key = lengths[ids[i]] * (np.float32(0.5) * distance - np.float32(1.0))
        distances[i], keys[i] = distance, key
        place = np.int64(i - 1)
        while place > 0:
            other = order[place - 1]
            if keys[other] < key or (keys[other] == key and ids[other] < ids[i]):
                break
            order[place] = other
            place -= 1
        order[place] = i


@kernel
def prune(store, lengths, candidates, alpha, begin, end, nearest, edges):
    """Choose the neighbours of vertices ``begin`` to ``end`` among their candidates.

    Parameters
    ----------
    store
        `annvq.kernels.vectors.dots.Store` of the vertices' vectors.
    lengths
        (n,) float32, the lengths of the vectors if products with directions count in place of distances; or empty.
        Distances are then those of vectors that are divided by their lengths.
    candidates
        (n, c) int32, in any order; repeated ones count once.
    alpha
        A candidate is left out unless ``alpha`` times its squared distance to any that was taken is above its squared
        distance to the vertex. Of vectors that are equal to the vertex's, one is taken.
    nearest
        Output, (n, c) int32: the candidates, best first, without repeats.
    edges
        Output, (n, degree) int32: those that were taken, best first.

    """
    c, degree = candidates.shape[1], edges.shape[1]
    width = (store.d + 63) // 64 * 64
    ids, distances, keys = empty(c + 1, np.int64), empty(c + 1, np.float32), empty(c + 1, np.float32)
    order, taken = empty(c, np.int64), empty(degree, np.int64)
    vectors = empty((c + 1, width), np.float32)
    for v in range(begin, end):
        count = _without_repeats(candidates[v], v, ids)
        _load_vectors(store, lengths, ids, count, vectors)
        _sort(vectors, lengths, ids, count, distances, keys, order)
        kept = np.int64(0)
        for i in range(count - 1):
            one = order[i]
            nearest[v, i] = ids[one]
            good = kept < degree
            for j in range(kept):
                if not good:
                    break
                good = _is_farther(vectors, taken[j], one, alpha, distances[one])
            if good:
                taken[kept] = one
                edges[v, kept] = ids[one]
                kept += 1
        for i in range(count - 1, c):
            nearest[v, i] = -1
        for i in range(kept, degree):
            edges[v, i] = -1


@kernel
def pointing_back(edges, back):
    """Find the vertices that point to each vertex: ``back`` (n, most) int32 gets those of which it is the nearest.

    Vertices of which it is an equally near neighbour come in their order.
    """
    n, degree = edges.shape
    counts = empty(n, np.int64)
    counts[:] = 0
    back[:] = -1
    for place in range(degree):
        for v in range(n):
            o = edges[v, place]
            if o >= 0 and counts[o] < back.shape[1]:
                back[o, counts[o]] = v
                counts[o] += 1


@kernel
def fill_up(edges, more, begin, end):
    """Fill the free places of vertices ``begin`` to ``end`` with the first of ``more`` (n, c) int32 that are not there.

    Where there are not enough, a vertex becomes its own neighbour.
    """
    degree = edges.shape[1]
    for v in range(begin, end):
        count = np.int64(0)
        while count < degree and edges[v, count] >= 0:
            count += 1
        for i in range(more.shape[1]):
            if count == degree:
                break
            o = more[v, i]
            known = o < 0 or o == v
            for j in range(count):
                known |= edges[v, j] == o
            if not known:
                edges[v, count] = o
                count += 1
        for i in range(count, degree):
            edges[v, i] = v


@kernel
def reach(edges, entries, count, more):
    """Find vertices from which all can be reached; return how many.

    ``more`` (n,) int64 gets the ``entries`` (count,) int64 and, behind them, in ascending order, every vertex that
    these and the vertices before it do not reach. ``edges`` (n, degree) int32 are full.
    """
    n, degree = edges.shape
    waiting, seen = empty(n, np.int64), empty(n, np.uint8)
    seen[:] = 0
    found = np.int64(0)
    for start in range(count + n):
        v = entries[start] if start < count else np.int64(start - count)
        if start >= count and seen[v]:
            continue
        more[found] = v
        found += 1
        if seen[v]:
            continue
        seen[v], waiting[0], held = 1, v, np.int64(1)
        while held > 0:
            held -= 1
            at = waiting[held]
            for i in range(degree):
                o = edges[at, i]
                if seen[o] == 0:
                    seen[o] = 1
                    waiting[held] = o
                    held += 1
    return found
