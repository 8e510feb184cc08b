"""Popcounts and products of bit planes against plain integers; the two-stage scan against all estimates."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annvq.kernels.codes import bits
from annvq.kernels.codes.rabitq import PreparedQueries
from annvq.kernels.scan import scanbits, topk

PROPERTY = settings(deadline=None, max_examples=25, derandomize=True)


def make_planes(rng, words):
    planes = np.zeros((4, bits.plane_words(64 * words)), np.uint64)
    planes[:, :words] = rng.integers(0, 2**64, (4, words), dtype=np.uint64)
    bits.pad_planes(planes, words)
    return planes


def differences(codes1, planes):
    words = codes1.shape[1] // 8
    counts = [
        np.unpackbits(codes1 ^ plane[:words].view(np.uint8), axis=1).sum(axis=1, dtype=np.int64) for plane in planes
    ]
    return sum(count << j for j, count in enumerate(counts))


def levels(codes1, codes_ex, B):
    n, width = codes1.shape
    planes = [codes1, *codes_ex.reshape(n, B - 1, width).transpose(1, 0, 2)]
    return sum(
        np.unpackbits(plane, axis=1, bitorder="little").astype(np.int64) << (B - 1 - i)
        for i, plane in enumerate(planes)
    )


@PROPERTY
@given(words=st.integers(1, 20), n=st.integers(0, 70), begin=st.integers(0, 70), seed=st.integers(0, 99))
def test_differences_are_exact(words, n, begin, seed):
    rng = np.random.default_rng(seed)
    begin = min(begin, n)
    codes1 = rng.integers(0, 256, (n, 8 * words), dtype=np.uint8)
    planes = make_planes(rng, words)
    counts = np.full(n - begin + 8, -1, np.int32)
    bits.count_differences(codes1, begin, n, planes, counts)
    np.testing.assert_array_equal(counts[: n - begin], differences(codes1[begin:], planes))
    written = -(-(n - begin) // 8) * 8
    assert (counts[written:] == -1).all()


@PROPERTY
@given(words=st.integers(1, 12), B=st.integers(1, 8), seed=st.integers(0, 99), extreme=st.booleans())
def test_inner_products_are_exact(words, B, seed, extreme):
    rng = np.random.default_rng(seed)
    D = 64 * words
    codes1 = rng.integers(0, 256, (3, D // 8), dtype=np.uint8)
    codes_ex = rng.integers(0, 256, (3, (B - 1) * D // 8), dtype=np.uint8)
    high, low = rng.integers(-127, 128, D).astype(np.int8), rng.integers(-128, 128, D).astype(np.int8)
    if extreme:
        codes1[:], codes_ex[:], high[:], low[:] = 255, 255, -127, -128
    wanted = levels(codes1, codes_ex, B) @ (256 * high.astype(np.int64) + low)
    got = [bits.inner_product(codes1, codes_ex, row, B, high.view(np.uint8), low.view(np.uint8)) for row in range(3)]
    np.testing.assert_array_equal(got, wanted)


def test_sums_fit_up_to_the_largest_dimension():
    D = 65_536
    codes1, codes_ex = np.full((1, D // 8), 255, np.uint8), np.full((1, 7 * D // 8), 255, np.uint8)
    high, low = np.full(D, -127, np.int8), np.full(D, -128, np.int8)
    got = bits.inner_product(codes1, codes_ex, 0, 8, high.view(np.uint8), low.view(np.uint8))
    assert got == D * 255 * (-127 * 256 - 128)


BEFORE_FORBIDDEN_MEMORY = """
import ctypes, mmap
import numpy as np
from annvq.kernels.codes import bits
pages = mmap.mmap(-1, 2 * mmap.PAGESIZE)
memory = np.frombuffer(pages, np.uint8)
assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(memory.ctypes.data + mmap.PAGESIZE), mmap.PAGESIZE, 0) == 0
for words in range(1, 18):
    query, planes = np.zeros(64 * words, np.uint8), np.zeros((4, bits.plane_words(64 * words)), np.uint64)
    for n in range(1, 11):
        codes1 = memory[mmap.PAGESIZE - 8 * words * n : mmap.PAGESIZE].reshape(n, 8 * words)
        bits.count_differences(codes1, 0, n, planes, np.empty(16, np.int32))
        bits.inner_product(codes1, codes1, n - 1, 2, query, query)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="protects memory as Linux does")
def test_nothing_is_read_beyond_the_codes():
    """A mapped file ends where its codes end: one byte further kills the process."""
    subprocess.run([sys.executable, "-c", BEFORE_FORBIDDEN_MEMORY], check=True)


