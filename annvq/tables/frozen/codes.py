"""Rows as packed codes of product and residual codebooks."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from annvq.errors import CorruptIndexError
from annvq.kernels.embeddings import embedding
from annvq.kernels.embeddings.product_codes import AT_ONCE, product_rows, product_sums, residual_rows
from annvq.kernels.registers.tiles import readonly
from annvq.tables.frozen.form import Form, contiguous, rows_with_spare, stored, with_spare
from annvq.tables.frozen.partition import Partition

LOW_BITS, HIGH_BITS = 6, 8  # of MGQE's codes
_BITS = {16: 4, 256: 8}  # of a code, by its number of centroids


def packed(codes: np.ndarray, bits: int) -> np.ndarray:
    """Return codes (n, M) uint8 as (n, ceil(M * bits / 8)) bytes."""
    rows = np.zeros((len(codes), code_bytes(codes.shape[1], bits)), np.uint8)
    embedding.pack_codes(readonly(np.ascontiguousarray(codes)), bits, rows)
    return readonly(rows)


def unpacked(rows: np.ndarray, M: int, bits: int) -> np.ndarray:
    """Return the codes (n, M) uint8 of packed rows."""
    every = np.unpackbits(rows, axis=1, bitorder="little")[:, : M * bits].reshape(len(rows), M, bits)
    return np.packbits(every, axis=2, bitorder="little")[:, :, 0]


def code_bytes(M: int, bits: int) -> int:
    """Return the bytes that M codes take."""
    return -(-M * bits // 8)


class _Decoder:
    """Product codebooks as kernels read them."""

    def __init__(self, codebooks: np.ndarray, d: int) -> None:
        self._settings = (with_spare(codebooks), *codebooks.shape, d)
        self._dsub, self._d = codebooks.shape[2], d

    def rows(self, codes: np.ndarray, bits: int, ids: np.ndarray) -> np.ndarray:
        """Return rows (m, d) float32 of packed codes."""
        flat, rows = rows_with_spare(len(ids), self._d, self._dsub)
        product_rows(codes, bits, *self._settings, ids, flat)
        return rows

    def sums(
        self, codes: np.ndarray, bits: int, ids: np.ndarray, offsets: np.ndarray, weights: np.ndarray
    ) -> np.ndarray:
        """Return sums (b, d) float32 of rows."""
        scratch, _ = rows_with_spare(AT_ONCE, self._d, self._dsub)
        flat, pooled = rows_with_spare(len(offsets) - 1, self._d)
        product_sums(codes, bits, *self._settings, ids, offsets, weights, scratch, flat)
        return pooled


@dataclass(frozen=True, eq=False)
class PackedRows(Form):
    """Codes of every row, of 4 or 8 bits, and the codebooks that they number the centroids of.

    Parameters
    ----------
    codes
        (n, ceil(M * bits / 8)) uint8, packed.
    codebooks
        (M, ksub, length) float32 with 16 or 256 centroids: 4 or 8 bits.

    """

    codes: np.ndarray
    codebooks: np.ndarray

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return _BITS[self.codebooks.shape[1]]

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        return {"codes": self.codes, "codebooks": self.codebooks}

    @classmethod
    def from_arrays(cls, n: int, d: int, settings: dict[str, Any], arrays: dict[str, np.ndarray]) -> PackedRows:
        """Build from stored parts; CorruptIndexError if they do not fit."""
        codebooks = cls._stored_codebooks(d, arrays)
        width = code_bytes(len(codebooks), _BITS[codebooks.shape[1]])
        return cls(n, d, stored(arrays, "codes", np.uint8, (n, width)), codebooks)

    @classmethod
    @abstractmethod
    def _stored_codebooks(cls, d: int, arrays: dict[str, np.ndarray]) -> np.ndarray:
        """Return the codebooks of stored parts; CorruptIndexError if they are not codebooks for rows of ``d``."""

    def unpacked(self) -> np.ndarray:
        """Return the codes (n, M) uint8, one per byte."""
        return unpacked(self.codes, len(self.codebooks), self.bits)


@dataclass(frozen=True, eq=False)
class ProductCodes(PackedRows):
    """Codes of a product codebook (M, ksub, dsub): the sub-rows stand side by side."""

    kind: ClassVar[str] = "product"

    @cached_property
    def _decoder(self) -> _Decoder:
        return _Decoder(self.codebooks, self.d)

    @classmethod
    def _stored_codebooks(cls, d: int, arrays: dict[str, np.ndarray]) -> np.ndarray:
        return _product_codebooks(arrays, tuple(_BITS), d)

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """Return rows (m, d) float32."""
        return self._decoder.rows(self.codes, self.bits, ids)

    def sums(self, ids: np.ndarray, offsets: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return sums (b, d) float32 of bags, without materializing rows."""
        return self._decoder.sums(self.codes, self.bits, ids, offsets, weights)


