"""The packed scans against plain NumPy."""

import numpy as np
import pytest

from annvq.kernels import scan4, scan8, topk
from annvq.kernels.coarse import choose_lists

NOTHING, EVERYTHING = np.empty(0, np.float32), np.empty(0, np.uint8)
SCANS = {4: (scan4, 16), 8: (scan8, 256)}


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
    step, bias = scan4.quantize_tables(tables, out)
    return out[: len(tables) * ksub].reshape(len(tables), ksub), np.float32(step), np.float32(bias)


def run(nbits, codes, offsets, tables, keep, *, bases=None, constants=NOTHING, allow=EVERYTHING, parts=1, keys=None):
    scan = SCANS[nbits][0]
    nq, nlist = len(tables), len(offsets) - 1
    packed = scan.pack(codes, offsets)
    keys = np.arange(len(codes)) if keys is None else keys
    bases = np.empty((nq, 0), np.float32) if bases is None else bases
    lists, counts = np.tile(np.arange(nlist), (nq, 1)), np.full(nq, nlist)
    pool = (
        np.empty((nq, topk.capacity_for(keep)), np.float32),
        np.empty((nq, topk.capacity_for(keep)), np.int64),
        np.zeros(nq, np.int64),
        np.full(nq, -np.inf, np.float32),
    )
    blocks = scan4.blocks_for(np.diff(offsets))
    for part in range(parts):
        scan.scan_lists(
            tables, packed, offsets, blocks, lists, counts, bases, constants, allow, part, parts, 0, *pool, keep, keys
        )
    scores, rows = np.empty((nq, keep), np.float32), np.empty((nq, keep), np.int64)
    topk.take_best(*pool[:3], keep, keys, scores, rows)
    return scores, rows


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
    scan.rescore(
        tables, scan.pack(codes, offsets), offsets, scan4.blocks_for(sizes), bases, constants, 0, scores, rows,
        np.array([5, 5]),
    )  # fmt: skip
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


def choose(scores, live, nprobe, need):
    nq, nlist = scores.shape
    lists, counts = np.full((nq, nlist), -1), np.empty(nq, np.int64)
    choose_lists(
        scores, live, nprobe, need, np.arange(nlist), np.empty(nlist, np.float32), np.empty(nlist, np.int64),
        lists, counts,
    )  # fmt: skip
    return [row[:count].tolist() for row, count in zip(lists, counts, strict=True)]


def test_lists_are_chosen_nearest_first_and_extended_until_they_hold_enough():
    scores = np.array([[1.0, 5.0, 3.0, 3.0, 2.0]], np.float32)
    live = np.array([10, 1, 0, 4, 7])
    assert choose(scores, live, 2, 0) == [[1, 3]]  # list 2 has no rows
    assert choose(scores, live, 2, 6) == [[1, 3, 4]]
    assert choose(scores, live, 2, 10**6) == [[1, 3, 4, 0]]
    assert choose(scores, live * 0, 2, 1) == [[]]
    assert choose(scores * 0, live + 1, 3, 0) == [[0, 1, 2]]  # ties go to the lower list
