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
    list_scores
        (B, P) inner products with the centroids of the documents' lists, or None without lists.
    teacher
        (B, P) inner products of the original embeddings.
    relevant
        (B, P) bool: judged, or taken for, relevant.
    ranks
        (B, P) int64: the document's place in the live search for the query, from 1; 0 where not found.
    own
        (B, P) bool: proposed for this query, not for another.
    documents, quantized
        (P, d) rotated documents and what their codes stand for.

    """

    scores: Tensor
    list_scores: Tensor | None
    teacher: Tensor
    relevant: Tensor
    ranks: Tensor
    own: Tensor
    documents: Tensor
    quantized: Tensor
