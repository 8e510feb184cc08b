"""Late interaction: documents as sets of token vectors, found by their encoding, ranked by Chamfer similarity."""

import tempfile
from pathlib import Path

import numpy as np

from annvq.multivector import FixedDimensionalEncoder, MultiVectorIndex, chamfer

rng = np.random.default_rng(0)
topics = rng.normal(size=(50, 64))


def made_up(count: int) -> list[np.ndarray]:
    """Make sets of 5 to 30 unit vectors, each around three topics; take a model's token vectors instead."""
    sets = []
    for _ in range(count):
        vectors = topics[rng.choice(50, 3)[rng.integers(0, 3, rng.integers(5, 30))]]
        vectors = vectors + 0.8 * rng.normal(size=vectors.shape)
        sets.append((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32))
    return sets


documents, queries = made_up(3_000), made_up(20)
index = MultiVectorIndex.build(documents, "muvera-4bit", ids=[f"doc-{i}" for i in range(3_000)])
report = index.tune(queries[:10], k=10, recall=0.95)  # of exact Chamfer similarity over the vectors it keeps
print(f"recall@10 {report.chosen.recall:.2f} with {index.candidates} candidates of {len(index):,}")

with tempfile.TemporaryDirectory() as folder:
    index.save(Path(folder) / "late")
    with MultiVectorIndex.open(Path(folder) / "late", mode="rw") as opened:
        opened.remove(["doc-0"])
        hits = opened.search(queries[10:], k=3)
print(hits.ids[0], hits.scores[0])
print({part: round(size) for part, size in index.stats()["bytes_per_document"].items() if size})

encoder = FixedDimensionalEncoder(dim=64, repetitions=20)  # one vector a set, for any index of your own
estimates = encoder.encode_queries(queries[:2]) @ encoder.encode_documents(documents[:5]).T / 20
print(estimates.round(2), chamfer(queries[:2], documents[:5]).round(2), sep="\n")
