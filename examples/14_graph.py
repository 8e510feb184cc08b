"""A graph over quantized neighbours: short searches among many vectors, one query per call."""

import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np

import annvq
from annvq.evaluation import exact_neighbors

rng = np.random.default_rng(0)
centres = rng.normal(size=(300, 48))
vectors = (centres[rng.integers(0, 300, 8_000)] + 1.5 * rng.normal(size=(8_000, 48))).astype(np.float32)
queries = (centres[rng.integers(0, 300, 200)] + 1.5 * rng.normal(size=(200, 48))).astype(np.float32)
exact, _ = exact_neighbors(vectors, queries, 10, metric="l2")

path = Path(tempfile.mkdtemp()) / "vectors"
with annvq.build(vectors, recipe="graph", metric="l2") as index:
    index.save(path)

with annvq.open(path, mode="rw") as index:
    # `rerank` is the length of the queue of vertices to visit: longer finds more and takes longer.
    for rerank in (10, 20, 40, 80, 160):
        start = perf_counter()
        found = np.stack([index.search(query, 10, rerank=rerank).ids[0] for query in queries])
        seconds = perf_counter() - start
        recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, exact, strict=True)])
        print(f"rerank {rerank:3}: recall@10 {recall:.3f}, {1e6 * seconds / len(queries):.0f} us per query")

    # Rows that are removed are passed over at once, and rows that are added are found at once, in a graph of their
    # own beside the first. Compaction makes one graph of all.
    index.remove(found[0, :3])
    index.add(queries[:5], ids=np.arange(100_000, 100_005))
    print("nearest to the first query:", index.search(queries[0], 3).ids[0])
    index.compact()
    print("after compaction:          ", index.search(queries[0], 3).ids[0])
