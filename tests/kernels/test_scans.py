"""The packed scans against plain NumPy."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annvq.codebooks import ProductCodebook
from annvq.index.codes.probes import NOT_IN_BYTES, coarse_of
from annvq.kernels.registers.tiles import readonly
from annvq.kernels.scan import scan4, scan8, topk
from annvq.kernels.scan.coarse import Coarse, CodedCentroids, ExactCentroids, choose_lists, probe
from annvq.kernels.scan.lists import PackedCodes, Visits, blocks_for
from annvq.kernels.scan.lookup_tables import quantize_lookup_tables
from annvq.kernels.vectors import gemm

NOTHING, EVERYTHING = np.empty(0, np.float32), np.empty(0, np.uint8)
NO_CODES = PackedCodes(
    *(readonly(np.empty(0, dtype)) for dtype in (np.uint8, np.int64, np.int64, np.float32, np.uint8, np.uint32)), 0
)
NOT_CODED = CodedCentroids(readonly(NOTHING), readonly(np.empty((0, 0, 0), np.float32)), NO_CODES)
SCANS = {4: (scan4, 16), 8: (scan8, 256)}

PROPERTY = settings(deadline=None, max_examples=40, derandomize=True)
NBITS, SEEDS = st.sampled_from([4, 8]), st.integers(0, 2**31)
SIZES = st.lists(st.sampled_from([0, 1, 31, 32, 33, 64, 65, 130, 300]), min_size=1, max_size=5)
WIDTHS = st.one_of(st.integers(1, 12), st.sampled_from([256, 257, 516, 1040]))  # of the last, sums pass 16 bits


def keys_of(nlist):
    return readonly(np.arange(nlist))


def setup(nbits, sizes, M, seed=0):
    rng = np.random.default_rng(seed)
    ksub = SCANS[nbits][1]
    n = sum(sizes)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    codes = rng.integers(0, ksub, (n, M)).astype(np.uint8)
    tables = rng.normal(size=(2, M, ksub)).astype(np.float32)
    return codes, offsets, tables


def quantized(tables, ksub):
    out = np.empty(-(-len(tables) * ksub // 64) * 64, np.uint8)
    step, bias = quantize_lookup_tables(tables, out)
    return out[: len(tables) * ksub].reshape(len(tables), ksub), np.float32(step), np.float32(bias)


def in_lists(scan, codes, offsets, constants, allow=EVERYTHING, row_base=0):
    blocks, unmapped = blocks_for(np.diff(offsets)), np.empty(0, np.uint32)
    return PackedCodes(scan.pack(codes, offsets), offsets, blocks, constants, allow, unmapped, row_base)


def run(nbits, codes, offsets, tables, keep, *, bases=None, constants=NOTHING, allow=EVERYTHING, parts=1, keys=None,
        probes=None, row_base=0):  # fmt: skip
    scan = SCANS[nbits][0]
    nq, nlist = len(tables), len(offsets) - 1
    keys = np.arange(len(codes)) if keys is None else keys
    bases = np.empty((nq, 0), np.float32) if bases is None else bases
    lists, counts = (np.tile(np.arange(nlist), (nq, 1)), np.full(nq, nlist)) if probes is None else probes
    pools = topk.empty_pools(nq, topk.capacity_for(keep))
    packed = in_lists(scan, codes, offsets, constants, allow, row_base)
    for part in range(parts):
        scan.scan_lists(tables, bases, packed, Visits(lists, counts, part, parts), pools, keep, keys)
    return topk.best(pools, keep, keys)


def expected(nbits, codes, tables, keep, q, *, base=0.0, constants=0.0, keys=None):
    levels, step, bias = quantized(tables[q], SCANS[nbits][1])
    sums = levels.astype(np.int64)[np.arange(codes.shape[1]), codes].sum(axis=1)
    scores = sums * np.float64(step) + (bias + base) + constants
    keys = np.arange(len(codes)) if keys is None else keys
    return scores, np.lexsort((keys, -scores))[:keep]


@pytest.mark.parametrize("nbits", [4, 8])
@pytest.mark.parametrize("M", [1, 4, 5, 48, 258])
@pytest.mark.parametrize("sizes", [[0], [1], [31], [32], [33], [65, 0, 97], [1, 2, 3, 64, 128]])
def test_packing_round_trips(nbits, M, sizes):
    codes, offsets, _ = setup(nbits, sizes, M)
    scan = SCANS[nbits][0]
    assert np.array_equal(scan.unpack(scan.pack(codes, offsets), offsets, M, np.arange(len(codes))), codes)


@PROPERTY
@given(nbits=NBITS, sizes=SIZES, M=st.integers(1, 20), seed=SEEDS)
def test_packing_follows_its_definition(nbits, sizes, M, seed):
    codes, offsets, _ = setup(nbits, sizes, M, seed)
    scan = SCANS[nbits][0]
    packed = scan.pack(codes, offsets)
    lists = [np.pad(codes[a:b], ((0, (a - b) % 32), (0, -M % 4 if nbits == 4 else 0))) for a, b in pairwise(offsets)]
    blocks = np.concatenate(lists).reshape(-1, 32, lists[0].shape[1])
    if nbits == 8:
        assert np.array_equal(packed, blocks.transpose(0, 2, 1).ravel())
    else:
        pairs = (blocks[:, :16] | blocks[:, 16:] << 4).reshape(-1, 16, blocks.shape[2] // 4, 4)
        layouts = {"quads": pairs.transpose(0, 2, 1, 3).ravel(), "lanes": pairs.transpose(0, 2, 3, 1).ravel()}
        assert np.array_equal(packed, layouts[scan4.LAYOUT])
        assert np.array_equal(packed, scan4.relaid(layouts[scan4.OTHER_LAYOUT]))
    rows = np.random.default_rng(seed).integers(0, len(codes), 9 if len(codes) else 0)
    assert np.array_equal(scan.unpack(packed, offsets, M, rows), codes[rows])


class Integers:
    """Codes, tables and additions that are integers, which quantization (its step is 1) and sums do not round."""

    def __init__(self, nbits, sizes, M, values, options, seed):
        rng = np.random.default_rng(seed)
        self.codes, self.offsets, _ = setup(nbits, sizes, M, seed)
        n, nlist = len(self.codes), len(sizes)
        tables = rng.choice(values, (2, M, SCANS[nbits][1]))
        tables[:, 0, :2] = 0, 255
        tables += rng.integers(-50, 50, (2, M, 1))
        self.tables, self.row_base = tables.astype(np.float32), 7
        self.options = {
            "bases": rng.integers(-99, 99, (2, nlist)).astype(np.float32),
            "constants": rng.integers(-99, 99, n).astype(np.float32),
            "allow": rng.integers(0, 2, n).astype(np.uint8),
            "probes": (np.stack([rng.permutation(nlist) for _ in range(2)]), rng.integers(0, nlist + 1, 2)),
        }
        self.options = {name: value for name, value in self.options.items() if name in options}
        self.keys = rng.permutation(n + self.row_base)
        lists = np.repeat(np.arange(nlist), sizes)
        self.scores = tables[:, np.arange(M), self.codes].sum(axis=2)
        self.scores += self.option("bases", np.zeros((2, nlist))).astype(np.int64)[:, lists]
        self.scores += self.option("constants", np.zeros(n)).astype(np.int64)
        order, counts = self.option("probes", (np.tile(np.arange(nlist), (2, 1)), [nlist, nlist]))
        probed = np.stack([np.isin(lists, order[q, : counts[q]]) for q in range(2)])
        self.found = probed & (self.option("allow", np.ones(n)) == 1)

    def option(self, name, default):
        return self.options.get(name, default)


FLOATS = st.floats(width=32)  # also NaN and infinity
OPTIONS = st.sets(st.sampled_from(["bases", "constants", "allow", "probes"]))
VALUES = st.sampled_from([range(256), [0, 1, 255], [255]])  # any, many ties, the largest sums


@PROPERTY
@given(
    nbits=NBITS, sizes=SIZES, M=WIDTHS, values=VALUES, options=OPTIONS,
    keep=st.sampled_from([1, 2, 10, 33, 200]),
    parts=st.integers(1, 3), seed=SEEDS,
)  # fmt: skip
def test_integers_are_scanned_exactly(nbits, sizes, M, values, options, keep, parts, seed):
    """The pool is the head of NumPy's order by score, then key."""
    case = Integers(nbits, sizes, M, values, options, seed)
    scores, rows = run(
        nbits, case.codes, case.offsets, case.tables, keep, parts=parts, keys=case.keys, row_base=case.row_base,
        **case.options,
    )  # fmt: skip
    for q in range(2):
        candidates = np.flatnonzero(case.found[q])
        best = candidates[np.lexsort((case.keys[candidates + case.row_base], -case.scores[q, candidates]))][:keep]
        missing = keep - len(best)
        assert rows[q].tolist() == [*(best + case.row_base), *[-1] * missing]
        assert scores[q].tolist() == [*case.scores[q, best], *[-np.inf] * missing]


