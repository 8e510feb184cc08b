"""Compare exact search of packed bits with Faiss's IndexBinaryFlat and usearch, and the lists of all three libraries.

Bits are the signs of clustered Gaussian vectors; queries are rows of which a tenth of the bits is flipped. One thread;
every pass runs all engines in turn, and the median of the passes' ratios to annvq is reported. Exact answers must be
the same distances. Needs faiss-cpu and usearch.

    python bench/hamming_speed.py [--n 200000] [--bits 768]
"""

import argparse
import time
from collections.abc import Callable

import faiss
import numpy as np
from figures import machine_line
from usearch.index import Index as UsearchIndex
from usearch.index import search as usearch_search

import annvq

K, QUERIES, PASSES = 10, 256, 7
Search = Callable[[np.ndarray], np.ndarray]  # distances (nq, K) of packed queries


def data(n: int, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Return packed rows and queries."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(256, bits)).astype(np.float32)
    blocks = [
        centres[rng.integers(0, 256, min(65_536, n - start))]
        + rng.normal(size=(min(65_536, n - start), bits)).astype(np.float32)
        for start in range(0, n, 65_536)
    ]
    base = np.concatenate([np.packbits(block > 0, axis=1) for block in blocks])
    flips = np.packbits(rng.random((QUERIES, bits)) < 0.1, axis=1)
    return base, base[rng.choice(n, QUERIES, replace=False)] ^ flips


def exact(base: np.ndarray) -> dict[str, Search]:
    """Return exhaustive searches."""
    ours = annvq.build(base, "flat", metric="hamming")
    theirs = faiss.IndexBinaryFlat(8 * base.shape[1])
    theirs.add(base)
    return {
        "annvq flat": lambda q: -ours.search(q, K, threads=1).scores,
        "Faiss IndexBinaryFlat": lambda q: theirs.search(q, K)[0],
        "usearch exact": lambda q: usearch_search(base, q, K, "hamming", exact=True, threads=1).distances,
    }


def approximate(base: np.ndarray, nlist: int, nprobe: int) -> dict[str, Search]:
    """Return searches of some lists, and of usearch's graph."""
    ours = annvq.build(base, f"IVF{nlist},BFlat", metric="hamming")
    theirs = faiss.index_binary_factory(8 * base.shape[1], f"BIVF{nlist}")
    theirs.train(base[:: max(1, len(base) // 65_536)])
    theirs.add(base)
    theirs.nprobe = nprobe
    graph = UsearchIndex(ndim=8 * base.shape[1], metric="hamming", dtype="b1")
    graph.add(np.arange(len(base)), base, threads=0)
    return {
        f"annvq IVF{nlist}, nprobe {nprobe}": lambda q: -ours.search(q, K, nprobe=nprobe, threads=1).scores,
        f"Faiss BIVF{nlist}, nprobe {nprobe}": lambda q: theirs.search(q, K)[0],
        "usearch graph": lambda q: graph.search(q, K, threads=1).distances,
    }


def report(engines: dict[str, Search], queries: np.ndarray, truth: np.ndarray) -> None:
    """Print queries per second of a batch and of single queries, and recall by distances."""
    seconds = {name: ([], []) for name in engines}
    found = {name: np.asarray(search(queries), np.float32) for name, search in engines.items()}
    for _ in range(PASSES):
        for name, search in engines.items():
            start = time.perf_counter()
            search(queries)
            seconds[name][0].append(time.perf_counter() - start)
            start = time.perf_counter()
            for q in range(0, QUERIES, 8):
                search(queries[q : q + 1])
            seconds[name][1].append((time.perf_counter() - start) * 8)
    first = seconds[next(iter(engines))]
    for name, (batch, single) in seconds.items():
        recall = (found[name] <= truth[:, -1:]).mean()
        ratios = [np.median(np.divide(mine, ours)) for mine, ours in zip((batch, single), first, strict=True)]
        print(
            f"| {name} | {QUERIES / np.median(batch):,.0f} | {ratios[0]:.2f} | {QUERIES / np.median(single):,.0f} | "
            f"{ratios[1]:.2f} | {recall:.3f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare exact search of packed bits with Faiss and usearch.")
    parser.add_argument("--n", type=int, default=200_000)
    parser.add_argument("--bits", type=int, default=768)
    given = parser.parse_args()
    faiss.omp_set_num_threads(1)
    base, queries = data(given.n, given.bits)
    print(f"{machine_line()}\n\n{given.n:,} rows of {given.bits} bits, k = {K}, one thread\n")
    print("| engine | queries/s, batch | times annvq's time | queries/s, one by one | times annvq's time | recall@10 |")
    print("|---|---|---|---|---|---|")
    engines = exact(base)
    truth = np.asarray(engines["annvq flat"](queries), np.float32)
    for name, search in engines.items():
        if not np.array_equal(np.asarray(search(queries), np.float32), truth):
            raise SystemExit(f"{name} finds other distances")
    report(engines, queries, truth)
    report(approximate(base, 1024, 16), queries, truth)


if __name__ == "__main__":
    main()
