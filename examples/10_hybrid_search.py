"""Hybrid search: hits of vectors and of words (BM25), joined by their ranks or by their scores.

The collection and its embeddings are the demo's (Cranfield, MiniLM).
Needs `pip install 'annvq[eval,hybrid]'`.
"""

import bm25s

import annvq
from annvq import hybrid
from annvq.demo import cranfield
from annvq.evaluation import ndcg, run_from_ids

dataset = cranfield.texts()
embedded = cranfield.embeddings(dataset)
ids = list(embedded.document_ids)

index = annvq.build(embedded.documents, ids=ids)
retriever = bm25s.BM25()
retriever.index(bm25s.tokenize(list(dataset.documents.values()), show_progress=False), show_progress=False)

dense = index.search(embedded.queries, k=100)
asked = bm25s.tokenize(list(dataset.queries.values()), show_progress=False)
words = hybrid.from_bm25s(retriever.retrieve(asked, k=100, show_progress=False), ids)

found = {
    "dense": dense,
    "BM25": words,
    "joined by ranks": hybrid.reciprocal_rank_fusion(dense, words),
    "joined by scores": hybrid.weighted_scores(dense, words, weights=(0.7, 0.3)),
}
for name, hits in found.items():
    print(f"{name:17} nDCG@10 {ndcg(dataset.qrels, run_from_ids(embedded.query_ids, hits.ids)):.4f}")
