"""Measure how build time, memory and the cost of a query grow with the number of vectors.

By default, vectors are synthetic (128 dimensions, 4,000 clusters with decaying variances, L2) and streamed, never held
as a whole, and the index has codes alone (32 bytes per vector). With a file of `annvq bench ann`, they are evenly
spaced rows of it. Two threads build, one searches one query per call. `Index.tune` chooses how far a query searches on
some queries, so that it finds 0.95 of what scanning everything finds; recall@10 is that of others against exact search.
Each size runs in a process of its own, whose peak memory is reported. The script writes growth.png beside the JSON. It
needs the extra plot.

    python bench/growth.py [--recipe R] [--data FILE] [--sizes 10000,100000] [--json FILE]
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from figures import Figures, machine_line

import annvq
from annvq.evaluation import exact_neighbors, recall
from annvq.io import read_ann_dataset

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
DIM, CLUSTERS, BATCH, TUNING, QUERIES, K = 128, 4_000, 50_000, 200, 500, 10
RECIPE = "ivf-pq-fastscan"

Stream = Callable[[], Iterator[np.ndarray]]


def synthetic(n: int, seed: int) -> Iterator[np.ndarray]:
    """Yield ``n`` vectors in batches."""
    shape = np.random.default_rng(0)
    spread = (0.97 ** np.arange(DIM)).astype(np.float32)
    centres = shape.standard_normal((CLUSTERS, DIM), np.float32) * spread
    rng = np.random.default_rng(seed)
    for start in range(0, n, BATCH):
        count = min(BATCH, n - start)
        own = rng.standard_normal((count, DIM), np.float32) * spread
        yield centres[rng.integers(0, CLUSTERS, count)] + np.float32(0.6) * own


def problem(data: str | None, n: int) -> tuple[Stream, np.ndarray, np.ndarray, str]:
    """Return a stream of ``n`` vectors, those that train, the queries and the metric."""
    if data is None:
        train = np.concatenate(list(synthetic(min(n, 500_000), seed=2)))
        return lambda: synthetic(n, seed=1), train, next(synthetic(TUNING + QUERIES, seed=3)), "l2"
    dataset = read_ann_dataset(data)
    rows = np.linspace(0, len(dataset.base) - 1, n).round().astype(np.int64)
    asked = np.linspace(0, len(dataset.query) - 1, TUNING + QUERIES).round().astype(np.int64)
    queries = np.random.default_rng(0).permutation(np.asarray(dataset.query[asked], np.float32))
    base = np.asarray(dataset.base[rows], np.float32)
    return lambda: (base[at : at + BATCH] for at in range(0, n, BATCH)), base, queries, dataset.metric


def nearest(stream: Stream, queries: np.ndarray, metric: str) -> np.ndarray:
    """Return the rows (nq, K) of the nearest vectors by exact search."""
    rows, scores, start = np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0)), 0
    for batch in stream():
        own_rows, own_scores = exact_neighbors(batch, queries, K, metric)
        rows, scores = np.hstack([rows, own_rows + start]), np.hstack([scores, own_scores])
        best = np.argsort(-scores, axis=1, kind="stable")[:, :K]
        rows, scores = np.take_along_axis(rows, best, axis=1), np.take_along_axis(scores, best, axis=1)
        start += len(batch)
    return rows


def measure(recipe: str, data: str | None, n: int, folder: str) -> dict[str, float]:
    """Build and search one size; called in a process of its own."""
    stream, train, queries, metric = problem(data, n)
    start = time.perf_counter()
    index = annvq.build(stream(), recipe, metric=metric, train=train, threads=2, path=folder)
    index.compact()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    tuning, queries = queries[:TUNING], queries[TUNING:]
    report = index.tune(tuning, k=K, recall=0.95, threads=2)
    found = index.search(queries, k=K, threads=1).ids
    passes = []
    for _ in range(3):
        start = time.perf_counter()
        for query in queries:
            index.search(query, k=K, threads=1)
        passes.append((time.perf_counter() - start) / len(queries))
    return {
        "build s": seconds, "peak GiB": peak, "nlist": index.stats()["nlist"] or 1, "nprobe": report.chosen.nprobe,
        "rerank": report.chosen.rerank, "MB on disk": sum(f.stat().st_size for f in Path(folder).iterdir()) / 1e6,
        "recall": recall(found, nearest(stream, queries, metric)), "us per query": 1e6 * min(passes),
        "bytes per vector": index.stats()["bytes_per_vector"],
    }  # fmt: skip


def draw(rows: list[dict[str, float]], title: str, target: Path) -> None:
    """Draw build time, memory and cost per query against n, with the exponents over all sizes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sizes = np.array([row["n"] for row in rows])
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2))
    for axis, what in zip(axes, ("us per query", "build s", "peak GiB"), strict=True):
        values = np.array([row[what] for row in rows])
        axis.loglog(sizes, values, "o-")
        axis.set(xlabel="vectors", title=f"{what}: n^{exponent(rows, what):.2f}")
        axis.grid(alpha=0.3, which="both")
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(target, dpi=120)


def exponent(rows: list[dict[str, float]], what: str) -> float:
    """Return the exponent of n with which a figure grows over all sizes."""
    if len(rows) < 2:
        return float("nan")
    return float(np.polyfit(np.log([row["n"] for row in rows]), np.log([row[what] for row in rows]), 1)[0])


def main() -> None:
    """Measure every size and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--recipe", default=RECIPE)
    parser.add_argument("--data")
    parser.add_argument("--sizes", type=lambda text: [int(size) for size in text.split(",")], default=SIZES)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # a size and a folder
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.recipe, given.data, int(given.one[0]), given.one[1])))
        return
    rows, figures = [], None
    for n in given.sizes:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, "--recipe", given.recipe, "--one", str(n), str(Path(folder) / "index")]
            command += ["--data", given.data] if given.data else []
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            rows.append({"n": n, **json.loads(done.stdout)})
            figures = figures or Figures("growth", list(rows[0]))
            figures.add(*rows[-1].values())
    where = f"{Path(given.data).stem}, evenly spaced" if given.data else f"synthetic, {DIM} dimensions, L2"
    grown = ("us per query", "build s", "peak GiB")
    exponents = ", ".join(f"{what} n^{exponent(rows, what):.2f}" for what in grown)
    figures.show(
        f"{given.recipe}, {where}; {exponents}; {machine_line(annvq=annvq.__version__)}", _json_only(given.json)
    )
    if given.json:
        draw(rows, f"Growth: {given.recipe}, {where}", given.json.with_suffix(".png"))


def _json_only(target: Path | None) -> list[str]:
    return [] if target is None else ["--json", str(target)]


if __name__ == "__main__":
    main()
