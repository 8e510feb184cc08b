"""What a stage of training begins with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from annvq.index.index import Index
from annvq.index.trained import Trained

if TYPE_CHECKING:
    from annvq.learn.encoder import Adapter, TextEncoder


@dataclass(frozen=True)
class Start:
    """An index's parts and codes, and what makes query vectors.

    Parameters
    ----------
    trained
        The index's learned parts.
    documents
        (n, d) float32, of unit length where the metric is cosine; of the encoder as it is.
    originals
        The documents as they were given: with the original queries they are the teacher.
    labels, codes
        Every document's list (n,) int64 and codes (n, M) uint8.
    nprobe
        Lists that searches look into.
    texts
        The documents as texts, or None.
    encoder, adapter
        Of queries, or None.
    encoder_moved
        Whether the encoder is no longer the one that made the vectors that were given.
    document_encoder
        Of documents, where it is no longer the original.

    """

    trained: Trained
    documents: np.ndarray
    originals: np.ndarray
    labels: np.ndarray
    codes: np.ndarray
    nprobe: int
    texts: tuple[str, ...] | None = None
    encoder: TextEncoder | None = None
    adapter: Adapter | None = None
    encoder_moved: bool = False
    document_encoder: TextEncoder | None = None

    @classmethod
    def of(
        cls,
        index: Index,
        documents: np.ndarray,
        *,
        encoder: TextEncoder | None = None,
        texts: tuple[str, ...] | None = None,
        threads: int = 1,
    ) -> Start:
        """Take an index of the documents (n, d) apart."""
        trained = index._now.trained
        labels, arrays = trained.encode(documents, threads)
        codes = arrays.get("codes", labels[:, None])
        return cls(trained, documents, documents, labels, codes, index.nprobe, texts, encoder)
