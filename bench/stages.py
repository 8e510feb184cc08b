"""Measure each stage of a search alone: what it reads, how long it takes, at what rate.

Recipe fast, one thread, 1,000 queries. Each stage runs over all queries in one compiled loop, so that its data are as
near as the caches allow. A whole search takes more than the sum of the stages, because these evict each other's data
from the caches.

    python bench/stages.py DATA.npz NPROBE RERANK [--json FILE]
"""

import sys
import time
from collections.abc import Callable

import numpy as np
from figures import Figures, machine_line

import annvq
from annvq.kernels.compile.jit import kernel
from annvq.kernels.scan import coarse, pipeline, scan4, topk
from annvq.kernels.scan import lookup_tables as tables
from annvq.kernels.scan.lists import Visits
from annvq.kernels.vectors import lvq

K, QUERIES, PASSES = 10, 1000, 5


@kernel
def rotate(queries, turning, out):
    """Rotate queries one by one."""
    for q in range(queries.shape[0]):
        pipeline.turn(queries[q : q + 1], turning, out[q : q + 1])


@kernel
def probe(queries, chosen, live, nprobe, lists, counts, scores):
    """Choose lists of queries one by one."""
    for q in range(queries.shape[0]):
        found, count, of_lists = coarse.probe(queries[q : q + 1], chosen, live, nprobe, 1)
        lists[q], counts[q], scores[q] = found[0], count[0], of_lists[0]


@kernel
def make_tables(queries, transposed, out):
    """Make tables of queries one by one."""
    for q in range(queries.shape[0]):
        tables.fill_lookup_tables(queries[q : q + 1], transposed, False, out[q : q + 1])


@kernel
def of_query(pools, q):
    """Return the pool of one query."""
    some = slice(q, q + 1)
    return topk.Candidates(pools.scores[some], pools.rows[some], pools.counts[some], pools.thresholds[some])


@kernel
def scan(of_queries, bases, codes, lists, counts, pools, reach, keys):
    """Scan the lists of queries one by one."""
    for q in range(of_queries.shape[0]):
        some = slice(q, q + 1)
        visits = Visits(lists[some], counts[some], 0, 1)
        scan4.scan_lists(of_queries[some], bases[some], codes, visits, of_query(pools, q), reach, keys)


@kernel
def propose(queries, rows, l2, pools, keys):
    """Score the pools of queries by the first level of their codes, and keep the finalists, one query by one."""
    for q in range(queries.shape[0]):
        pool = of_query(pools, q)
        lvq.propose(queries[q : q + 1], rows, l2, 0, pool)
        topk.cut_pools(pool, lvq.finalists(K), keys)


@kernel
def rescore(queries, rows, l2, pools):
    """Score the finalists of queries by all that is stored, one query by one."""
    for q in range(queries.shape[0]):
        lvq.rescore(queries[q : q + 1], rows, l2, 0, of_query(pools, q))


def seconds(call: Callable[[], object], before: Callable[[], object] = lambda: None) -> float:
    """Return the least seconds per query of some passes; ``before`` each is not counted."""
    passes = []
    for _ in range(PASSES):
        before()
        start = time.perf_counter()
        call()
        passes.append(time.perf_counter() - start)
    return min(passes) / QUERIES


def main() -> None:
    """Measure and print."""
    data, nprobe, rerank = np.load(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    queries = np.ascontiguousarray(data["query"][:QUERIES].astype(np.float32))
    index = annvq.build(data["base"].astype(np.float32), "fast", metric=str(data["metric"]))
    version = index.rows.current
    trained, snapshot, fused = version.trained, version.snapshot, version.view.fused
    segment, keys, chosen = snapshot.segments[0], snapshot.keys, trained.coarse
    width, M = trained.rotation.dim_out, trained.codebook.M
    figures = Figures(
        f"stages, {segment.n:,} x {trained.dim}, {nprobe} of {trained.nlist} lists, {rerank} rescored",
        ["stage", "KB read per query", "us per query", "GB/s"],
    )

    def add(stage: str, size: float, call: Callable[[], object], before: Callable[[], object] = lambda: None) -> None:
        spent = seconds(call, before)
        figures.add(stage, size / 1e3, 1e6 * spent, size / spent / 1e9)

    rotated = np.empty((QUERIES, width), np.float32)
    turning = trained.turning
    add(f"rotation to {width}", turning.matrix.panels.nbytes, lambda: rotate(queries, turning, rotated))
    lists, counts = np.empty((QUERIES, trained.nlist), np.int64), np.empty(QUERIES, np.int64)
    bases = np.empty((QUERIES, trained.nlist), np.float32)
    live = snapshot.searchable_per_list
    is_coded = chosen.coded.codes.packed.size > 0
    read = chosen.bytes.matrix.panels.nbytes
    if is_coded:
        read = chosen.coded.codes.packed.nbytes + 4 * width * (nprobe * 1.25 + 32)
    add(
        "choice of lists",
        read,
        lambda: probe(rotated, chosen, live, nprobe, lists, counts, bases),
    )
    transposed = trained.codebook.transposed
    parts = np.zeros((QUERIES, transposed.shape[0] * transposed.shape[1]), np.float32)
    parts[:, :width] = rotated * np.float32(2 if trained.l2 else 1)
    of_queries = np.empty((QUERIES, M, 16), np.float32)
    add("tables", transposed.nbytes, lambda: make_tables(parts, transposed, of_queries))
    copies = trained.codes.copies
    pools = topk.empty_pools(QUERIES, topk.capacity_for(rerank * copies))

    def empty() -> None:
        pools.counts[:], pools.thresholds[:] = 0, -np.inf

    def scan_all() -> None:
        for codes in (trained.codes.packed(segment), trained.codes.spilled(segment))[:copies]:
            scan(of_queries, bases, codes, lists, counts, pools, rerank * copies, keys)

    rows = np.mean([live[found[:count]].sum() for found, count in zip(lists, counts, strict=True)])
    add(f"scan of {copies * rows:,.0f} codes", copies * rows * M / 2, scan_all, empty)
    kept = tuple(array.copy() for array in pools)

    def refill() -> None:
        for array, old in zip(pools, kept, strict=True):  # whatever was kept last
            array[:] = old

    def shrink() -> None:
        if copies == 2:
            topk.drop_repeats(pools)
        topk.cut_pools(pools, rerank, keys)

    add("pools", 0.0, shrink, refill)
    local, l2 = trained.refine.refined(segment).local, trained.l2
    kept = tuple(array.copy() for array in pools)
    size = rerank * (local.head + local.d)
    add(f"scoring {rerank} by 8 bits", size, lambda: propose(queries, local, l2, pools, keys), refill)
    left = int(pools.counts[0])
    add(f"scoring {left} by 16 bits", left * local.d, lambda: rescore(queries, local, l2, pools))
    best, best_rows = np.empty((QUERIES, K), np.float32), np.empty((QUERIES, K), np.int64)
    add("sorting", 0.0, lambda: topk.take_best(pools, K, keys, best, best_rows))

    def one_call_each() -> None:
        for query in queries:
            index.search(query, K, nprobe=nprobe, rerank=rerank, threads=1)

    capacity = topk.capacity_for(rerank * copies)
    all_at_once = (*fused.search.plan, K, rerank, capacity, nprobe, K, np.float32(0), best, best_rows)
    add("all of them, in one kernel", 0.0, lambda: fused.search.kernel(queries, *all_at_once))
    add("a search from Python", 0.0, one_call_each)
    figures.show(machine_line(annvq=annvq.__version__), sys.argv[4:])


if __name__ == "__main__":
    main()
