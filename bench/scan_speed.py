"""Measure the 4-bit scan alone: against what memory delivers, and against Faiss's fast scan.

One thread, one query at a time, k = 10, 64 codes (32 bytes) per vector, without lists and without rescoring. The scan
is measured once with codes that stay in the second-level cache, and once with codes that fit no cache. The script
needs the extra faiss.

    python bench/scan_speed.py [--json FILE]
"""

import sys
import time
from collections.abc import Callable

import faiss
import numpy as np
from figures import Figures, machine_line

from annvq.kernels.compile.jit import REASSOCIATE, kernel
from annvq.kernels.scan import scan4, topk
from annvq.kernels.scan.lists import PackedCodes, blocks_for
from annvq.kernels.scan.lookup_tables import quantize_lookup_tables

M, K, PASSES = 64, 10, 7
SIZES = {"in cache": 8_192, "beyond all caches": 8_000_000}


@kernel(fastmath=REASSOCIATE)
def read_all(words):
    """Sum all words, which reads memory as fast as one core can."""
    total = np.uint64(0)
    for word in words:
        total += word
    return total


def best_of(call: Callable[[], object], least_seconds: float = 0.2) -> float:
    """Return the least seconds of one call among passes of at least ``least_seconds``."""
    call()
    start = time.perf_counter()
    call()
    repeats = max(1, int(least_seconds / max(1e-7, time.perf_counter() - start)))
    passes = []
    for _ in range(PASSES):
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        passes.append((time.perf_counter() - start) / repeats)
    return min(passes)


def annvq_scan(codes: np.ndarray, tables: np.ndarray) -> Callable[[], object]:
    """Return a scan of all codes (n, M) for one query's tables (M, 16) into a pool."""
    n = len(codes)
    offsets = np.array([0, n])
    blocks = blocks_for(np.diff(offsets))
    nothing, everything, unmapped = (np.empty(0, dtype) for dtype in (np.float32, np.uint8, np.uint32))
    packed = PackedCodes(scan4.pack(codes, offsets), offsets, blocks, nothing, everything, unmapped, 0)
    pieces = np.array([[0, 0, 0, 0, n]])
    keys = np.arange(n)
    quantized = np.empty((1, scan4.groups_for(M) * 64), np.uint8)

    def scan() -> object:
        step, bias = (np.array([number], np.float32) for number in quantize_lookup_tables(tables, quantized[0]))
        pool = topk.empty_pools(1, topk.capacity_for(K))
        return scan4.scan_pieces(packed, pieces, bias, quantized, step, pool, K, keys)

    return scan


def faiss_scan(codes: np.ndarray) -> Callable[[], object]:
    """Return a search of a Faiss fast-scan index that has as many codes, for one query."""
    rng = np.random.default_rng(1)
    plain = faiss.IndexPQ(2 * M, M, 4)
    plain.do_polysemous_training = False
    plain.train(rng.normal(size=(2_000, 2 * M)).astype(np.float32))
    faiss.copy_array_to_vector((codes[:, ::2] | codes[:, 1::2] << 4).reshape(-1), plain.codes)
    plain.ntotal = len(codes)
    fast = faiss.IndexPQFastScan(plain)
    query = rng.normal(size=(1, 2 * M)).astype(np.float32)
    return lambda: fast.search(query, K)


def main() -> None:
    """Measure and print."""
    faiss.omp_set_num_threads(1)
    rng = np.random.default_rng(0)
    figures = Figures(
        "scan", ["codes", "MB", "scan GB/s", "memory read GB/s", "share of it", "Faiss GB/s", "times Faiss"]
    )
    for name, n in SIZES.items():
        codes = rng.integers(0, 16, (n, M), dtype=np.uint8)
        size = n * M / 2
        words = np.ones(int(size) // 8, np.uint64)
        ours = size / best_of(annvq_scan(codes, rng.normal(size=(M, 16)).astype(np.float32)))
        memory = size / best_of(lambda words=words: read_all(words))
        theirs = size / best_of(faiss_scan(codes))
        figures.add(name, size / 1e6, ours / 1e9, memory / 1e9, ours / memory, theirs / 1e9, ours / theirs)
    figures.show(machine_line(faiss=faiss.__version__), sys.argv[1:])


if __name__ == "__main__":
    main()
