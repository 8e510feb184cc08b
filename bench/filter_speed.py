"""Measure what filters cost a single query, and what recall is left: masks, ids, expressions, conditions on columns.

One thread, one query a call, k = 10; n = 1,000,000 made vectors of d = 64 in as many lists as "fast" makes, and the
same filter for every query. For every share of rows that pass: recall at 10 among them, microseconds a query (medians)
without a filter, with a prepared one, and with filters that are given anew in every call, on a column of integers,
strings, lists and JSON, as ids, mask and expression; and which strategy the search chose. A second table has the
seconds that the first condition on a column takes.

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
from annvq.evaluation import recall
from annvq.evaluation.exact import exact_neighbors

D, K, QUERIES, PASSES = 64, 10, 100, 3
SHARES = (1.0, 0.5, 0.1, 0.03, 0.01, 0.001, 0.0001, 0.00001)


def made(n: int, seed: int) -> np.ndarray:
    """Return n vectors (n, D) around some thousand centres, float32."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(4000, D)).astype(np.float32)
    return centres[rng.integers(0, len(centres), n)] + rng.normal(size=(n, D)).astype(np.float32)


def columns(order: np.ndarray) -> pa.Table:
    """Return a number from 0 to n - 1 for every row in four forms; lists name the shares that the row belongs to."""
    n = len(order)
    shares = [[name for name, below in named(n) if number < below] for number in range(n)]
    return pa.table(
        {
            "number": order,
            "text": [f"{number:09d}" for number in order],
            "list": [shares[number] for number in order],
            "json": [f'{{"number": {number}, "source": "page {number % 977}"}}' for number in order],
        }
    )


def named(n: int) -> list[tuple[str, int]]:
    """Return the name of every share, and the number that is above all of its rows'."""
    return [(f"share {share}", round(share * n)) for share in SHARES]


def conditions(name: str, below: int) -> dict[str, dict[str, Any]]:
    """Return a filter on every column that the same rows pass."""
    return {
        "number": {"number": {"$lt": below}},
        "text": {"text": {"$lt": f"{below:09d}"}},
        "list": {"list": {"$contains": name}},
        "json": {"json.number": {"$lt": below}},
    }


def microseconds(call: Callable[[np.ndarray], Any], queries: np.ndarray) -> float:
    """Return the median of some calls for each query, one query a call."""
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
    vectors, queries = made(n, 2), made(QUERIES, 3)
    index = annvq.build(vectors, "fast", metric="l2", attributes=columns(order), seed=0)

    first = Figures(f"first condition on a column, {n:,} rows", ["column", "seconds, first", "microseconds, then"])
    for column, given in conditions(named(n)[-1][0], 10).items():
        start = time.perf_counter()
        index.prepare_filter(given)
        spent = time.perf_counter() - start
        first.add(column, spent, microseconds(lambda _, given=given: index.prepare_filter(given), queries))
    first.show(machine_line(), [])

    kinds = ["number", "text", "list", "json", "ids", "mask", "expression"]
    figures = Figures(
        f"filters, {n:,} x {D}, microseconds a query", ["share", "recall", "strategy", "no filter", "prepared", *kinds]
    )
    for name, below in named(n):
        given = {**conditions(name, below), "ids": np.flatnonzero(order < below), "mask": order < below,
                 "expression": pc.field("number") < below}  # fmt: skip

        def searched(given: Any, some: int = QUERIES) -> float:
            return microseconds(lambda query: index.search(query, K, filter=given, threads=1), queries[:some])

        rows = given["ids"]
        truth = rows[exact_neighbors(vectors[rows], queries, min(K, len(rows)), "l2")[0]]
        prepared = index.prepare_filter(given["number"])
        hits = index.search(queries, K, filter=prepared, explain=True)
        figures.add(
            name.removeprefix("share "), recall(hits.ids, truth), hits.explain.strategy, searched(None),
            searched(prepared), *(searched(given[kind], 20 if kind in ("ids", "expression") else 50) for kind in kinds),
        )  # fmt: skip
    figures.show(machine_line(), rest)


if __name__ == "__main__":
    sys.exit(main())
