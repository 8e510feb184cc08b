"""The queries and documents of one step, with everything that objectives need."""

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
        (B, P) inner products of the queries with the documents as decoded from their codes, with gradients.
    teacher
        (B, P) inner products of the original embeddings.
    relevant
        (B, P) bool: whether the document is judged, or taken to be, relevant.
    ranks
        (B, P) int64: the document's rank in the live search for the query, from 1; 0 if it was not found.
    own
        (B, P) bool: whether the document was proposed for this query, not for another.
    judged
        (P,) bool: whether the document is relevant to some training query; all True without labels.
    queries
        (B, d) rotated queries as they are now, with gradients if they are learned.
    documents, quantized
        (P, d) rotated documents as they are now, and as decoded from their codes.
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
