"""How long rows take to be changed and read, in an opened index: upsert, the search after it, get, attributes.

    python bench/rows_speed.py [--rows 1000000] [--recipe fast]

Vectors are random, of 64 dimensions; each row has a number and a text of 1 KB. Times are medians in milliseconds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

import annvq

DIM = 64
TIMES = 5


def median(action: Callable[[int], object]) -> float:
    """Return the median time of an action in milliseconds; it is given the number of the call."""
    times = []
    for number in range(TIMES):
        begin = time.perf_counter()
        action(number)
        times.append(1000 * (time.perf_counter() - begin))
    return float(np.median(times))


def named(numbers: np.ndarray, kind: str) -> list:
    """Return ids of either kind."""
    return [f"document-{number:09d}" for number in numbers] if kind == "str" else numbers.tolist()


def texts(count: int) -> pa.Array:
    """Return texts of 1,000 bytes."""
    data = np.random.default_rng(1).integers(97, 123, count * 1000, dtype=np.uint8)
    offsets = np.arange(count + 1, dtype=np.int64) * 1000
    return pa.Array.from_buffers(pa.large_string(), count, [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def measured(path: Path, n: int, kind: str) -> dict[str, float]:
    """Return times by what was done."""
    rng, found = np.random.default_rng(2), {}
    vectors = rng.normal(size=(100, DIM)).astype(np.float32)
    rows = {1: {"n": [1], "text": ["x" * 1000]}, 100: {"n": [1] * 100, "text": ["x" * 1000] * 100}}
    with annvq.open(path, "rw") as index:
        index.upsert(vectors[:1], named(np.arange(1), kind), rows[1])  # the ids are put in order
        index.search(vectors[0])
        for count in (1, 100):
            after = []

            def change(number: int, count: int = count, after: list = after) -> None:
                ids = named(rng.choice(n, count, replace=False), kind)
                begin = time.perf_counter()
                index.upsert(vectors[:count], ids, rows[count])
                middle = time.perf_counter()
                index.search(vectors[0])
                after.append((1000 * (middle - begin), 1000 * (time.perf_counter() - middle)))

            median(change)
            found[f"upsert {count}"], found[f"search after {count}"] = np.median(after, axis=0).tolist()
        found["update 100"] = median(
            lambda number: index.update(named(rng.choice(n, 100, replace=False), kind), {"n": [number] * 100})
        )
        found["search 10"] = median(lambda number: index.search(vectors[number]))
    with annvq.open(path) as index:
        begin = time.perf_counter()
        index.get(named(np.arange(10), kind))
        found["get first"] = 1000 * (time.perf_counter() - begin)
        found["get 10"] = median(lambda number: index.get(named(rng.choice(n, 10), kind)))
        found["search 10, text"] = median(lambda number: index.search(vectors[number], columns=["text"]))
    return found


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--recipe", default="IVF1024,SQ8")
    given = parser.parse_args()
    columns: dict[str, dict[str, float]] = {}
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(given.rows, DIM)).astype(np.float32)
    trained = annvq.train(vectors[:100_000], given.recipe, n=given.rows)
    for kind in ("int", "str"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "index"
            attributes = pa.table({"n": np.arange(given.rows), "text": texts(given.rows)})
            ids = named(np.arange(given.rows), kind)
            annvq.build(vectors, trained=trained, ids=ids, attributes=attributes, path=path).close()
            del attributes, ids
            columns[kind] = measured(path, given.rows, kind)
    print(f"| {given.rows:,} rows, ms | int ids | str ids |\n|---|---:|---:|")
    for name, value in columns["int"].items():
        print(f"| {name} | {value:.2f} | {columns['str'][name]:.2f} |")


if __name__ == "__main__":
    main()
