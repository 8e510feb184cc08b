"""The search of a graph: from the entries to ever nearer vertices, each of which is scored exactly.

Candidates are kept in a queue, best first, which has a fixed length. One after the other is visited: its vector is
scored, and the scores of its 32 neighbours are estimated from their codes; those that are good enough for the queue
enter it, unless they are in it already or were visited. What is visited next, the best that was not visited yet, is
chosen before a visit, not after it, so that its row is there when it is needed. The walk ends when all in the queue
were visited. The rows and estimates are those of SymphonyQG (Gou et al., SIGMOD 2025, arXiv:2411.12229), whose
queue, however, may hold a vertex more than once; that takes about twice as many visits for the same recall.
"""

from __future__ import annotations

import numpy as np

from annvq.kernels.compile.jit import kernel
from annvq.kernels.compile.scratch import empty, local, local_zeros
from annvq.kernels.graph.rows import ids_at, scan_rows, score_row
from annvq.kernels.registers import simd
from annvq.kernels.registers.queue import count_less, load_i64x8, median, rank_of, score_of, store_i64x8
from annvq.kernels.scan import scan4
from annvq.kernels.scan.topk import MINUS_INFINITY, thinned

_NOTHING = np.int64(2**63 - 1)  # comes after every entry
_LOW = np.int64(2**32 - 1)
_FEW = np.int64(16)  # blocks of entries that are compared without branches
_START = 8  # the first place of a queue, which comes after one that is before every entry
DOORS = 8  # rows of entries that are opened, at most, if rows above them tell which are near
_WORTH = np.int64(8)  # a walk must visit at most one of so many vertices; otherwise scoring all of them costs less


@kernel
def _insert(queue, entry, filled):
    """Insert an entry into the first ``filled`` of a queue, behind which there is a place; return where it is now.

    In a sorted queue, what is in a place afterwards is the middle one of three: the entry, what was there, and what was
    in the place before. This takes no branches, which a CPU would mispredict.
    """
    first, last = np.int64(0), filled >> 3  # blocks of 8 places; those before the first stay as they are
    while last - first > _FEW:
        middle = (first + last) >> 1
        if queue[_START + 8 * middle + 7] < entry:
            first = middle + 1
        else:
            last = middle
    place = 8 * first
    for at in range((filled >> 3) * 8 + _START, 8 * first + _START - 8, -8):
        held = load_i64x8(queue, at)
        place += count_less(held, entry)
        store_i64x8(queue, at, median(load_i64x8(queue, at - 1), held, entry))
    return place


@kernel
def _next(queue, filled, current):
    """Return the place of the first entry from ``current`` on that was not visited, or ``filled``."""
    while current < filled and queue[_START + current] & 1:
        current += 1
    return current


@kernel
def _offer(mask, estimates, neighbors, ids, n, length, queue, filled, current, seen):
    """Put the neighbours in the lanes of a mask into the queue if they are good enough; return filled and current.

    ``estimates`` are the scores of 32 neighbours, whose numbers begin at ``neighbors[ids]``; ``filled`` is how many
    places of the queue are filled, and ``current`` the first place that may have an entry which was not visited. The
    other parameters are those of `walk`.
    """
    while mask != 0:
        lane = simd.trailing_zeros(mask)
        mask &= mask - np.uint32(1)
        o = np.int64(neighbors[ids + lane])
        if o >= n or seen[o >> 6] >> (o & 63) & 1:  # n: no neighbour; more: the file was changed meanwhile
            continue
        entry = (rank_of(estimates[lane]) << 32) | (o << 1)
        last = queue[_START + length - 1]
        if entry >= last:
            continue
        seen[o >> 6] |= np.int64(1) << (o & 63)
        if filled == length and not last & 1:  # it leaves the queue unvisited, and may come back
            last = (last & _LOW) >> 1
            seen[last >> 6] &= ~(np.int64(1) << (last & 63))
        place = _insert(queue, entry, min(filled, length - 1))
        filled = min(filled + 1, length)
        current = min(current, place)
    return filled, current


@kernel
def _fetch(packed, row, row_bytes):
    """Ask the CPU to fetch a row."""
    for line in range(row * row_bytes, (row + 1) * row_bytes, 64):
        simd.prefetch(packed, line)


