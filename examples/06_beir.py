"""What compression costs in ranking quality, on a judged collection in BEIR's layout.

The collection and its embeddings are the demo's (Cranfield, MiniLM); `annvq bench beir DIR --model M`
does this for any. Needs `pip install 'annvq[eval]'`.
"""

import numpy as np

import annvq
from annvq.demo import cranfield
from annvq.evaluation import evaluate, exact_neighbors, recall, run_from_ids

dataset = cranfield.texts()  # of your own: BeirDataset.read(folder, split="test")
embedded = cranfield.embeddings(dataset)  # of unit length
names = np.array(embedded.document_ids)

exact, _ = exact_neighbors(embedded.documents, embedded.queries, 10)
for recipe in ("flat", "balanced", "ivf-pq-fastscan", "ivf-rabitq", "small"):
    index = annvq.build(embedded.documents, recipe, ids=names)
    hits = index.search(embedded.queries, k=100)
    run = run_from_ids(embedded.query_ids, hits.ids)
    measured = evaluate(dataset.qrels, run, ["ndcg@10", "recall@100"])
    found = recall(hits.ids[:, :10], names[exact])
    print(
        f"{recipe:16} {index.stats()['bytes_per_vector']:7.0f} bytes  nDCG@10 {measured['ndcg@10']:.4f}  "
        f"recall@100 {measured['recall@100']:.4f}  exact neighbours {found:.3f}"
    )
