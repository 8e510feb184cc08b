"""Encoding of vectors on a device: what `annvq.index.trained.Trained.encode` does, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from annvq.codebooks.rotation import ByteRotation
from annvq.gpu.codes.kinds import refuse_graphs
from annvq.gpu.encoders.local_rows import LocalRowEncoder
from annvq.gpu.encoders.rabitq import RaBitQEncoder
from annvq.gpu.encoders.rows import BitEncoder, RowEncoder
from annvq.gpu.encoders.tables import TableEncoder
from annvq.gpu.trained import in_bytes, multiplied, multiplied_in_bytes
from annvq.gpu.training.points import SitesThere, labels_there
from annvq.gpu.upload import uploaded
from annvq.index.codes.bits import PackedBits
from annvq.index.codes.localrows import LocalRowStore
from annvq.index.codes.rabitq import RaBitQCodes
from annvq.index.codes.rowstore import RowStore
from annvq.index.codes.tablecodes import TableCodes
from annvq.index.trained import Trained
from annvq.kernels.clusters.propose import byte_sites

_BY_LIST: dict[type, Any] = {RaBitQCodes: RaBitQEncoder, TableCodes: TableEncoder}  # whose codes depend on lists
_BY_ROW: dict[type, Any] = {PackedBits: BitEncoder, RowStore: RowEncoder, LocalRowStore: LocalRowEncoder}


class ResidentEncoder:
    """Encodes vectors on a device with the learned parts of an index (DeviceError for codes of graphs)."""

    def __init__(self, trained: Trained, device: torch.device) -> None:
        refuse_graphs(trained.recipe)
        self.trained, self._device = trained, device
        rotation, center = trained.rotation, trained.center
        self._matrix = self._in_bytes = None
        if rotation is not None and trained.mean is not None:
            turning = ByteRotation(rotation, trained.mean)
            self._in_bytes = in_bytes(turning.matrix, turning.mean, turning.width, device)
        elif rotation is not None:
            self._matrix = uploaded(np.ascontiguousarray(rotation.matrix.T), device)
        self._center = None if center is None else uploaded(np.asarray(center), device)
        self._sites = None if trained.centroids is None else SitesThere(byte_sites(trained.centroids), device)
        kinds = _BY_LIST | _BY_ROW
        self._codes = kinds[type(trained.codes)](trained.codes, device)
        self._refine = None if trained.refine is None else _BY_ROW[type(trained.refine)](trained.refine, device)

    def encode(self, vectors: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return the lists (n,) int64 and the unpacked rows of float32 vectors (n, d)."""
        there = uploaded(np.ascontiguousarray(vectors), self._device)
        rotated = self._turned(there)
        if self._sites is None:
            labels = torch.zeros(len(there), dtype=torch.int64, device=self._device)
        else:
            labels = labels_there(rotated, self._sites).long()
        if type(self.trained.codes) in _BY_LIST:
            arrays = self._codes.encode(rotated, labels)
        else:
            arrays = self._codes.encode(rotated)
        if self._refine is not None:
            arrays |= self._refine.encode(there)
        return labels.cpu().numpy(), {name: array.cpu().numpy() for name, array in arrays.items()}

    def _turned(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return vectors as lists and codes see them."""
        if self._in_bytes is not None:
            vectors = multiplied_in_bytes(vectors, self._in_bytes)
        elif self._matrix is not None:
            vectors = multiplied(vectors, self._matrix)
        return vectors if self._center is None else vectors - self._center
