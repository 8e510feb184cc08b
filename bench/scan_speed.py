"""Measure scans alone: against what one core's memory and registers deliver, and against Faiss.

One thread, one query at a time, k = 10, without lists and without rescoring. Each scan is measured once with codes that
stay in the second-level cache, and once with codes that fit no cache. Memory's rate is that of summing the words of as
many bytes; the rate of look-ups and of products is that of a loop that does nothing else, over bytes in the first-level
cache. All are measured in turn, in CPU time, and medians are compared. The script needs the extra faiss.

    python bench/scan_speed.py [--json FILE]
    ANNVQ_ISA=avx2 FAISS_SIMD_LEVEL=AVX2 python bench/scan_speed.py     # both without AVX-512
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import faiss
import numpy as np
from figures import Figures, machine_line

from annvq.kernels.compile.jit import kernel
from annvq.kernels.registers import simd
from annvq.kernels.scan import scan4, scanscalar, topk
from annvq.kernels.scan.lists import PackedCodes, blocks_for
from annvq.kernels.scan.lookup_tables import quantize_lookup_tables
from annvq.kernels.vectors.dots import Store

K, PASSES = 10, 9
SMALL, LARGE = 1_048_576, 256_000_000  # bytes of codes: in cache, and beyond all caches
NEAR = 8_192  # bytes that stay in the first-level cache
NOTHING = np.empty(0, np.uint8)


@kernel
def read_all(words, sums):
    """Sum all words, (n,) int32, and fetch them in advance, which reads memory as fast as one core can."""
    a, b, c, e = simd.zero_i32x16(), simd.zero_i32x16(), simd.zero_i32x16(), simd.zero_i32x16()
    for i in range(0, words.size // 64 * 64, 64):
        for line in range(i, i + 64, 16):
            simd.prefetch(words, line + 1024)
        a = simd.add_i32(a, simd.load_i32x16(words, i))
        b = simd.add_i32(b, simd.load_i32x16(words, i + 16))
        c = simd.add_i32(c, simd.load_i32x16(words, i + 32))
        e = simd.add_i32(e, simd.load_i32x16(words, i + 48))
    simd.store_sums4(sums, 0, a, b, c, e)


@kernel
def look_up_all(codes, tables, repeats, sums):
    """Look the codes of blocks up, and add the entries, ``repeats`` times; ``sums`` (32,) float32 is the output."""
    groups = tables.size // 64
    low, high = simd.zero_i32x16(), simd.zero_i32x16()
    for _ in range(repeats):
        for block in range(0, codes.size, groups * 64):
            first, second = scan4.sum_block(codes, block, groups, tables, 0)
            low, high = simd.add_i32(low, first), simd.add_i32(high, second)
    simd.store_f32x16(sums, 0, simd.to_f32(low))
    simd.store_f32x16(sums, 16, simd.to_f32(high))


@kernel
def multiply_all(codes, levels, repeats, sums):
    """Multiply codes with levels and add the products, ``repeats`` times; ``sums`` (4,) int32 is the output."""
    a, b, c, e = simd.zero_i32x16(), simd.zero_i32x16(), simd.zero_i32x16(), simd.zero_i32x16()
    level = simd.load_u8x64(levels, 0)
    for _ in range(repeats):
        for i in range(0, codes.size, 256):
            a = simd.dot4_u8i8(a, simd.load_u8x64(codes, i), level)
            b = simd.dot4_u8i8(b, simd.load_u8x64(codes, i + 64), level)
            c = simd.dot4_u8i8(c, simd.load_u8x64(codes, i + 128), level)
            e = simd.dot4_u8i8(e, simd.load_u8x64(codes, i + 192), level)
    simd.store_sums4(sums, 0, a, b, c, e)


def medians(calls: Sequence[Callable[[], object]], least_seconds: float = 0.1) -> list[float]:
    """Return the median CPU seconds of each call; passes of at least ``least_seconds`` each are made in turn."""
    repeats = []
    for call in calls:
        call()
        start = time.process_time()
        call()
        repeats.append(max(1, int(least_seconds / max(1e-7, time.process_time() - start))))
    passes = np.empty((PASSES, len(calls)))
    for i in range(PASSES):
        for j, call in enumerate(calls):
            start = time.process_time()
            for _ in range(repeats[j]):
                call()
            passes[i, j] = (time.process_time() - start) / repeats[j]
    return np.median(passes, axis=0).tolist()


@dataclass
class Scan:
    """A scan of codes of ``row`` bytes per vector, each of which takes ``operations``."""

    name: str
    row: int
    operations: int
    annvq: Callable[[np.ndarray], Callable[[], object]]  # makes a scan of codes (n, row) uint8
    faiss: Callable[[np.ndarray], Callable[[], object]]
    loop: Callable[[int], object]  # does the same operations with bytes at hand, as often as it is told


def product_codes(M: int) -> Scan:
    """Return the scan of 4-bit product codes of M sub-spaces."""
    rng = np.random.default_rng(1)
    tables = rng.normal(size=(M, 16)).astype(np.float32)
    quantized = np.empty((1, scan4.groups_for(M) * 64), np.uint8)

    def annvq_scan(rows: np.ndarray) -> Callable[[], object]:
        n = len(rows)
        offsets = np.array([0, n])
        constants, unmapped = np.empty(0, np.float32), np.empty(0, np.uint32)
        blocks = blocks_for(np.diff(offsets))
        packed = PackedCodes(rows.reshape(-1), offsets, blocks, constants, NOTHING, unmapped, 0)
        pieces, keys = np.array([[0, 0, 0, 0, n]]), np.arange(n)

        def scan() -> object:
            step, bias = (np.array([number], np.float32) for number in quantize_lookup_tables(tables, quantized[0]))
            pool = topk.empty_pools(1, topk.capacity_for(K))
            return scan4.scan_pieces(packed, pieces, bias, quantized, step, pool, K, keys)

        return scan

    def faiss_scan(rows: np.ndarray) -> Callable[[], object]:
        plain = faiss.IndexPQ(2 * M, M, 4)
        plain.do_polysemous_training = False
        plain.train(rng.normal(size=(2_000, 2 * M)).astype(np.float32))
        faiss.copy_array_to_vector(rows.reshape(-1), plain.codes)
        plain.ntotal = len(rows)
        fast = faiss.IndexPQFastScan(plain)
        query = rng.normal(size=(1, 2 * M)).astype(np.float32)
        return lambda: fast.search(query, K)

    near, sums = rng.integers(0, 256, NEAR // (16 * M) * 16 * M, np.uint8), np.empty(32, np.float32)
    return Scan(
        f"4 bits, {M} sub-spaces", M // 2, M, annvq_scan, faiss_scan,
        lambda repeats: look_up_all(near, quantized[0], repeats, sums),
    )  # fmt: skip


def scalar_codes(d: int, *, l2: bool) -> Scan:
    """Return the scan of 8-bit scalar codes of d dimensions, a multiple of 64."""
    rng = np.random.default_rng(2)
    minimum, step = np.full(d, -4, np.float32), np.full(d, 8 / 255, np.float32)
    query = rng.normal(size=(1, d)).astype(np.float32)

    def annvq_scan(rows: np.ndarray) -> Callable[[], object]:
        n = len(rows)
        store, norms, keys = Store(rows.reshape(-1), d, minimum, step), np.zeros(n, np.float32), np.arange(n)

        def scan() -> object:
            pool = topk.empty_pools(1, topk.capacity_for(K))
            return scanscalar.scan_all(query, store, norms, l2, 0, n, NOTHING, 0, pool, K, keys)

        return scan

    def faiss_scan(rows: np.ndarray) -> Callable[[], object]:
        metric = faiss.METRIC_L2 if l2 else faiss.METRIC_INNER_PRODUCT
        index = faiss.IndexScalarQuantizer(d, faiss.ScalarQuantizer.QT_8bit, metric)
        index.train(np.stack([minimum, minimum + 255 * step]))
        faiss.copy_array_to_vector(rows.reshape(-1), index.codes)
        index.ntotal = len(rows)
        return lambda: index.search(query, K)

    near, sums = rng.integers(0, 256, NEAR, np.uint8), np.empty(4, np.int32)
    levels = rng.integers(0, 256, 64, np.uint8)
    return Scan(
        f"SQ8, {d} dimensions, {'L2' if l2 else 'inner product'}", d, d, annvq_scan, faiss_scan,
        lambda repeats: multiply_all(near, levels, repeats, sums),
    )  # fmt: skip


def random_rows(n: int, row: int) -> np.ndarray:
    """Return n rows of bytes, sums of three draws like the codes of numbers; large ones repeat."""
    drawn = np.random.default_rng(0).integers(0, 86, (3, min(n * row, 1 << 24)), np.uint8).sum(axis=0, dtype=np.uint8)
    return np.resize(drawn, (n, row))


def main() -> None:
    """Measure and print."""
    faiss.omp_set_num_threads(1)
    figures = Figures(
        "scans",
        ["scan", "MB", "bytes per vector", "operations per vector", "scan GB/s", "memory GB/s", "loop GB/s", "share",
         "Faiss GB/s", "times Faiss"],
    )  # fmt: skip
    scans = [product_codes(64), product_codes(192), scalar_codes(384, l2=False), scalar_codes(384, l2=True)]
    for scan in scans:
        for size in (SMALL, LARGE):
            n = size // scan.row // 32 * 32
            rows = random_rows(n, scan.row)
            words, sums = np.ones(rows.size // 4, np.int32), np.empty(4, np.int32)
            calls = [scan.annvq(rows), partial(read_all, words, sums), partial(scan.loop, 100), scan.faiss(rows)]
            ours, memory, loop, theirs = medians(calls)
            ours, memory, theirs = (rows.size / seconds / 1e9 for seconds in (ours, memory, theirs))
            loop = 100 * NEAR / loop / 1e9
            share = ours / min(memory, loop)
            figures.add(
                scan.name, rows.size / 1e6, scan.row, scan.operations, ours, memory, loop, share, theirs, ours / theirs
            )
    figures.show(machine_line(faiss=faiss.__version__), sys.argv[1:])


if __name__ == "__main__":
    main()