@PROPERTY
@given(nbits=NBITS, sizes=SIZES, M=WIDTHS, options=OPTIONS, seed=SEEDS)
def test_integers_are_rescored_exactly(nbits, sizes, M, options, seed):
    case, rng = Integers(nbits, sizes, M, range(256), options, seed), np.random.default_rng(seed)
    n, scan = len(case.codes), SCANS[nbits][0]
    rows, counts = rng.integers(0, n + 2 * case.row_base, (2, 12)), rng.integers(0, 13, 2)
    scores = np.full((2, 12), 0.5, np.float32)
    packed = in_lists(scan, case.codes, case.offsets, case.option("constants", NOTHING), row_base=case.row_base)
    pools = topk.Candidates(scores, rows, counts, np.zeros(2, np.float32))
    scan.rescore(case.tables, case.option("bases", np.empty((2, 0), np.float32)), packed, pools)
    rows -= case.row_base
    ours = (0 <= rows) & (rows < n) & (np.arange(12) < counts[:, None])
    for q in range(2):
        assert scores[q][ours[q]].tolist() == case.scores[q, rows[q][ours[q]]].tolist()
    assert (scores[~ours] == 0.5).all()


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("nbits", [4, 8])
@pytest.mark.parametrize("M", [1, 4, 7, 48, 300, 1040])
@pytest.mark.parametrize("sizes", [[0], [1], [31], [32], [33], [64, 0, 65], [100, 200, 31]])
def test_scan_finds_what_numpy_finds(nbits, M, sizes, parts):
    codes, offsets, tables = setup(nbits, sizes, M, seed=M)
    keep = 10
    scores, rows = run(nbits, codes, offsets, tables, keep, parts=parts)
    for q in range(2):
        want, order = expected(nbits, codes, tables, keep, q)
        found = len(order)
        np.testing.assert_allclose(scores[q, :found], want[order], rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(want[rows[q, :found]], want[order], rtol=1e-6, atol=1e-5)
        assert (rows[q, found:] == -1).all()


@PROPERTY
@given(threshold=FLOATS, base=FLOATS, step=st.floats(0, 2.0**100, width=32), sums=st.lists(st.integers(0, 1 << 18)))
def test_no_sum_that_reaches_the_threshold_is_passed_over(threshold, base, step, sums):
    threshold, base, step = np.float32(threshold), np.float32(base), np.float32(step)
    with np.errstate(all="ignore"):
        near = (np.float64(threshold) - np.float64(base)) / np.float64(step) if step else 0
        near = [] if np.isnan(near) else np.clip(near + np.arange(-3, 4), 0, 1 << 18).astype(int)
        for sum_ in [*sums, 0, 65534, 65535, *near]:
            score = np.float32(np.float64(sum_) * np.float64(step) + np.float64(base))
            if score >= threshold:
                assert sum_ >= scan4._least_sum(threshold, step, base)


@PROPERTY
@given(nbits=NBITS, sizes=SIZES, queries=st.sampled_from([3, 7, 40]), keep=st.sampled_from([1, 10]), seed=SEEDS)
def test_a_batch_finds_what_each_query_finds(nbits, sizes, queries, keep, seed):
    """In whatever order a batch's queries visit the lists."""
    codes, offsets, _ = setup(nbits, sizes, 5, seed)
    rng, nlist = np.random.default_rng(seed), len(sizes)
    tables = rng.integers(-3, 3, (queries, 5, SCANS[nbits][1])).astype(np.float32)
    lists = np.stack([rng.permutation(nlist) for _ in range(queries)])
    counts = rng.integers(0, nlist + 1, queries)
    scores, rows = run(nbits, codes, offsets, tables, keep, probes=(lists, counts))
    for q in range(queries):
        one = slice(q, q + 1)
        alone = run(nbits, codes, offsets, tables[one], keep, probes=(lists[one], counts[one]))
        assert scores[q].tolist() == alone[0][0].tolist()
        assert rows[q].tolist() == alone[1][0].tolist()


@pytest.mark.parametrize("nbits", [4, 8])
def test_equal_codes_are_ordered_by_key(nbits):
    codes = np.zeros((200, 6), np.uint8)
    offsets = np.array([0, 50, 200])
    _, _, tables = setup(nbits, [1], 6)
    keys = np.random.default_rng(3).permutation(200).astype(np.int64)
    _, rows = run(nbits, codes, offsets, tables, 20, keys=keys)
    assert keys[rows[0]].tolist() == list(range(20))


@pytest.mark.parametrize("nbits", [4, 8])
def test_bases_constants_and_masks(nbits):
    sizes = [70, 0, 45, 33]
    codes, offsets, tables = setup(nbits, sizes, 8, seed=5)
    n = len(codes)
    rng = np.random.default_rng(9)
    bases = rng.normal(size=(2, 4)).astype(np.float32) * 3
    constants = rng.normal(size=n).astype(np.float32)
    allow = (rng.random(n) < 0.3).astype(np.uint8)
    keep = 15
    scores, rows = run(nbits, codes, offsets, tables, keep, bases=bases, constants=constants, allow=allow)
    per_row = np.repeat(bases, sizes, axis=1)
    for q in range(2):
        want, _ = expected(nbits, codes, tables, keep, q, base=per_row[q], constants=constants)
        want[allow == 0] = -np.inf
        order = np.argsort(-want, kind="stable")[:keep]
        np.testing.assert_allclose(scores[q], want[order], rtol=1e-5, atol=1e-4)
        assert (allow[rows[q]] == 1).all()


@pytest.mark.parametrize("nbits", [4, 8])
def test_rescoring_uses_the_float_tables(nbits):
    sizes = [40, 60]
    codes, offsets, tables = setup(nbits, sizes, 9, seed=2)
    scan = SCANS[nbits][0]
    bases = np.array([[1.0, -2.0], [0.5, 0.25]], np.float32)
    constants = np.linspace(-1, 1, 100, dtype=np.float32)
    rows = np.tile(np.array([3, 39, 40, 99, 500]), (2, 1))  # 500 lies in another segment
    scores = np.zeros((2, 5), np.float32)
    pools = topk.Candidates(scores, rows, np.array([5, 5]), np.zeros(2, np.float32))
    scan.rescore(tables, bases, in_lists(scan, codes, offsets, constants), pools)
    for q in range(2):
        for i, row in enumerate((3, 39, 40, 99)):
            entries = tables[q].astype(np.float64)[np.arange(9), codes[row]]
            want = entries.sum() + bases[q, int(row >= 40)] + constants[row]
            assert scores[q, i] == pytest.approx(want, rel=1e-5, abs=1e-5)
    assert (scores[:, 4] == 0).all()


def test_constant_tables_are_quantized_without_division_by_zero():
    tables = np.full((5, 16), 2.5, np.float32)
    levels, step, bias = quantized(tables, 16)
    assert (levels == 0).all()
    assert step == 0
    assert bias == pytest.approx(12.5)


def test_quantized_tables_are_within_half_a_step():
    tables = np.random.default_rng(0).normal(size=(7, 256)).astype(np.float32)
    levels, step, _ = quantized(tables, 256)
    error = levels * np.float64(step) + tables.min(axis=1, keepdims=True) - tables
    assert np.abs(error).max() <= step * 0.5001


@PROPERTY
@given(
    M=st.integers(1, 9), ksub=st.sampled_from([16, 256]), scale=st.sampled_from([1e-30, 1.0, 1e30]),
    middle=st.sampled_from([0, -100, 1e4]), seed=SEEDS,
)  # fmt: skip
def test_any_tables_are_quantized_to_the_nearest_level(M, ksub, scale, middle, seed):
    rng = np.random.default_rng(seed)
    tables = scale * (middle + rng.normal(size=(M, ksub)) * rng.choice([0, 1e-3, 1], (M, 1)))
    tables = tables.astype(np.float32)
    levels, step, bias = quantized(tables, ksub)
    exact, lowest = tables.astype(np.float64), tables.min(axis=1).astype(np.float64)
    assert step == pytest.approx(np.ptp(exact, axis=1).max() / 255, rel=1e-6)
    error = levels * np.float64(step) + lowest[:, None] - exact
    assert np.abs(error).max() <= step * 0.5001
    assert bias == pytest.approx(lowest.sum(), rel=1e-5, abs=1e-5 * np.abs(lowest).sum())


def choose(scores, live, nprobe, need):
    nq, nlist = scores.shape
    lists, counts = np.full((nq, nlist), -1), np.empty(nq, np.int64)
    choose_lists(
        scores, live, nprobe, need, np.arange(nlist), np.empty(nlist, np.float32), np.empty(nlist, np.int64),
        lists, counts,
    )  # fmt: skip
    return [row[:count].tolist() for row, count in zip(lists, counts, strict=True)]


def test_lists_are_chosen_and_extended_until_they_hold_enough():
    scores = np.array([[1.0, 5.0, 3.0, 3.0, 2.0]], np.float32)
    live = np.array([10, 1, 0, 4, 7])
    assert choose(scores, live, 2, 0) == [[1, 3]]  # nearest first; list 2 has no rows
    assert choose(scores, live, 2, 6) == [[1, 3, 4]]
    assert choose(scores, live, 2, 10**6) == [[1, 3, 4, 0]]
    assert choose(scores, live * 0, 2, 1) == [[]]
    assert sets(choose(scores * 0, live + 1, 3, 0)) == [{0, 1, 2}]  # ties go to the lower list


def sets(lists):
    assert all(len(set(row)) == len(row) for row in lists)
    return [set(row) for row in lists]


def assert_roughly_nearest_first(scores, lists):
    for q, row in enumerate(lists):
        found = scores[q, row].astype(np.float64)
        if len(row) and np.abs(found).max() < 1e38:  # else the span is infinite
            assert (found <= np.minimum.accumulate(found) + (found.max() - found.min()) / 60).all()


def chosen(scores, live, nprobe, need):
    wanted = []
    for row in scores:
        order = [l for l in np.argsort(-row, kind="stable").tolist() if live[l]]
        enough = 1 + int(np.searchsorted(np.cumsum(live[order]), need)) if order else 0
        wanted.append(order[: max(nprobe, enough)])
    return wanted


@PROPERTY
@given(nlist=st.integers(1, 200), nprobe=st.integers(1, 80), need=st.integers(0, 90), seed=SEEDS)
def test_the_lists_of_numpys_order_are_chosen(nlist, nprobe, need, seed):
    rng = np.random.default_rng(seed)
    scores = rng.choice([-np.inf, -3e38, -1, 0, 1, 3e38], (3, nlist)).astype(np.float32)
    live = rng.integers(0, 4, nlist) * rng.integers(0, 2, nlist)
    found = choose(scores, live, nprobe, need)
    assert sets(found) == sets(chosen(scores, live, nprobe, need))
    assert_roughly_nearest_first(scores, found)


@PROPERTY
@given(
    nq=st.integers(0, 9), d=st.integers(1, 40), nlist=st.integers(1, 150), nprobe=st.integers(1, 20),
    need=st.integers(0, 40), l2=st.booleans(), seed=SEEDS,
)  # fmt: skip
def test_probes_of_integers_are_exact(nq, d, nlist, nprobe, need, l2, seed):
    rng = np.random.default_rng(seed)
    queries, centroids, shift = (rng.integers(-3, 4, shape) for shape in ((nq, d), (nlist, d), d))
    live = rng.integers(0, 4, nlist)
    shifted = (centroids - l2 * shift).astype(np.float32)
    squares = np.square(shifted).sum(axis=1) if l2 else NOTHING
    exactly = ExactCentroids(gemm.pack(shifted), readonly(shift.astype(np.float32)), readonly(squares))
    coarse = Coarse(exactly, NOT_CODED, NOT_IN_BYTES, keys_of(nlist))
    lists, counts, scores = probe(readonly(queries.astype(np.float32)), coarse, live, nprobe, need)
    exact = -np.square(queries[:, None] - centroids).sum(axis=2) if l2 else queries @ centroids.T
    assert np.array_equal(scores, exact)
    found = [row[:count].tolist() for row, count in zip(lists, counts, strict=True)]
    assert sets(found) == sets(chosen(exact, live, nprobe, need))
    assert_roughly_nearest_first(exact, found)


@PROPERTY
@given(
    nq=st.integers(0, 5), d=st.integers(1, 40), nlist=st.integers(1, 150), far=st.sampled_from([0, 100]),
    l2=st.booleans(), seed=SEEDS,
)  # fmt: skip
def test_probes_in_bytes_score_nearly_exactly(nq, d, nlist, far, l2, seed):
    """The error is that of 8 bits of what is left of query and centroid once their mean is subtracted."""
    rng = np.random.default_rng(seed)
    centroids = (rng.normal(size=(nlist, d)) + far).astype(np.float32)
    queries = (rng.normal(size=(nq, d)) + far).astype(np.float32)
    coarse = coarse_of(centroids, l2, in_bytes=True)
    lists, counts, scores = probe(readonly(queries), coarse, np.ones(nlist, np.int64), nlist, 0)
    wide = queries.astype(np.float64)
    exact = -np.square(wide[:, None] - centroids).sum(axis=2) if l2 else wide @ centroids.T
    assert counts.tolist() == [nlist] * nq
    assert np.array_equal(np.sort(lists, axis=1), np.tile(np.arange(nlist), (nq, 1)))
    left, mean = centroids - centroids.mean(axis=0), centroids.mean(axis=0)
    sizes = np.abs(wide - mean).max(axis=1, initial=0)[:, None] * np.abs(left).max(axis=1, initial=0)
    assert (
        np.abs(scores - exact) <= 0.017 * (1 + l2) * d * sizes + 1e-5 * np.abs(exact) + 1e-6 * d * far * far + 1e-6
    ).all()


def coded(centroids):
    codebook = ProductCodebook.train(centroids, M=-(-centroids.shape[1] // 2), nbits=4)
    packed = scan4.pack(codebook.encode(centroids), np.array([0, len(centroids)]))
    return CodedCentroids(
        readonly(centroids.reshape(-1)), codebook.transposed, NO_CODES._replace(packed=readonly(packed))
    )


@PROPERTY
@given(
    nq=st.integers(0, 5), d=st.integers(1, 37), nlist=st.integers(1, 400), nprobe=st.integers(1, 60),
    need=st.integers(0, 400), share=st.sampled_from([0.02, 0.5, 1.0]), l2=st.booleans(), seed=SEEDS,
)  # fmt: skip
def test_probes_by_codes_find_nearly_the_nearest(nq, d, nlist, nprobe, need, share, l2, seed):
    rng = np.random.default_rng(seed)
    queries, centroids = rng.normal(size=(nq, d)).astype(np.float32), rng.normal(size=(nlist, d)).astype(np.float32)
    live = rng.integers(1, 9, nlist) * (rng.random(nlist) < share)
    squares = np.square(centroids).sum(axis=1) if l2 else NOTHING
    zero = readonly(np.zeros(d, np.float32))
    exactly = ExactCentroids(gemm.pack(centroids), zero, readonly(squares))
    coarse = Coarse(exactly, coded(centroids), NOT_IN_BYTES, keys_of(nlist))
    lists, counts, scores = probe(readonly(queries), coarse, live, nprobe, need)
    wide = queries.astype(np.float64)
    exact = -np.square(wide[:, None] - centroids).sum(axis=2) if l2 else wide @ centroids.T
    for q, best in enumerate(chosen(exact, live, nprobe, need)):
        found = lists[q, : counts[q]]
        assert len(set(found.tolist())) == len(found) == min(nprobe, np.count_nonzero(live)) or len(found) == len(best)
        assert (live[found] > 0).all()
        assert live[found].sum() >= min(need, live.sum())
        np.testing.assert_allclose(scores[q, found], exact[q, found], rtol=1e-4, atol=1e-3)
        assert len(set(found.tolist()) & set(best)) >= 0.8 * len(best) - 1
        assert_roughly_nearest_first(scores, [[]] * q + [found.tolist()])
