"""What compression costs in ranking quality, on a judged collection in BEIR's layout.

The collection and its embeddings are the demo's (Cranfield, MiniLM); `annvq bench beir DIR --model M`
does this for any. Needs `pip install 'annvq[eval]'`.
"""

from pathlib import Path

import numpy as np

import annvq
from annvq.evaluation import BeirDataset, evaluate, exact_neighbors, recall, run_from_ids

folder = Path(annvq.__file__).parent / "demo/data"
dataset = BeirDataset.load(folder, split="test")
documents, queries = np.load(folder / "documents.npy"), np.load(folder / "queries.npy")
names = np.array(list(dataset.documents))

exact, _ = exact_neighbors(documents, queries, 10)
for recipe in ("flat", "balanced", "ivf-pq-fastscan", "ivf-rabitq", "small"):
    index = annvq.build(documents, recipe, ids=names)
    hits = index.search(queries, k=100)
    run = run_from_ids(list(dataset.queries), hits.ids)
    measured = evaluate(dataset.qrels, run, ["ndcg@10", "recall@100"])
    found = recall(hits.ids[:, :10], names[exact])
    print(
        f"{recipe:16} {index.stats()['bytes_per_vector']:7.0f} bytes  nDCG@10 {measured['ndcg@10']:.4f}  "
        f"recall@100 {measured['recall@100']:.4f}  exact neighbours {found:.3f}"
    )
