"""Documents' vectors as RaBitQ codes on a device, and Chamfer similarity of queries to them."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

from annvq.codebooks import RaBitQCodebook
from annvq.gpu.codes.kind import ResidentProbes
from annvq.gpu.codes.rabitq import AskedRaBitQ, ResidentRaBitQ
from annvq.gpu.documents.tokens import OFFSETS
from annvq.gpu.trained import multiplied
from annvq.gpu.upload import uploaded
from annvq.index.codes.rabitq import RaBitQCodes

_PAIRS = 1 << 24  # of a query's vector and a document's whose scores lie in memory together


class AskedCodes(NamedTuple):
    """Queries' vectors as kernels take them."""

    vectors: torch.Tensor  # (tq, d) float32
    offsets: torch.Tensor  # (nq + 1,) int64
    rabitq: AskedRaBitQ


class RaBitQTokens:
    """How documents' vectors lie on a device, as codes of their differences from one centroid, and are scored there."""

    def __init__(self, codebook: RaBitQCodebook, centroids: np.ndarray, device: torch.device) -> None:
        self._codes = ResidentRaBitQ(RaBitQCodes(codebook, "ip", centroids), device)
        self._centroids, self._device = uploaded(np.ascontiguousarray(centroids.T), device), device

    def upload(self, arrays: dict[str, np.ndarray], *, on_host: bool) -> dict[str, torch.Tensor]:
        """Return a segment's sections; codes lie on the device, whatever ``on_host`` says."""
        laid_out = self._codes.laid_out(arrays["codes1"], arrays["codes_ex"], arrays["factors"])
        return {OFFSETS: uploaded(np.asarray(arrays[OFFSETS]), self._device), **laid_out}

    def prepare(self, vectors: torch.Tensor, offsets: np.ndarray) -> AskedCodes:
        """Return queries' vectors (tq, d) float32, with offsets (nq + 1,) int64, as kernels take them."""
        lists = torch.zeros((len(vectors), 1), dtype=torch.int64, device=self._device)
        probes = ResidentProbes(lists, multiplied(vectors, self._centroids))
        return AskedCodes(vectors, uploaded(offsets, self._device), self._codes.prepare(vectors, probes))

    def score(
        self, asked: AskedCodes, sections: dict[str, torch.Tensor], base: int, places: torch.Tensor,
        scores: torch.Tensor,
    ) -> None:  # fmt: skip
        """Write the similarities of the documents ``places (nq, P)`` that are in a segment to ``scores``."""
        starts = sections[OFFSETS]
        count = len(starts) - 1
        ends = asked.offsets.tolist()
        for q, (first, last) in enumerate(pairwise(ends)):
            inside = torch.nonzero((places[q] >= base) & (places[q] < base + count))[:, 0]
            documents = places[q][inside] - base
            lengths = starts[documents + 1] - starts[documents]
            own = type(asked.rabitq)(*(one[first:last] for one in asked.rabitq))
            most = max(1, _PAIRS // max(1, last - first))
            part = torch.div(lengths.cumsum(0) - 1, most, rounding_mode="floor")
            for number in range(int(part[-1]) + 1 if len(part) else 0):
                some = part == number
                scores[q, inside[some]] = self._similarities(own, sections, starts[documents[some]], lengths[some])

    def _similarities(
        self, asked: AskedRaBitQ, sections: dict[str, torch.Tensor], starts: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        """Return the similarities (m,) of one query to documents whose vectors begin at ``starts``."""
        total = int(lengths.sum())
        owners = torch.repeat_interleave(torch.arange(len(lengths), device=self._device), lengths)
        rows = torch.arange(total, device=self._device) + (starts - (lengths.cumsum(0) - lengths))[owners]
        places = rows.expand(len(asked.totals), -1).contiguous()
        estimates = torch.empty(places.shape, dtype=torch.float32, device=self._device)
        self._codes.estimate(asked, sections, 0, places, torch.zeros_like(places), estimates)
        best = torch.full((len(places), len(lengths)), -torch.inf, device=self._device)
        best.scatter_reduce_(1, owners.expand(len(places), -1), estimates, "amax")
        similarities = torch.zeros(len(lengths), dtype=torch.float32, device=self._device)
        for one in best:  # in the order in which the CPU adds
            similarities = similarities + one
        return similarities
