"""Measure what the rules behind recipe "auto" are made of: which recipe is fastest, smallest or quickest to build.

Every recipe is built of the same n vectors, evenly spaced in DATA, for several n, and tuned to a recall@10 of at least
0.95 on half of the queries; recall and speed are those of the other half. Recipes are timed in turn, pass by pass, and
of each call the fastest pass counts, so that a slow moment of the machine falls on none of them; batches and builds are
counted in seconds of the CPU, which others on the machine leave alone. "default" is the recall with the search
parameters that an index has before it is tuned. One thread builds and searches.

    python bench/make_fashion_mnist.py bench-out/fashion-mnist.npz
    taskset -c 0 python bench/choosing.py bench-out/fashion-mnist.npz [--pool 2] [--n 1000,20000] [--json FILE]

DATA is an npz file with base, query and metric. ``--pool P`` averages P x P pixels of square images.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from figures import Figures, machine_line

import annvq
from annvq.bench.timing import time_batches, time_singles
from annvq.errors import RecipeError
from annvq.evaluation import exact_neighbors, recall
from annvq.index.warmup import warmup
from annvq.io import read_ann_dataset

RECIPES = "flat,fast,graph,balanced,ivf-flat,ivf-sq8,ivf-rabitq,ivf-pq-fastscan,opq-ivf-pq8,small"
SIZES = "500,1000,2000,5000,10000,20000,60000"
HEADINGS = [
    "n", "d", "metric", "recipe", "bytes", "build s", "default", "recall", "single/s", "batch/s", "to fast", "in batch",
]  # fmt: skip
K, QUERIES, PASSES, TARGET = 10, 400, 4, 0.95
TRIED = (0.95, 0.96, 0.97, 0.98, 0.99, 1.0)  # of the index's own best scores, until the exact neighbours are found


def evenly(vectors: np.ndarray, wanted: int) -> np.ndarray:
    """Return at most ``wanted`` rows of ``vectors``, evenly spaced, as float32."""
    rows = np.linspace(0, len(vectors) - 1, min(len(vectors), wanted)).round().astype(np.int64)
    return np.array(vectors[rows], dtype=np.float32, order="C")


def pooled(images: np.ndarray, size: int) -> np.ndarray:
    """Return square images (n, w * w) with ``size`` x ``size`` pixels averaged into one."""
    width = round(images.shape[1] ** 0.5)
    cells = images.reshape(len(images), width // size, size, width // size, size)
    return np.ascontiguousarray(cells.mean((2, 4), dtype=np.float32).reshape(len(images), -1))


def tuned(index: annvq.Index, queries: np.ndarray, exact: np.ndarray) -> bool:
    """Tune until the exact neighbours are found to `TARGET`; return whether they are."""
    for target in TRIED:
        index.tune(queries, K, target, threads=1)
        if recall(index.search(queries, K, threads=1).ids, exact) >= TARGET:
            return True
    return False


def measure(base: np.ndarray, queries: np.ndarray, metric: str, recipes: list[str], figures: Figures) -> None:
    """Add a row for every recipe that can be built."""
    exact, _ = exact_neighbors(base, queries, K, metric)
    indexes, rows = {}, {}
    for recipe in recipes:
        start = time.process_time()
        try:
            index = annvq.build(base, recipe, metric=metric, threads=1)
        except RecipeError as error:
            print(f"{recipe}, {len(base)} vectors: {error}", file=sys.stderr)
            continue
        seconds = time.process_time() - start
        default = recall(index.search(queries, K, threads=1).ids, exact)
        rows[recipe] = [index.stats()["bytes_per_vector"], seconds, default]
        if tuned(index, queries[::2], exact[::2]):
            indexes[recipe] = index
    singles = {recipe: [] for recipe in indexes}
    batches = {recipe: [] for recipe in indexes}
    reported = queries[1::2]
    for turn in range(1 + PASSES):
        for recipe, index in indexes.items():
            search = lambda some, index=index: index.search(some, K, threads=1).ids  # noqa: E731
            single, batch = time_singles(search, reported, 1), time_batches(search, reported, 1)
            if turn:  # the first only warms up
                singles[recipe].append(single.latencies)
                batches[recipe].append(batch.seconds * batch.cores_used)  # of the CPU
    single_of = {recipe: len(reported) / np.min(passes, axis=0).sum() for recipe, passes in singles.items()}
    batch_of = {recipe: len(reported) / min(passes) for recipe, passes in batches.items()}
    for recipe, row in rows.items():
        if recipe in indexes:
            found = recall(indexes[recipe].search(reported, K, threads=1).ids, exact[1::2])
            row += [found, single_of[recipe], batch_of[recipe]]
            row += [speed[recipe] / speed.get("fast", np.nan) for speed in (single_of, batch_of)]
        else:
            row += ["-"] * 5
        figures.add(len(base), base.shape[1], metric, recipe, *(float(v) if not isinstance(v, str) else v for v in row))


def main() -> None:
    """Measure every size and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--pool", type=int, default=1)
    parser.add_argument("--n", default=SIZES)
    parser.add_argument("--recipes", default=RECIPES)
    options, others = parser.parse_known_args()
    data, recipes = read_ann_dataset(options.data), options.recipes.split(",")
    queries = evenly(data.query, QUERIES)
    if options.pool > 1:
        queries = pooled(queries, options.pool)
    for recipe in recipes:
        warmup(recipe, metric=data.metric)
    figures = Figures("choosing", HEADINGS)
    for n in map(int, options.n.split(",")):
        base = evenly(data.base, n)
        base = pooled(base, options.pool) if options.pool > 1 else base
        measure(base, queries, data.metric, recipes, figures)
    figures.show(machine_line(annvq=annvq.__version__), others)


if __name__ == "__main__":
    main()
