"""What a stage of training begins with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from annvq.index.index import Index
from annvq.index.trained import Trained
from annvq.kernels import threads as pool
from annvq.learn.data import as_bytes

if TYPE_CHECKING:
    from annvq.learn.parts.encoder import Adapter, TextEncoder


@dataclass(frozen=True)
class Start:
    """An index's parts and codes, and what makes query vectors.

    Parameters
    ----------
    trained
        The index's learned parts.
    documents
        (n, d) float32, of unit length if the metric is cosine; from the encoder as it is now.
    originals
        The documents as they were given: with the original queries they are the teacher.
    labels, codes
        Every document's list (n,) int64 and codes (n, M) uint8.
    nprobe
        Number of lists that searches scan.
    texts
        The documents as texts, or None.
    encoder, adapter
        Those of the queries, or None.
    encoder_moved
        Whether the encoder is no longer the one that made the vectors that were given.
    document_encoder
        The encoder of the documents, if it is no longer the original.

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

    def arrays(self) -> list[np.ndarray]:
        """Return all numbers and texts, for a fingerprint."""
        made = [self.documents, self.originals, self.labels, self.codes, np.array([self.nprobe])]
        made += self.trained.sections().values()
        for part in (self.encoder, self.adapter):
            if part is not None:
                made += [value.detach().float().cpu().numpy() for value in part.state_dict().values()]
        return made if self.texts is None else [*made, as_bytes(self.texts)]

    @classmethod
    def of(
        cls,
        index: Index,
        documents: np.ndarray,
        *,
        encoder: TextEncoder | None = None,
        texts: tuple[str, ...] | None = None,
        threads: int | None = None,
    ) -> Start:
        """Take an index of the documents apart.

        Parameters
        ----------
        index
            The untrained index.
        documents
            (n, d) float32, as for the class.
        encoder
            The queries' encoder, or None.
        texts
            The documents as n texts, or None.
        threads
            Default: all CPUs of the process.

        """
        trained = index.rows.current.trained
        labels, arrays = trained.encode(documents, pool.resolve(threads))
        codes = arrays.get("codes", labels[:, None])
        return cls(trained, documents, documents, labels, codes, index.nprobe, texts, encoder)
