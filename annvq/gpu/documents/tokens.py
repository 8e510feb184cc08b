"""The vectors of documents on a device, and Chamfer similarity of queries to them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from annvq.codebooks import ProductCodebook, ScalarCodebook
from annvq.gpu.kernels.score_documents import score_coded_documents, score_documents, score_labelled_documents
from annvq.gpu.launch import launch
from annvq.gpu.trained import multiplied
from annvq.gpu.upload import uploaded

ROWS, CODES, LABELS, OFFSETS = "rows", "codes", "labels", "offsets"  # of a segment, on the device
_MANY, _TOGETHER, _DIMS = 32, 32, 32  # vectors of a document and of a query, and dimensions, of a program at a time
_LEAST = float(np.float32(1e-36))  # scales whose reciprocal is finite, as in `annvq.multivector.token_bytes`
_MOST, _MIDDLE = 127.0, 64


class AskedTokens(NamedTuple):
    """Queries' vectors as kernels take them; what product codes need is empty for other rows."""

    vectors: torch.Tensor  # (tq, d) float32
    offsets: torch.Tensor  # (nq + 1,) int64
    values: torch.Tensor  # (tq, padded d) int8
    starts: torch.Tensor  # (tq,) int32
    scales: torch.Tensor  # (tq,) float32
    biases: torch.Tensor  # (tq,) float32
    centroid_scores: torch.Tensor  # (tq, centroids) float32


class LevelsThere(NamedTuple):
    """A product codebook in bytes, see `annvq.multivector.token_bytes.Levels`."""

    levels: np.ndarray  # (M, 16, dsub) uint8
    order: np.ndarray  # (width,) int64: the order in which dimensions are summed
    steps: np.ndarray  # (width,) float32, in that order
    middles: np.ndarray  # (width,) float32, in that order


class ResidentTokens:
    """How documents' vectors of dimension ``dim`` lie on a device and are scored there."""

    def __init__(
        self, dim: int, codebook: ProductCodebook | ScalarCodebook | None, centroids: np.ndarray | None,
        levels: LevelsThere | None, device: torch.device,
    ) -> None:  # fmt: skip
        self._dim, self._device = dim, device
        nothing = np.zeros(1, np.float32)
        is_scalar = isinstance(codebook, ScalarCodebook)
        affine = (codebook.minimum, codebook.step) if is_scalar else (nothing, nothing)
        self._minimum, self._step = (uploaded(np.asarray(one), device) for one in affine)
        self._coded = is_scalar
        self._levels, self._dsub, self._centroids = None, 0, None
        if levels is not None:
            assert centroids is not None
            self._levels, self._dsub = uploaded(levels.levels.view(np.int8), device), levels.levels.shape[2]
            self._order = uploaded(np.asarray(levels.order, np.int64), device)
            self._steps, self._middles = uploaded(levels.steps, device), uploaded(levels.middles[:, None], device)
            self._centroids = uploaded(np.ascontiguousarray(centroids.T), device)

    def upload(self, arrays: dict[str, np.ndarray], *, on_host: bool) -> dict[str, torch.Tensor]:
        """Return a segment's sections: offsets, and rows or codes (t, M) uint8 below 16 with labels (t,) uint32."""
        there = {OFFSETS: uploaded(np.asarray(arrays[OFFSETS]), self._device)}
        if self._centroids is None:
            return {**there, ROWS: uploaded(arrays[ROWS], self._device, on_host=on_host)}
        codes = np.pad(arrays[CODES], [(0, 0), (0, arrays[CODES].shape[1] % 2)])
        packed = codes[:, ::2] | (codes[:, 1::2] << 4)
        labels = np.minimum(arrays[LABELS], self._centroids.shape[1] - 1).astype(np.int32)
        there[LABELS] = uploaded(labels, self._device, on_host=on_host)
        return {**there, CODES: uploaded(np.ascontiguousarray(packed), self._device, on_host=on_host)}

    def prepare(self, vectors: torch.Tensor, offsets: np.ndarray) -> AskedTokens:
        """Return queries' vectors (tq, d) float32, with offsets (nq + 1,) int64, as kernels take them."""
        there = uploaded(offsets, self._device)
        none = torch.empty(0, device=self._device)
        if self._levels is None:
            return AskedTokens(vectors, there, none, none, none, none, none)
        assert self._centroids is not None
        padded = torch.nn.functional.pad(vectors, (0, len(self._order) - self._dim))
        ordered = padded[:, self._order].contiguous()
        biases = multiplied(ordered, self._middles)[:, 0]
        scaled = ordered * self._steps
        largest = scaled.abs().amax(dim=1)
        scales = largest / torch.full_like(largest, _MOST)
        rounded = torch.round(scaled / scales.clamp(min=_LEAST)[:, None]).to(torch.int8)
        starts = -_MIDDLE * rounded.sum(dim=1, dtype=torch.int32)
        values = torch.empty_like(rounded)
        values[:, self._order] = rounded
        wide = -(-self._dim // _DIMS) * _DIMS
        values = torch.nn.functional.pad(values[:, : self._dim], (0, wide - self._dim)).contiguous()
        return AskedTokens(vectors, there, values, starts, scales, biases, multiplied(vectors, self._centroids))

    def score(
        self, asked: AskedTokens, sections: dict[str, torch.Tensor], base: int, places: torch.Tensor,
        scores: torch.Tensor,
    ) -> None:  # fmt: skip
        """Write the similarities of the documents ``places (nq, P)`` that are in a segment to ``scores``.

        Documents of the segment have the numbers from ``base`` on.
        """
        target = (sections[OFFSETS], base, len(sections[OFFSETS]) - 1, places, places.shape[1], scores)
        if self._levels is None:
            launch(
                score_documents, places.numel(), asked.vectors, self._dim, asked.offsets, sections[ROWS],
                self._minimum, self._step, *target, CODED=self._coded, ROWS=_MANY, TOGETHER=_TOGETHER,
            )  # fmt: skip
            return
        codes = sections[CODES]
        launch(
            score_coded_documents, places.numel(), asked.values, asked.starts, asked.scales, asked.biases,
            asked.offsets, self._dim, self._levels, self._dsub, codes, codes.shape[1],
            sections[LABELS], asked.centroid_scores.shape[1], asked.centroid_scores, *target, ROWS=_MANY,
            TOGETHER=_TOGETHER, DIMS=_DIMS,
        )  # fmt: skip

    def score_roughly(
        self, asked: AskedTokens, sections: dict[str, torch.Tensor], base: int, places: torch.Tensor,
        scores: torch.Tensor,
    ) -> None:  # fmt: skip
        """Do what `score` does by centroids alone, for product codes."""
        launch(
            score_labelled_documents, places.numel(), asked.offsets, sections[LABELS], asked.centroid_scores.shape[1],
            asked.centroid_scores, sections[OFFSETS], base, len(sections[OFFSETS]) - 1, places, places.shape[1], scores,
            ROWS=_MANY, TOGETHER=_TOGETHER,
        )  # fmt: skip


def rows_there(found: list[np.ndarray], device: torch.device) -> torch.Tensor:
    """Return rows (nq, P) int64 on a device, of nq arrays (P,)."""
    return uploaded(np.ascontiguousarray(np.stack(found), np.int64) if found else np.empty((0, 0), np.int64), device)
