"""Take an index over from Faiss, and hand one to it. Needs `pip install 'annvq[faiss]'`."""

import faiss
import numpy as np

import annvq
from annvq.interop.faiss import from_faiss, to_faiss

rng = np.random.default_rng(0)
vectors = rng.normal(size=(10_000, 64)).astype(np.float32)
queries = rng.normal(size=(100, 64)).astype(np.float32)

theirs = faiss.index_factory(64, "IVF64,PQ32x4", faiss.METRIC_L2)
theirs.train(vectors)
theirs.add(vectors)
theirs.nprobe = 8
_, expected = theirs.search(queries, 10)

ours = from_faiss(theirs)
found = ours.search(queries, k=10, nprobe=8)
same = np.mean([len(np.intersect1d(a, b)) for a, b in zip(found.ids, expected)]) / 10
print(f"from Faiss: {len(ours)} vectors, {same:.1%} of the same neighbours")

built = annvq.build(vectors, recipe="IVF64,PQ32x8", metric="l2")
given = to_faiss(built)
given.nprobe = 8
distances, labels = given.search(queries, 10)
ours = built.search(queries, k=10, nprobe=8)
same = np.mean([len(np.intersect1d(a, b)) for a, b in zip(ours.ids, labels)]) / 10
print(f"to Faiss:   {given.ntotal} vectors, {same:.1%} of the same neighbours")
