"""Which vertices are neighbours: candidates are pruned, joined with those that point back, and filled up.

The neighbours of a vertex are near it and lie in different directions: a candidate is left out if one that was taken
is clearly nearer to it than the vertex is (Vamana: Subramanya et al., NeurIPS 2019). All kernels work on a range of the
vertices, or take these in order, so that the graph does not depend on the number of threads. Missing vertices are -1.
"""

from __future__ import annotations

import numpy as np

from annvq.kernels.compile.jit import kernel
from annvq.kernels.compile.scratch import empty
from annvq.kernels.registers import simd
from annvq.kernels.scan.topk import MINUS_INFINITY, cut, thinned
from annvq.kernels.vectors.bytematrix import to_levels
from annvq.kernels.vectors.bytetiles import COLUMNS, ROWS, fill_tile

_ROWS_AT_ONCE = 128  # rows of a list that look at other lists while these are in a cache


@kernel
def pack_list(vectors, levels, steps):
    """Write vectors (m, d) float32 as bytes, (m, places) uint8, with a step for each, (m,) float32."""
    for i in range(vectors.shape[0]):
        steps[i] = to_levels(vectors[i], vectors.shape[1], levels[i])


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
def nearest_in_lists(levels, steps, vertices, around, matrix, groups, columns, of_columns, keep, found):
    """Find the nearest ``keep`` vectors of every row of a list, in no order, by products of bytes.

    Parameters
    ----------
    levels, steps
        (m, places) uint8 and (m,) float32: the list's rows as `to_levels` writes them.
    vertices
        (m,) int64: the vertices of the rows; a vertex is not its own neighbour.
    around
        (m, t) int64: the lists that each row looks in, each once, nearest first.
    matrix, groups
        A `ByteMatrix` of all vectors in the order of their lists, each list padded to a multiple of 64 columns, and the
        number of groups of four dimensions in it. Minus half of a vector's squared length is added to its products.
    columns
        (lists + 1,) int64: where each list's columns begin.
    of_columns
        (columns,) int64: the vertex of every column, or -1.
    found
        Output, (m, keep) int32.

    """
    m, lists = vertices.size, columns.size - 1
    capacity = 2 * keep + 64
    scores, places = empty((_ROWS_AT_ONCE, capacity), np.float32), empty((_ROWS_AT_ONCE, capacity), np.int64)
    counts, thresholds = empty(_ROWS_AT_ONCE, np.int64), empty(_ROWS_AT_ONCE, np.float32)
    tile = empty(ROWS * COLUMNS, np.float32)
    some_levels, some_steps = empty((_ROWS_AT_ONCE, levels.shape[1]), np.uint8), empty(_ROWS_AT_ONCE, np.float32)
    some_levels[:] = 0
    some_steps[:] = np.float32(0.0)
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
                r = visitors[start + i]
                some_levels[i] = levels[first + r]
                some_steps[i] = steps[first + r]
            for column in range(columns[l], columns[l + 1], COLUMNS):
                for i in range(0, held, ROWS):
                    fill_tile(some_levels, some_steps, i, matrix, column, groups, tile, 0, COLUMNS)
                    for j in range(i, min(i + ROWS, held)):
                        r = visitors[start + j]
                        counts[r], thresholds[r] = _offer(
                            tile, (j - i) * COLUMNS, column, of_columns, vertices[first + r], scores[r], places[r],
                            counts[r], thresholds[r], keep,
                        )  # fmt: skip
        for r in range(rows):
            count = counts[r]
            if count > keep:
                cut(scores[r], places[r], count, keep, of_columns)
                count = np.int64(keep)
            for j in range(count):
                found[first + r, j] = of_columns[places[r, j]]
            for j in range(count, keep):
                found[first + r, j] = -1