@dataclass(frozen=True, eq=False)
class ResidualCodes(PackedRows):
    """Codes of a residual codebook (M, ksub, d): the centroids add up."""

    kind: ClassVar[str] = "residual"

    @classmethod
    def _stored_codebooks(cls, d: int, arrays: dict[str, np.ndarray]) -> np.ndarray:
        codebooks = stored(arrays, "codebooks", np.float32, (None, None, d))
        if codebooks.shape[1] not in _BITS or not len(codebooks):
            raise CorruptIndexError(f"residual codebooks of shape {codebooks.shape}")
        return codebooks

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """Return rows (m, d) float32."""
        flat, rows = rows_with_spare(len(ids), self.d)
        M, ksub, d = self.codebooks.shape
        residual_rows(self.codes, self.bits, self._flat, M, ksub, d, ids, np.empty(M, np.int64), flat)
        return rows

    @cached_property
    def _flat(self) -> np.ndarray:
        return with_spare(self.codebooks)


@dataclass(frozen=True, eq=False)
class GroupedCodes(Form):
    """Codes of one product codebook: of 256 centroids for frequent rows, of the first 64 of them for others.

    Parameters
    ----------
    partition
        Group 0: frequent rows.
    high, low
        (h, M) and (n - h, ceil(6 M / 8)) uint8: codes of 8 and of 6 bits, packed.
    codebooks
        (M, 256, dsub) float32.

    """

    partition: Partition
    high: np.ndarray
    low: np.ndarray
    codebooks: np.ndarray
    kind: ClassVar[str] = "grouped-product"

    @cached_property
    def _decoder(self) -> _Decoder:
        return _Decoder(self.codebooks, self.d)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        return {**self.partition.arrays(), "high": self.high, "low": self.low, "codebooks": self.codebooks}

    @classmethod
    def from_arrays(cls, n: int, d: int, settings: dict[str, Any], arrays: dict[str, np.ndarray]) -> GroupedCodes:
        """Build from stored parts; CorruptIndexError if they do not fit."""
        partition = Partition.from_arrays(n, 2, arrays)
        codebooks = _product_codebooks(arrays, (256,), d)
        is_high = partition.find(contiguous(np.arange(n)))[0] == 0
        h, M = int(is_high.sum()), len(codebooks)
        high = stored(arrays, "high", np.uint8, (h, code_bytes(M, HIGH_BITS)))
        low = stored(arrays, "low", np.uint8, (n - h, code_bytes(M, LOW_BITS)))
        return cls(n, d, partition, high, low, codebooks)

    def unpacked(self) -> np.ndarray:
        """Return the codes (n, M) uint8, one per byte."""
        groups, _ = self.partition.find(contiguous(np.arange(self.n)))
        codes = np.empty((self.n, len(self.codebooks)), np.uint8)
        codes[groups == 0] = self.high
        codes[groups == 1] = unpacked(self.low, len(self.codebooks), LOW_BITS)
        return codes

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """Return rows (m, d) float32."""
        groups, places = self.partition.find(ids)
        found = np.empty((len(ids), self.d), np.float32)
        for group, codes, bits in ((0, self.high, HIGH_BITS), (1, self.low, LOW_BITS)):
            of_group = groups == group
            found[of_group] = self._decoder.rows(codes, bits, places[of_group])
        return found


def _product_codebooks(arrays: dict[str, np.ndarray], centroids: tuple[int, ...], d: int) -> np.ndarray:
    codebooks = stored(arrays, "codebooks", np.float32, (None, None, None))
    M, ksub, dsub = codebooks.shape
    if ksub not in centroids or not (M - 1) * dsub < d <= M * dsub:
        raise CorruptIndexError(f"codebooks of shape {codebooks.shape} for rows of {d}")
    return codebooks
