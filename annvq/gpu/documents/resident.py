"""Documents of several vectors on a device: candidates by their encodings, and the best of these by their vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from annvq.gpu.documents.encodings import SetEncoder
from annvq.gpu.documents.rabitq_tokens import AskedCodes, RaBitQTokens
from annvq.gpu.documents.tokens import AskedTokens, ResidentTokens
from annvq.gpu.resident import Resident
from annvq.gpu.search import Search
from annvq.gpu.upload import uploaded
from annvq.index.rows.snapshot import Snapshot
from annvq.index.search.params import SearchParams
from annvq.index.search.view import View

_SCORED = 1 << 24  # pairs of a query and a document whose scores lie in memory together

Asked = AskedTokens | AskedCodes
Scored = Callable[[Any, dict[str, torch.Tensor], int, torch.Tensor, torch.Tensor], None]


@dataclass
class ResidentDocuments:
    """The documents of one snapshot of an index on a device.

    Parameters
    ----------
    rows
        Their encodings there.
    encoder, tokens
        How queries are encoded, and how documents' vectors are scored.
    sections
        The vectors of every segment's documents.
    on_host
        Whether these are in page-locked memory of the host.

    """

    rows: Resident
    encoder: SetEncoder
    tokens: ResidentTokens | RaBitQTokens
    sections: list[dict[str, torch.Tensor]]
    on_host: bool = False

    @property
    def bytes(self) -> int:
        """The bytes of the device that documents take."""
        held = [one for sections in self.sections for one in sections.values()]
        there = [one for one in held if self.rows.device.type == "cpu" or one.is_cuda]
        return self.rows.bytes + sum(one.numel() * one.element_size() for one in there)

    def asked(self, vectors: np.ndarray, offsets: np.ndarray) -> Asked:
        """Return queries' vectors (tq, d) float32, with offsets (nq + 1,) int64, as scores need them."""
        return self.tokens.prepare(uploaded(np.ascontiguousarray(vectors), self.rows.device), offsets)

    def by_encodings(self, view: View, asked: Asked, offsets: np.ndarray, depth: SearchParams) -> torch.Tensor:
        """Return the rows (nq, P) int64 of the documents whose encodings are best, at most ``depth.rerank``."""
        wanted = min(depth.rerank, view.snapshot.searchable_count)
        encodings = self.encoder.encode(asked.vectors, offsets, False)
        return Search([self.rows], view, wanted, replace(depth, rerank=wanted)).run(encodings)[1]

    def every(self, snapshot: Snapshot) -> torch.Tensor:
        """Return the rows (m,) int64 of all documents that may be returned."""
        rows = [segment.allowed() + segment.base for segment in snapshot.segments]
        return uploaded(np.concatenate([np.empty(0, np.int64), *rows]), self.rows.device)

    def best(
        self, asked: Asked, places: torch.Tensor, k: int, narrowed_to: int | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return scores (nq, k) float32 and rows (nq, k) int64 of the best documents, ties by id.

        Parameters
        ----------
        asked
            The queries.
        places
            (nq, P) int64, or (P,) for all queries: rows of candidates; -1 where there is none.
        k
            Missing documents have the score -inf and the row -1.
        narrowed_to
            How many candidates centroids alone leave, or None for all.

        """
        nq, width = len(asked.offsets) - 1, places.shape[-1]
        scores, rows = np.full((nq, k), -np.inf, np.float32), np.full((nq, k), -1, np.int64)
        most, size = min(k, width), max(1, _SCORED // max(1, width))
        for start in range(0, nq if width else 0, size):
            some = asked._replace(offsets=asked.offsets[start : start + size + 1])
            count = len(some.offsets) - 1
            own = places.expand(count, -1) if places.dim() == 1 else places[start : start + count]
            own = own.contiguous()
            if narrowed_to is not None and narrowed_to < width and isinstance(self.tokens, ResidentTokens):
                _, own = self._best(self.tokens.score_roughly, some, own, narrowed_to)
            found, chosen = self._best(self.tokens.score, some, own, most)
            scores[start : start + count, :most] = found.cpu().numpy()
            rows[start : start + count, :most] = chosen.cpu().numpy()
        return scores, rows

    def _best(self, score: Scored, asked: Asked, places: torch.Tensor, most: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the scores and rows of the best ``most`` of the documents ``places (nq, P)``."""
        scores = torch.full(places.shape, -torch.inf, dtype=torch.float32, device=places.device)
        for segment, sections in zip(self.rows.segments, self.sections, strict=True):
            score(asked, sections, segment.base, places, scores)
        best = torch.topk(self.rows.candidates(scores, places), min(most, places.shape[1]), dim=1)
        return scores.gather(1, best.indices), self.rows.rows_of(best.values)
