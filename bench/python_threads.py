"""Measure Python threads that search one index, one query per call, beside batches.

Rates are medians of short windows, which take turns, so that what else the machine does slows all of them alike.

    python bench/python_threads.py DATA.npz RECIPE NPROBE RERANK [--json FILE]
"""

import sys
import threading
import time
from collections.abc import Callable
from statistics import median

import numpy as np
from figures import Figures, machine_line

import annvq

K, SECONDS, ROUNDS = 10, 0.25, 11
AT_ONCE = 25  # queries between two looks at the clock


def rate_of(threads: int, work: Callable[[int], int]) -> float:
    """Return the queries per second of some threads that each repeat ``work``, which returns its number of queries."""
    counts = [0] * threads
    ready = threading.Barrier(threads + 1)
    end = [0.0]

    def repeat(place: int) -> None:
        ready.wait()
        while time.perf_counter() < end[0]:
            counts[place] += work(counts[place])

    workers = [threading.Thread(target=repeat, args=(place,)) for place in range(threads)]
    for worker in workers:
        worker.start()
    end[0] = time.perf_counter() + SECONDS
    start = time.perf_counter()
    ready.wait()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.perf_counter() - start)


def main() -> None:
    """Measure and print."""
    path, recipe, nprobe, rerank = sys.argv[1:5]
    data = np.load(path)
    base, queries = data["base"].astype(np.float32), data["query"][:1000].astype(np.float32)
    index = annvq.build(base, recipe, metric=str(data["metric"]))
    options = {"nprobe": int(nprobe), "rerank": int(rerank)}

    def batch(threads: int) -> Callable[[int], int]:
        return lambda done: len(index.search(queries, K, threads=threads, **options).ids)

    def singles(done: int) -> int:
        start = done % (len(queries) - AT_ONCE + 1)
        for query in queries[start : start + AT_ONCE]:
            index.search(query, K, threads=1, **options)
        return AT_ONCE

    measured = {
        f"{threads} Python thread{'s' if threads > 1 else ''}, one query per call": (threads, singles)
        for threads in (1, 2, 4, 8)
    } | {
        "one call, threads=1": (1, batch(1)),
        "one call, threads=2": (1, batch(2)),
        "8 Python threads, batches, threads=1": (8, batch(1)),
    }
    rates: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(ROUNDS):
        for name, (threads, work) in measured.items():
            rates[name].append(rate_of(threads, work))
    one = median(next(iter(rates.values())))
    title = f"Python threads, {len(base):,} x {base.shape[1]}, {recipe}, {nprobe} lists, {rerank} rows re-ranked"
    figures = Figures(title, ["how", "queries/s", "times one Python thread"])
    for name, measured_rates in rates.items():
        figures.add(name, median(measured_rates), median(measured_rates) / one)
    figures.show(machine_line(annvq=annvq.__version__), sys.argv[5:])


if __name__ == "__main__":
    main()
