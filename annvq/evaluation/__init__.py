"""Ground truth, recall against it, and ranking measures against judgements.

There are three different recalls: `recall` (ids in common with the exact neighbours), `recall_with_ties`
(places filled by neighbours that are as close), and `qrel_recall` (judged documents found).
"""

from annvq.evaluation.beir import BeirDataset
from annvq.evaluation.exact import exact_neighbors, exact_scores
from annvq.evaluation.ranking import (
    evaluate,
    evaluate_per_query,
    mean_average_precision,
    mrr,
    ndcg,
    qrel_recall,
    run_from_ids,
)
from annvq.evaluation.recall import recall, recall_with_ties

__all__ = [
    "BeirDataset",
    "evaluate",
    "evaluate_per_query",
    "exact_neighbors",
    "exact_scores",
    "mean_average_precision",
    "mrr",
    "ndcg",
    "qrel_recall",
    "recall",
    "recall_with_ties",
    "run_from_ids",
]
