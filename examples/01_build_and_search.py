"""Embeddings from a Parquet file: build, tune, save, open, search."""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import annvq

folder = Path(tempfile.mkdtemp())

# A stand-in for real embeddings: 20,000 documents of 96 numbers around 200 topics.
rng = np.random.default_rng(0)
topics = rng.normal(size=(200, 96))
vectors = (topics[rng.integers(200, size=20_000)] + 0.5 * rng.normal(size=(20_000, 96))).astype(np.float32)
column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 96)
names = [f"doc-{row}" for row in range(20_000)]
pq.write_table(pa.table({"id": names, "embedding": column}), folder / "embeddings.parquet")

table = pq.read_table(folder / "embeddings.parquet")
index = annvq.build(table["embedding"], recipe="balanced", ids=table["id"], metric="cosine")
print(index)

queries = vectors[:100] + 0.1 * rng.normal(size=(100, 96)).astype(np.float32)
report = index.tune(queries, k=10, recall=0.95)
print(report.chosen)

index.save(folder / "index")
opened = annvq.open(folder / "index")  # memory-mapped: ready at once, whatever its size
hits = opened.search(queries, k=3)
for ids, scores in zip(hits.ids[:3], hits.scores):
    print(*(f"{name} {score:.3f}" for name, score in zip(ids, scores)))

stats = opened.stats()
print(f"{stats['bytes_per_vector']} bytes a vector, {stats['compression']:.1f} times smaller than float32")
