"""One step's queries and documents with everything that objectives look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """B queries and the P documents proposed for any of them.

    Parameters
    ----------
    scores
        (B, P) inner products of queries with what the documents' codes stand for, with gradients.
    teacher
        (B, P) inner products of the original embeddings.
    relevant
        (B, P) bool: judged, or taken for, relevant.
    ranks
        (B, P) int64: the document's place in the live search for the query, from 1; 0 where not found.
    own
        (B, P) bool: proposed for this query, not for another.
    judged
        (P,) bool: relevant to some query that is learned from; all without labels.
    queries
        (B, d) rotated queries as they are now, with gradients where they are learned.
    documents, quantized
        (P, d) rotated documents as they are now and what their codes stand for.
    lists
        (P, d) centroids of the documents' lists, or None without lists.

    """

    scores: Tensor
    teacher: Tensor
    relevant: Tensor
    ranks: Tensor
    own: Tensor
    judged: Tensor
    queries: Tensor
    documents: Tensor
    quantized: Tensor
    lists: Tensor | None
