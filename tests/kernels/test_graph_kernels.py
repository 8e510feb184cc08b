"""Kernels of graphs against plain NumPy and Python."""

from dataclasses import replace

import numpy as np
import pytest

from annvq.codebooks import ScalarCodebook
from annvq.codebooks.neighbors import NeighborCodebook
from annvq.index.codes.edges import _Packed
from annvq.index.codes.graph import GraphCodes
from annvq.index.rows.ids import as_ids
from annvq.index.rows.segment import Segment
from annvq.kernels.graph import coding, edges, rows, walk
from annvq.kernels.registers.tiles import readonly
from annvq.kernels.scan import scan4
from annvq.kernels.vectors.dots import Store, padded

NOTHING = np.empty(0, np.float32)


def store_of(vectors, kind="fp32"):
    """Return vectors of small integers as a store, which rounds nothing."""
    if kind == "sq8":
        d = vectors.shape[1]
        codes = (vectors + 8).astype(np.uint8)
        return Store(codes.reshape(-1), d, padded(np.full(d, -8, np.float32)), padded(np.ones(d, np.float32)))
    flat = vectors.astype(np.float16).view(np.uint16) if kind == "fp16" else vectors.astype(np.float32)
    return Store(flat.reshape(-1), vectors.shape[1], NOTHING, NOTHING)


def integers(n, d, seed=0):
    return np.random.default_rng([seed, n, d]).integers(-3, 4, (n, d))


def distances(vectors):
    return np.square(vectors[:, None].astype(np.float64) - vectors[None]).sum(axis=2)


