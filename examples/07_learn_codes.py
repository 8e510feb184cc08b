"""Learn codes from queries: without labels, from the original embeddings' own ranking (Distill-VQ)."""

import numpy as np

from annvq.learn import DistillVQ

# Documents whose loudest dimensions no query asks for: what k-means spends its bits on is of no use.
rng = np.random.default_rng(0)
documents = rng.normal(size=(3_000, 32)).astype("float32")
documents[:, :16] *= 3
documents /= np.linalg.norm(documents, axis=1, keepdims=True)
queries = documents[rng.integers(0, len(documents), 1_200)] + 0.1 * rng.normal(size=(1_200, 32)).astype("float32")
queries[:, :16] *= 0.1

known, asked = queries[:1_000], queries[1_000:]
method = DistillVQ(recipe="OPQ4,PQ4", epochs=4, rates={"codebook": 2e-3})
learned = method.fit(documents, known)  # 4 bytes a vector; a tenth of the queries chooses the step

exact = np.argsort(-(asked @ documents.T), axis=1)[:, :10]
for name, index in (("before", learned.start), ("after", learned.index)):
    found = index.search(asked, k=10).ids
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found.tolist(), exact.tolist(), strict=True)])
    print(f"{name}: recall@10 {recall:.3f}")