@kernel
def _offer(tile, at, column, of_columns, vertex, scores, places, count, threshold, keep):
    """Add those of 64 scores that reach the threshold to a pool; return its new count and threshold."""
    for i in range(0, COLUMNS, 16):
        mask = simd.ge_mask(simd.load_f32x16(tile, at + i), threshold)
        while mask != np.uint32(0):
            lane = i + simd.trailing_zeros(mask)
            mask &= mask - np.uint32(1)
            other = of_columns[column + lane]
            if other < 0 or other == vertex or tile[at + lane] < threshold:
                continue
            scores[count], places[count] = tile[at + lane], column + lane
            count += 1
            if count == scores.size:
                count, threshold = thinned(scores, places, count, keep, of_columns)
    return count, threshold


@kernel
def _load_vectors(store, extra, ids, count, scratch):
    """Decode some vectors to (count, width) float32, with ``extra`` as one more dimension."""
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
        if extra.size > 0:
            scratch[i, d] = extra[ids[i]]


@kernel
def _distance(vectors, i, j):
    """Return the squared distance of two vectors (m, width) float32; width is a multiple of 64."""
    width = vectors.shape[1]
    a, b, c, e = simd.zero_f32x16(), simd.zero_f32x16(), simd.zero_f32x16(), simd.zero_f32x16()
    for k in range(0, width, 64):
        at, to = i * width + k, j * width + k
        x = simd.sub(simd.load_f32x16(vectors, at), simd.load_f32x16(vectors, to))
        a = simd.fma(x, x, a)
        x = simd.sub(simd.load_f32x16(vectors, at + 16), simd.load_f32x16(vectors, to + 16))
        b = simd.fma(x, x, b)
        x = simd.sub(simd.load_f32x16(vectors, at + 32), simd.load_f32x16(vectors, to + 32))
        c = simd.fma(x, x, c)
        x = simd.sub(simd.load_f32x16(vectors, at + 48), simd.load_f32x16(vectors, to + 48))
        e = simd.fma(x, x, e)
    return simd.hsum(simd.add(simd.add(a, b), simd.add(c, e)))


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
def _sort(vectors, ids, count, distances, order):
    """Order places 1 to ``count`` by distance from place 0, and by vertex where distances are equal."""
    for i in range(1, count):
        distance = _distance(vectors, 0, i)
        distances[i] = distance
        place = np.int64(i - 1)
        while place > 0:
            other = order[place - 1]
            if distances[other] < distance or (distances[other] == distance and ids[other] < ids[i]):
                break
            order[place] = other
            place -= 1
        order[place] = i


@kernel
def prune(store, extra, candidates, alpha, begin, end, nearest, edges):
    """Choose the neighbours of vertices ``begin`` to ``end`` among their candidates.

    Parameters
    ----------
    store
        `annvq.kernels.vectors.dots.Store` of the vertices' vectors.
    extra
        (n,) float32: one more dimension of the vectors, see `annvq.index.codes.graph`; or empty.
    candidates
        (n, c) int32, in any order; repeated ones count once.
    alpha
        A candidate is left out unless ``alpha`` times its squared distance to any that was taken is above its squared
        distance to the vertex. Of vectors that are equal to the vertex's, one is taken.
    nearest
        Output, (n, c) int32: the candidates, nearest first, without repeats.
    edges
        Output, (n, degree) int32: those that were taken, nearest first.

    """
    c, degree = candidates.shape[1], edges.shape[1]
    d = store.d + (1 if extra.size > 0 else 0)
    width = (d + 63) // 64 * 64
    ids, distances = empty(c + 1, np.int64), empty(c + 1, np.float32)
    order, taken = empty(c, np.int64), empty(degree, np.int64)
    vectors = empty((c + 1, width), np.float32)
    for v in range(begin, end):
        count = _without_repeats(candidates[v], v, ids)
        _load_vectors(store, extra, ids, count, vectors)
        _sort(vectors, ids, count, distances, order)
        kept = np.int64(0)
        for i in range(count - 1):
            one = order[i]
            nearest[v, i] = ids[one]
            good = kept < degree
            for j in range(kept):
                if not good:
                    break
                good = alpha * _distance(vectors, taken[j], one) > distances[one]
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