@pytest.mark.parametrize("kind", ["fp32", "fp16", "sq8"])
@pytest.mark.parametrize(("n", "d"), [(1, 3), (40, 16), (60, 1), (90, 67)])
def test_neighbours_are_near_and_lie_in_different_directions(kind, n, d):
    vectors, rng = integers(n, d), np.random.default_rng(1)
    between = distances(vectors)
    candidates = rng.integers(-1, n, (n, 50)).astype(np.int32)
    nearest, chosen = np.empty_like(candidates), np.empty((n, 32), np.int32)
    for part in ((0, n // 3), (n // 3, n)):
        edges.prune(store_of(vectors, kind), NOTHING, candidates, np.float32(1.5), *part, nearest, chosen)
    for v in range(n):
        some = sorted({int(o) for o in candidates[v] if o >= 0 and o != v}, key=lambda o: (between[v, o], o))
        taken = []
        for o in some:
            if len(taken) < 32 and all(1.5 * between[t, o] > between[v, o] for t in taken):
                taken.append(o)
        assert nearest[v].tolist() == some + [-1] * (50 - len(some))
        assert chosen[v].tolist() == taken + [-1] * (32 - len(taken))


@pytest.mark.parametrize("kind", ["fp32", "fp16", "sq8"])
def test_of_vectors_that_differ_in_length_neighbours_have_large_products_and_lie_in_different_directions(kind):
    n, d, rng = 80, 21, np.random.default_rng(2)
    vectors = integers(n, d) * rng.integers(1, 3, (n, 1))
    vectors[7] = 0
    lengths = np.linalg.norm(vectors, axis=1).astype(np.float32)
    of_one = np.divide(vectors, lengths[:, None], out=np.zeros((n, d)), where=lengths[:, None] > 0)
    between, products = distances(of_one), of_one @ vectors.T
    candidates = rng.integers(-1, n, (n, 50)).astype(np.int32)
    best, chosen = np.empty_like(candidates), np.empty((n, 10), np.int32)
    edges.prune(store_of(vectors, kind), lengths, candidates, np.float32(1.3), 0, n, best, chosen)
    for v in range(n):
        if v == 7:
            continue
        some = {int(o) for o in candidates[v] if o >= 0 and o != v}
        got = [o for o in best[v].tolist() if o >= 0]
        assert sorted(got) == sorted(some)
        assert np.allclose(products[v, got], np.sort(products[v, got])[::-1], atol=2e-3)
        taken = []
        for o in got:
            if len(taken) < 10 and all(1.3 * between[t, o] > between[v, o] for t in taken):
                taken.append(o)
        assert chosen[v].tolist() == taken + [-1] * (10 - len(taken))


def test_vertices_that_point_back_are_those_of_which_it_is_the_nearest():
    made = np.array([[1, 2], [2, -1], [1, 0], [1, 2]], np.int32)
    back = np.empty((4, 2), np.int32)
    edges.pointing_back(made, back)
    assert back.tolist() == [[2, -1], [0, 2], [1, 0], [-1, -1]]


def test_free_places_are_filled_with_what_is_not_there():
    made = np.array([[3, -1, -1], [0, 2, 3], [-1, -1, -1]], np.int32)
    more = np.array([[3, 0, -1, 2, 1], [0, 0, 0, 0, 0], [2, -1, 1, 1, -1]], np.int32)
    edges.fill_up(made, more, 0, 3)
    assert made.tolist() == [[3, 2, 1], [0, 2, 3], [1, 2, 2]]


def test_all_vertices_are_reached_from_what_is_returned():
    rng = np.random.default_rng(3)
    for n in (1, 2, 30, 200):
        made = rng.integers(0, n, (n, 2)).astype(np.int32)
        entries = np.unique(rng.integers(0, n, 2))
        more = np.empty(n, np.int64)
        count = edges.reach(made, entries, len(entries), more)
        reached, wanted = set(), entries.tolist()

        def spread(v, reached=reached, made=made):
            waiting = [v]
            while waiting:
                if (at := waiting.pop()) not in reached:
                    reached.add(at)
                    waiting += made[at].tolist()

        for v in entries.tolist():
            spread(v)
        for v in range(n):
            if v not in reached:
                wanted.append(v)
                spread(v)
        assert more[:count].tolist() == wanted


@pytest.mark.parametrize("l2", [True, False])
@pytest.mark.parametrize("d", [5, 16, 37])
def test_candidates_are_the_best_in_some_lists(l2, d):
    rng = np.random.default_rng(0)
    vectors, centroids = integers(90, d), rng.integers(-3, 4, (4, d))
    centroids[:, 0] = 0
    vectors[:, 0] = rng.choice([-127, 127], 90)  # the step of every difference in bytes is 1, which rounds nothing
    order, offsets = rng.permutation(90), np.array([0, 3, 3, 70, 90])
    packed = _Packed(vectors.astype(np.float32), centroids.astype(np.float32), l2, order, offsets, 1)
    some = order[3:70]
    around = np.stack([rng.permutation(4)[:3] for _ in some])  # list 1 is empty
    of_list = np.repeat(np.arange(4), np.diff(offsets))
    between = distances(vectors) if l2 else -(vectors @ vectors.T)
    for keep in (1, 9, 69, 80):
        found = np.empty((len(some), keep), np.int32)
        packed.look(vectors[some].astype(np.float32), some, around, found)
        for v, lists, got in zip(some, around, found.tolist(), strict=True):
            near = order[np.isin(of_list, lists)].tolist()
            wanted = sorted((o for o in near if o != v), key=lambda o: (between[v, o], o))[:keep]
            assert sorted(got, reverse=True) == sorted(wanted, reverse=True) + [-1] * (keep - len(wanted))


class Made:
    """A graph of vectors that nothing has to round, as a segment, and the parts of its rows."""

    def __init__(self, n, d, metric, nbits, M=8, weights=None):
        rng = np.random.default_rng([n, d])
        self.vectors = rng.integers(-3, 4, (n, d)).astype(np.float32)
        self.queries = rng.integers(-3, 4, (6, d)).astype(np.float32)
        book = NeighborCodebook.train(self.vectors, M=M, scalar=False, centred=metric == "l2", seed=0, threads=1)
        if weights is not None:
            book = replace(book, weights=np.array(weights, np.float32))
        if nbits == 8:
            levels = ScalarCodebook("sq8", np.full(d, -8, np.float32), np.ones(d, np.float32))
            book = replace(book, scalar=levels)
        self.codes = GraphCodes(book, metric, np.zeros(d, np.float32))
        arrays = self.codes.encode(self.vectors, np.zeros(n, np.int64), 1)
        arrays = {name: readonly(a) for name, a in self.codes.pack(arrays, np.array([0, n]), 1).items()}
        self.segment = Segment(np.array([0, n]), arrays, as_ids(None, n, 0), np.arange(n, dtype=np.uint32))
        self.rows = self.codes._rows(self.segment)
        self.prepared = self.codes.prepare(self.queries, None)
        held = arrays[self.codes.section]
        kept, self.neighbors, numbers, self.packed = rows.views_of(held, d, nbits // 8)
        kept = np.ascontiguousarray(kept)
        self.kept = kept.view(np.float16).astype(np.float32) if nbits == 16 else kept - np.float32(8)
        self.factors, self.constants = numbers[:, :32], numbers[:, 32:]
        self.n, self.l2 = n, metric == "l2"

    def exact(self, q):
        """Return the scores of the vectors of all rows, (rows,) float32."""
        if self.l2:
            return -np.square(self.kept - self.queries[q]).sum(axis=1)
        return self.kept @ self.queries[q]

    def estimates(self, q):
        """Return the estimates of the scores of all rows' neighbours, (rows, 32) float32."""
        tables, step, bias = (part[q] for part in self.prepared[1:4])
        packed, M = self.packed.reshape(len(self.packed), -1, 64), 4 * self.rows.groups
        sums = np.zeros((len(packed), 32), np.int64)
        for lane in range(32):
            for m in range(M):
                byte = self.packed[:, scan4._byte_of.py_func(lane % 16, m)]
                sums[:, lane] += tables[16 * m + (byte >> (4 if lane >= 16 else 0) & 15).astype(np.int64)]
        own = self.exact(q)
        products = (sums.astype(np.float64) * np.float64(step) + np.float64(bias)).astype(np.float32)
        known = (self.constants + own[:, None]).astype(np.float32)
        return (products.astype(np.float64) * self.factors + known).astype(np.float32)

    def walked(self, q, length):
        """Return the vertices that a walk visits, in their order."""
        estimates, queue, visited, chosen = self.estimates(q), [], [], []

        def offer(row):
            for lane in range(32):
                o, rank = int(self.neighbors[row, lane]), -estimates[row, lane]
                if o < self.n and o not in [*visited, *chosen[-1:], *(held for _, held in queue)]:
                    if len(queue) < length or (rank, o) < queue[-1]:
                        queue.append((rank, o))
                        queue.sort()
                        del queue[length:]

        behind = range(self.n, len(self.neighbors))
        above = [row for row in behind if self.neighbors[row, 0] > self.n]
        named = sorted(
            (-estimates[row, lane], int(self.neighbors[row, lane]))
            for row in above for lane in range(32) if self.neighbors[row, lane] > self.n
        )  # fmt: skip
        for row in [row for _, row in named[: walk.DOORS]] if above else behind:
            offer(row)
        following = None
        while (following is not None) or any(o not in visited for _, o in queue):
            if following is None:
                following = next(o for _, o in queue if o not in visited)
            visited.append(following)
            following = next((o for _, o in queue if o not in visited), None)
            chosen.append(following)
            offer(visited[-1])
        return visited


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("nbits", [8, 16])
@pytest.mark.parametrize(("n", "d"), [(1, 5), (31, 1), (32, 16), (33, 40), (400, 21), (900, 33), (3000, 7)])
def test_a_walk_visits_what_the_plain_one_does(metric, nbits, n, d):
    made = Made(n, d, metric, nbits)
    for q in range(len(made.queries)):
        for length in (1, 8, 13, 16, 40, 71):
            queue, seen = np.empty(length + 16, np.int64), np.zeros(n // 64 + 1, np.int64)
            path, scores = np.empty(n + 1, np.int64), np.empty(n + 1, np.float32)
            tables, steps, biases = made.prepared[1:4]
            visited = walk.walk(
                made.prepared.queries[q], tables, q * tables.shape[1], steps[q], biases[q], made.rows, made.l2,
                length, queue, seen, path, scores,
            )  # fmt: skip
            wanted = made.walked(q, length)
            assert path[:visited].tolist() == wanted
            assert scores[:visited].tolist() == made.exact(q)[wanted].tolist()
            assert np.flatnonzero(np.unpackbits(seen.view(np.uint8), bitorder="little")).tolist() == sorted(wanted)


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_estimates_are_near_and_the_weights_make_them_better(metric):
    errors = []
    for weights in (None, (1, 0)):
        made = Made(500, 24, metric, 16, M=12, weights=weights)
        error = spread = 0.0
        for q in range(len(made.queries)):
            wanted = made.exact(q)[made.neighbors[:500].astype(int)]
            error += np.abs(made.estimates(q)[:500] - wanted).mean()
            spread += np.abs(wanted - made.exact(q)[:500, None]).mean()
        errors.append(error / spread)
    assert max(errors) < 0.5
    assert errors[0] < 1.05 * errors[1]


def test_codes_of_a_part_of_the_rows_are_those_of_the_whole():
    made = Made(100, 10, "l2", 16)
    book = made.codes.codebook
    projected = np.ascontiguousarray(book.project(made.vectors, 1))
    width = book.product.M * 2
    projected = np.pad(projected, [(0, 0), (0, width - projected.shape[1])])
    neighbors = np.ascontiguousarray(made.neighbors[:100])
    given = (
        store_of(made.vectors, "fp16"),
        projected,
        np.arange(100),
        neighbors,
        book.product.transposed,
        book.weights,
        NOTHING,
    )
    whole, parts = ((np.zeros((100, 64), np.float32), np.zeros_like(made.packed[:100])) for _ in range(2))
    coding.code_neighbors(*given, 0, 100, *whole)
    for begin, end in ((0, 1), (1, 64), (64, 100)):
        coding.code_neighbors(*given, begin, end, *parts)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(whole, parts, strict=True))
    assert whole[0][:, :32].tobytes() == np.ascontiguousarray(made.factors[:100]).tobytes()
    assert whole[1].tobytes() == np.ascontiguousarray(made.packed[:100]).tobytes()


def test_the_queue_is_longer_where_few_rows_may_be_returned():
    assert walk.queue_length(40, 1000, 1000) == 40
    assert walk.queue_length(41, 1000, 1000) == 41
    assert walk.queue_length(40, 1000, 500) == 116
    assert walk.queue_length(1, 1 << 31, 1) == 5 * (1 << 31) // 4 + 16


@pytest.mark.parametrize("d", [1, 15, 16, 40])
@pytest.mark.parametrize("length", [1.0, 3e-15, 5e17])
def test_queries_are_made_about_as_long_as_the_vectors_by_powers_of_two(d, length):
    queries = np.random.default_rng(d).normal(size=(50, d)).astype(np.float32)
    queries *= np.exp2(np.arange(-50, 50, 2, dtype=np.float32))[:, None]
    queries[0] = 0
    queries[1] *= np.float32(length) / np.linalg.norm(queries[1])
    beside, scales = np.empty_like(queries), np.empty(50, np.float32)
    coding.bring_beside(readonly(queries), np.float32(length), beside, scales)
    assert scales[0] == scales[1] == 1
    assert (np.frexp(scales)[0] == 0.5).all()
    assert (beside / scales[:, None] == queries).all()
    ratios = np.linalg.norm(beside[1:].astype(np.float64), axis=1) / length
    assert (ratios > 0.7).all()
    assert (ratios < 1.42).all()