class Segment:
    """Random codes, factors and one query, with all estimates and bounds in float64."""

    def __init__(self, n, words, B, seed=0):
        rng = np.random.default_rng(seed)
        D = 64 * words
        self.B, self.n = B, n
        self.codes1 = rng.integers(0, 256, (n, D // 8), dtype=np.uint8)
        self.codes_ex = rng.integers(0, 256, (n, (B - 1) * D // 8), dtype=np.uint8)
        self.factors = rng.uniform(0.1, 1, (n, 3 if B == 1 else 5)).astype(np.float32)
        self.planes = make_planes(rng, words)
        self.high, self.low = (rng.integers(-127, 128, D).astype(np.int8) for _ in range(2))
        self.query_factors = np.array([0.02, 0.5, 1e-5], np.float32)
        self.base, self.distance = np.float32(3.0), np.float32(2.0)
        level = 256 * self.high.astype(np.int64) + self.low
        self.total = int(level.sum())
        factors = self.factors.astype(np.float64)
        product1 = np.float64(self.query_factors[0]) * (15 * D - 2 * differences(self.codes1, self.planes))
        error = factors[:, 2] * self.distance * scanbits.margin(B)
        self.bounds = 3.0 + factors[:, 0] + factors[:, 1] * product1 + np.hypot(error, factors[:, 1] * 0.5)
        centered = 2 * (levels(self.codes1, self.codes_ex, B) @ level) - (2**B - 1) * self.total
        add, mul = (0, 1) if B == 1 else (3, 4)
        self.estimates = 3.0 + factors[:, add] + factors[:, mul] * np.float64(self.query_factors[2]) * centered
        self.scores = np.minimum(self.bounds, self.estimates)

    def scan(self, keep, cuts=(), allow=None, keys=None, row_base=0):
        keys = np.arange(self.n + row_base) if keys is None else keys
        allow = np.empty(0, np.uint8) if allow is None else allow
        capacity = topk.capacity_for(keep)
        pools = topk.empty_pools(1, capacity)
        floats = [np.full(scanbits.CHUNK, np.nan, np.float32) for _ in range(2)]
        scratch = scanbits.Scratch(np.empty(scanbits.CHUNK, np.int32), *floats)
        codes = scanbits.BitCodes(self.codes1, self.codes_ex, self.factors, np.array([0, self.n]), allow, row_base)
        queries = PreparedQueries(
            self.planes[None], self.high.view(np.uint8)[None], self.low.view(np.uint8)[None],
            self.query_factors[None], np.array([self.total]),
        )  # fmt: skip
        for begin, end in zip((0, *cuts), (*cuts, self.n)):
            scanbits.scan_rows(codes, begin, end, queries, 0, self.base, self.distance, scratch, pools, keep, keys)
        pool_scores, pool_rows, count = pools.scores[0], pools.rows[0], pools.counts[0]
        topk.sort(pool_scores, pool_rows, count, keys)
        return pool_scores[: min(count, keep)], pool_rows[: min(count, keep)]


@pytest.mark.parametrize("n", [0, 1, 31, 32, 33, 64, 65, 500])
@pytest.mark.parametrize("B", [1, 4])
def test_the_pool_holds_the_best_scores(n, B):
    segment = Segment(n, 3, B, seed=n)
    scores, rows = segment.scan(keep=10)
    assert len(rows) == min(n, 10)
    np.testing.assert_allclose(scores, np.sort(segment.scores)[::-1][:10], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(scores, segment.scores[rows], rtol=1e-5, atol=1e-4)
    assert len(set(rows.tolist())) == len(rows)


@pytest.mark.parametrize("words", [1, 2, 4, 5, 9])
def test_bounds_and_estimates_both_count(words):
    segment = Segment(300, words, 5, seed=words)
    assert 0 < np.mean(segment.bounds < segment.estimates) < 1
    scores, rows = segment.scan(keep=300)
    np.testing.assert_allclose(scores, segment.scores[rows], rtol=1e-5, atol=1e-4)
    assert sorted(rows) == list(range(300))


@PROPERTY
@given(
    n=st.integers(0, 140), words=st.integers(1, 9), B=st.integers(1, 8), keep=st.integers(1, 150),
    filtered=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_the_pool_is_the_head_of_numpys_order(n, words, B, keep, filtered, seed):
    segment = Segment(n, words, B, seed)
    allow = np.random.default_rng(seed).integers(0, 2, n).astype(np.uint8) if filtered else np.empty(0, np.uint8)
    scores, rows = segment.scan(keep, allow=allow, row_base=5)
    allowed = np.flatnonzero(allow) if filtered else np.arange(n)
    assert set(rows - 5) <= set(allowed)
    assert len(set(rows)) == len(rows) == min(keep, len(allowed))
    tolerance = {"rtol": 1e-5, "atol": 1e-5 * np.abs(segment.scores).max(initial=1)}
    np.testing.assert_allclose(scores, segment.scores[rows - 5], **tolerance)
    np.testing.assert_allclose(scores, -np.sort(-segment.scores[allowed])[:keep], **tolerance)


@PROPERTY
@given(cuts=st.lists(st.integers(0, 200), max_size=4).map(sorted), B=st.sampled_from([1, 2, 8]))
def test_the_result_does_not_depend_on_how_rows_are_split(cuts, B):
    segment = Segment(200, 2, B)
    whole, parts = segment.scan(keep=7), segment.scan(keep=7, cuts=cuts)
    np.testing.assert_array_equal(whole[0], parts[0])
    np.testing.assert_array_equal(whole[1], parts[1])


def test_only_allowed_rows_come_back():
    segment = Segment(150, 2, 3)
    allow = (np.arange(150) % 3 == 0).astype(np.uint8)
    _, rows = segment.scan(keep=20, allow=allow, row_base=1000)
    assert set(rows - 1000) == set(np.flatnonzero(allow)[np.argsort(-segment.scores[allow == 1])[:20]])


def test_ties_go_to_the_lower_key():
    segment = Segment(100, 2, 3)
    for array in (segment.codes1, segment.codes_ex, segment.factors):
        array[:] = array[0]
    keys = np.random.default_rng(0).permutation(100)
    _, rows = segment.scan(keep=10, keys=keys)
    np.testing.assert_array_equal(keys[rows], np.arange(10))