@kernel
def _estimated(score, rows, v, quantized, table, steps, biases):
    """Return the estimated scores of the neighbours of row ``v``, whose own vector has this score, as two registers."""
    codes_at = rows.row_bytes - 64 * rows.groups
    at = v * (rows.row_bytes // 4) + codes_at // 4 - 64
    low, high = scan4.sum_block(rows.packed, v * rows.row_bytes + codes_at, rows.groups, quantized, table)
    base = simd.splat_f32(score)
    return (
        simd.fma(
            simd.fma(simd.to_f32(low), steps, biases),
            simd.load_f32x16(rows.numbers, at), simd.add(simd.load_f32x16(rows.numbers, at + 32), base),
        ),
        simd.fma(
            simd.fma(simd.to_f32(high), steps, biases),
            simd.load_f32x16(rows.numbers, at + 16), simd.add(simd.load_f32x16(rows.numbers, at + 48), base),
        ),
    )  # fmt: skip


@kernel
def _doors(score, rows, quantized, table, steps, biases, queue, buffer, doors):
    """Fill ``doors`` with the best of the rows of entries that the rows above them name; return how many there are.

    If there are no rows above, the answer is 0. ``score`` is that of the centre, ``queue`` is empty before and
    afterwards, and ``buffer`` is scratch, (32,) float32.
    """
    n, words = rows.n, rows.row_bytes // 4
    last = rows.packed.size // rows.row_bytes
    filled, row = np.int64(0), np.int64(n)
    while row < last and np.int64(rows.neighbors[row * words + ids_at(rows)]) > n:
        low, high = _estimated(score, rows, row, quantized, table, steps, biases)
        simd.store_f32x16(buffer, 0, low)
        simd.store_f32x16(buffer, 16, high)
        for lane in range(32):
            o = np.int64(rows.neighbors[row * words + ids_at(rows) + lane])
            entry = (rank_of(buffer[lane]) << 32) | (o << 1)
            if n < o < last and entry < queue[_START + doors.size - 1]:
                _insert(queue, entry, min(filled, doors.size - 1))
                filled = min(filled + 1, np.int64(doors.size))
        row += 1
    for i in range(filled):
        doors[i] = (queue[_START + i] & _LOW) >> 1
        queue[_START + i] = _NOTHING
    return filled


@kernel
def walk(query, quantized, table, step, bias, rows, l2, length, queue, seen, path, path_scores):
    """Walk a graph for one query; return how many vertices were visited.

    Parameters
    ----------
    query
        (d padded to a multiple of 16,) float32.
    quantized, table, step, bias
        The query's look-up tables, from byte ``table`` of ``quantized`` on, as `quantize_lookup_tables` makes them.
    rows
        `annvq.kernels.graph.rows.GraphRows`, of at least one vertex.
    l2
        Whether scores are minus squared distances rather than inner products.
    length
        The length of the queue.
    queue
        Scratch, at least (length + 16,) int64.
    seen
        Scratch, a bit per vertex, (n / 64 + 1,) int64, which is 0 before. Afterwards, the bits of the visited vertices
        are set, and no others unless the walk ended because ``path`` is full.
    path, path_scores
        Outputs, int64 and float32: the visited vertices and their scores. The walk ends when these are full.

    """
    n, d, row_bytes = rows.n, rows.d, rows.row_bytes
    vectors, packed = rows.vectors, rows.packed
    minimum, step_of = rows.minimum, rows.step
    width, words = row_bytes // vectors.itemsize, row_bytes // 4
    queue[_START - 1] = -_NOTHING
    queue[_START : 2 * _START + length] = _NOTHING  # more than its length, because places are moved 8 at a time
    buffer, doors = empty(32, np.float32), empty(DOORS, np.int64)
    steps, biases = simd.splat_f32(step), simd.splat_f32(bias)
    centre = score_row(query, vectors, n * width, d, minimum, step_of, l2)
    opened, near = np.int64(0), _doors(centre, rows, quantized, table, steps, biases, queue, buffer, doors)
    of_entries = near if near > 0 else packed.size // row_bytes - n
    filled, current, visited, following = np.int64(0), np.int64(0), np.int64(0), np.int64(-1)
    while visited < path.size:
        if opened < of_entries:
            v = doors[opened] if near > 0 else n + opened
            opened += 1
            if opened < near:
                _fetch(packed, doors[opened], row_bytes)
            score = score_row(query, vectors, v * width, d, minimum, step_of, l2)
        else:
            v = following
            if v < 0:
                current = _next(queue, filled, current)
                if current == filled:
                    break
                v = (queue[_START + current] & _LOW) >> 1
                queue[_START + current] |= 1
            current = _next(queue, filled, current)
            following = np.int64(-1)
            if current < filled:
                following = (queue[_START + current] & _LOW) >> 1
                queue[_START + current] |= 1
                _fetch(packed, following, row_bytes)
            score = score_row(query, vectors, v * width, d, minimum, step_of, l2)
            path[visited], path_scores[visited] = v, score
            visited += 1
        low, high = _estimated(score, rows, v, quantized, table, steps, biases)
        least = score_of(queue[_START + length - 1] >> 32) if filled == length else MINUS_INFINITY
        mask = simd.ge_mask(low, least) | (simd.ge_mask(high, least) << np.uint32(16))
        if mask != 0:
            simd.store_f32x16(buffer, 0, low)
            simd.store_f32x16(buffer, 16, high)
            ids = v * words + ids_at(rows)
            filled, current = _offer(mask, buffer, rows.neighbors, ids, n, length, queue, filled, current, seen)
    return visited


@kernel
def queue_length(keep, n, passing):
    """Return the length of the queue with which ``keep`` of ``passing`` rows among n are found."""
    length = np.int64(keep)
    if passing < n:
        length = (5 * length * n + 4 * passing - 1) // (4 * passing) + 16
    return length


@kernel
def search_graph(queries, quantized, steps, biases, rows, l2, pools, keep, keys, visits):
    """Search a segment's graph for every query, and add what was found to the pools.

    Where few of the vertices may be returned, the queue is longer, and it is doubled until ``keep`` of these were
    visited, or all of them. When a walk would visit a large part of the vertices, all are scored instead.

    Parameters
    ----------
    queries
        (nq, d padded to a multiple of 16) float32.
    quantized, steps, biases
        (nq, groups * 64) uint8, (nq,) and (nq,) float32: the queries' look-up tables (`prepare_walks`).
    rows, l2
        As in `walk`.
    pools, keep, keys
        As in `annvq.kernels.scan.scan4.scan_lists`.
    visits
        (nq,) int64, to which the number of vertices visited is added.

    """
    n, passing, allow = rows.n, rows.passing, rows.allow
    if passing == 0:
        return
    wanted = min(np.int64(keep), passing)
    first = queue_length(np.int64(keep), n, passing)
    longest = min(8 * first, n // _WORTH)
    queue = local(longest + 2 * _START, np.int64)
    path, path_scores = local(4 * longest + 256, np.int64), local(4 * longest + 256, np.float32)
    seen = local_zeros(n // 64 + 1, np.int64)
    for q in range(pools.counts.size):
        length, found = first, np.int64(0)
        while length <= longest and found < wanted:
            size = 4 * length + 256
            visited = walk(
                queries[q], quantized, q * quantized.shape[1], steps[q], biases[q], rows, l2, length, queue, seen,
                path[:size], path_scores[:size],
            )  # fmt: skip
            visits[q] += visited
            if visited == size:
                seen[:] = 0
            found = np.int64(0)
            for i in range(visited):
                v = path[i]
                seen[v >> 6] = 0
                found += np.int64(allow.size == 0 or allow[v] != 0)
            length *= 2
            if found >= wanted:
                _add(path, path_scores, visited, rows, pools, q, keep, keys)
        if found < wanted:
            scan_rows(queries[q], rows, l2, pools, q, keep, keys)


@kernel
def _add(path, path_scores, visited, rows, pools, q, keep, keys):
    """Add the visited vertices that may be returned to pool ``q``."""
    scores, places = pools.scores[q], pools.rows[q]
    count, threshold = pools.counts[q], pools.thresholds[q]
    allow, row_base = rows.allow, rows.row_base
    for i in range(visited):
        if path_scores[i] >= threshold and (allow.size == 0 or allow[path[i]] != 0):
            scores[count] = path_scores[i]
            places[count] = row_base + path[i]
            count += 1
            if count == scores.size:
                count, threshold = thinned(scores, places, count, keep, keys)
    pools.counts[q], pools.thresholds[q] = count, threshold
