"""Measure Python threads that search one index, one query per call, beside one call with as many threads as cores.

python bench/python_threads.py DATA.npz [--json FILE]
"""

import sys
import threading
import time
from collections.abc import Callable

import numpy as np
from figures import Figures, machine_line

import annvq

RECIPE, K, NPROBE, RERANK = "fast", 10, 32, 100
SECONDS = 3.0


def rate_of(threads: int, work: Callable[[], int]) -> float:
    """Return the queries per second of some threads that each repeat ``work``, which returns its number of queries."""
    counts = [0] * threads
    begin, stop = threading.Event(), threading.Event()

    def repeat(place: int) -> None:
        begin.wait()
        while not stop.is_set():
            counts[place] += work()

    workers = [threading.Thread(target=repeat, args=(place,)) for place in range(threads)]
    for worker in workers:
        worker.start()
    start = time.perf_counter()
    begin.set()
    time.sleep(SECONDS)
    stop.set()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.perf_counter() - start)


def main() -> None:
    """Measure and print."""
    data = np.load(sys.argv[1])
    base, queries = data["base"].astype(np.float32), data["query"][:1000].astype(np.float32)
    index = annvq.build(base, RECIPE, metric=str(data["metric"]))
    options = {"nprobe": NPROBE, "rerank": RERANK}

    def batch(threads: int) -> Callable[[], int]:
        return lambda: len(index.search(queries, K, threads=threads, **options).ids)

    def singles() -> int:
        for query in queries:
            index.search(query, K, threads=1, **options)
        return len(queries)

    batch(2)(), singles()
    one = rate_of(1, batch(1))
    figures = Figures(f"Python threads, {len(base):,} x {base.shape[1]}", ["how", "queries/s", "times one thread"])
    for name, threads, work in (
        ("one call, threads=1", 1, batch(1)),
        ("one call, threads=2", 1, batch(2)),
        ("1 Python thread, one query per call", 1, singles),
        ("2 Python threads, one query per call", 2, singles),
        ("8 Python threads, one query per call", 8, singles),
        ("8 Python threads, batches, threads=1", 8, batch(1)),
    ):
        rate = rate_of(threads, work)
        figures.add(name, rate, rate / one)
    figures.show(machine_line(annvq=annvq.__version__), sys.argv[2:])


if __name__ == "__main__":
    main()
