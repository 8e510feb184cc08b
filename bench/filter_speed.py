"""Measure what filters cost a single query: masks, ids and expressions, given anew or prepared once.

One thread, one query per call, k = 10; 1,000,000 synthetic vectors of 64 dimensions in as many lists as "fast" makes,
and the same filter for every query. The table has median microseconds per query for every share of rows that pass; the
column "of which preparing" is the part of a mask's time in which it is brought into the order of the lists and the rows
of every list are counted.

    python bench/filter_speed.py [--n N] [--json FILE]
"""

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from figures import Figures, machine_line

import annvq
from annvq.index.filters.given import Filter

D, K, QUERIES, PASSES = 64, 10, 100, 5
SHARES = (1.0, 0.5, 0.1, 0.01, 0.001)


def made(n: int, seed: int) -> np.ndarray:
    """Return n vectors (n, D) around some thousand centres, float32."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(4000, D)).astype(np.float32)
    return centres[rng.integers(0, len(centres), n)] + rng.normal(size=(n, D)).astype(np.float32)


def microseconds(call: Callable[[np.ndarray], Any], queries: np.ndarray) -> float:
    """Return the median of some calls for each query, one query per call."""
    call(queries[0])
    spent = []
    for _ in range(PASSES):
        for query in queries:
            start = time.perf_counter()
            call(query)
            spent.append(time.perf_counter() - start)
    return 1e6 * float(np.median(spent))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=1_000_000)
    options, rest = parser.parse_known_args()
    n = options.n
    order = np.random.default_rng(1).permutation(n)
    index = annvq.build(made(n, 2), "fast", metric="l2", attributes=pa.table({"number": order}), seed=0)
    queries = made(QUERIES, 3)
    figures = Figures(
        f"filters, {n:,} x {D}, microseconds per query",
        ["share", "no filter", "mask", "of which preparing", "prepared mask", "ids", "prepared ids", "expression",
         "prepared expression"],
    )  # fmt: skip
    whole = index.rows.current.snapshot
    for share in SHARES:
        below = round(share * n)
        mask, ids, expression = order < below, np.flatnonzero(order < below), pc.field("number") < below

        def searched(given: Any, some: int = QUERIES) -> float:
            return microseconds(lambda query: index.search(query, K, filter=given, threads=1), queries[:some])

        ready = microseconds(
            lambda query, mask=mask: Filter.parse(mask, whole).narrowed(whole).searchable_per_list, queries
        )
        prepared = [searched(index.prepare_filter(given)) for given in (mask, ids, expression)]
        figures.add(
            share, searched(None), searched(mask), ready, prepared[0], searched(ids, 5), prepared[1],
            searched(expression, 5), prepared[2],
        )  # fmt: skip
    figures.show(machine_line(), rest)


if __name__ == "__main__":
    sys.exit(main())
