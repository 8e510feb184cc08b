"""Second lists: every row is coded twice, in its own list and in one that a query finds when it misses the first.

Maximum inner product search looks for vectors along the query. It misses those whose difference from their
centroid also points along the query, because the centroid then scores too low. A second code, relative to
a centroid whose difference points elsewhere, is found independently of the first
(Sun et al. 2023, "SOAR", arXiv:2404.00774).

The rows themselves, with ids and refine rows, stay where they are, in the order of their first lists. A
segment gets these additional sections:

    spill.offsets   (nlist + 1,) int64    where each list's second codes begin
    spill.rows      (n,) uint32           the rows that they code
    spill.codes.*   packed as the first codes are
"""

from __future__ import annotations

import numpy as np

from annvq.arrays import offsets_of
from annvq.errors import CorruptIndexError
from annvq.index.codes.kind import Layout, Section, packed_codes
from annvq.kernels import threads as pool
from annvq.kernels.clusters import spill
from annvq.kernels.clusters.propose import byte_sites
from annvq.kernels.registers.tiles import readonly
from annvq.kernels.scan import scan4
from annvq.kernels.scan.lists import blocks_for
from annvq.kernels.vectors import gemm

OFFSETS, ROWS, CODES = "spill.offsets", "spill.rows", f"spill.codes.{scan4.LAYOUT}"
OTHER_CODES = f"spill.codes.{scan4.OTHER_LAYOUT}"
LISTS, UNPACKED = "spill.lists", "spill.codes"  # per row, before packing
WEIGHT = 1.5  # lambda, the same as in ScaNN's documentation
_ROWS_A_TASK = 1024


class SecondLists:
    """What chooses second lists, besides ``centroids`` (nlist, d) float32; it is made once, for all vectors to come."""

    def __init__(self, centroids: np.ndarray) -> None:
        sites = byte_sites(centroids)
        shifted = np.zeros((sites.matrix.offsets.size, centroids.shape[1]), np.float32)
        shifted[: len(centroids)] = centroids - sites.shift
        between = gemm.products(shifted[: len(centroids)], gemm.pack(shifted), len(shifted))
        between -= (0.5 * np.square(shifted, dtype=np.float64).sum(axis=1)).astype(np.float32)
        self.sites, self.between = sites, readonly(between)

    def of(self, vectors: np.ndarray, labels: np.ndarray, threads: int) -> np.ndarray:
        """Return another list for every vector (n, d) of the lists ``labels`` (n,): (n,) int32."""
        out = np.empty(len(vectors), np.int32)

        def choose(part: slice) -> None:
            some, own = readonly(vectors[part]), readonly(labels[part])
            spill.second_lists(some, self.sites, self.between, own, np.float32(WEIGHT), out[part])

        pool.run(choose, pool.slices(len(vectors), -(-len(vectors) // _ROWS_A_TASK)), threads)
        return out


def pack(lists: np.ndarray, codes: np.ndarray, nlist: int) -> dict[str, np.ndarray]:
    """Return the sections of rows whose second lists (n,) and codes (n, M) are given."""
    order = np.argsort(lists, kind="stable")
    offsets = offsets_of(np.bincount(lists, minlength=nlist))
    return {OFFSETS: offsets, ROWS: order.astype(np.uint32), CODES: scan4.pack(codes[order], offsets)}


def unpack(arrays: dict[str, np.ndarray], M: int, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return the second lists and codes that `pack` packed for some rows (int64); errors are those of `check_rows`."""
    check_rows(arrays)
    places = np.empty(len(arrays[ROWS]), np.int64)
    places[arrays[ROWS]] = np.arange(len(places))
    wanted = places[rows]
    lists = np.searchsorted(arrays[OFFSETS], wanted, side="right") - 1
    return {LISTS: lists.astype(np.int32), UNPACKED: scan4.unpack(arrays[CODES], arrays[OFFSETS], M, wanted)}


def check(arrays: dict[str, np.ndarray], M: int, n: int, nlist: int) -> dict[str, tuple[type, tuple[int, ...]]]:
    """Return dtype and shape of the sections of ``n`` rows; CorruptIndexError if they name other rows or lists."""
    offsets, rows = arrays.get(OFFSETS), arrays.get(ROWS)
    if offsets is None or offsets.dtype != np.int64 or offsets.shape != (nlist + 1,):
        raise CorruptIndexError(f"section {OFFSETS} is missing or has not {nlist + 1} int64")
    if offsets[0] != 0 or (offsets[1:] < offsets[:-1]).any() or offsets[-1] != n:
        raise CorruptIndexError(f"section {OFFSETS} does not rise from 0 to {n}")
    if rows is not None and rows.dtype == np.uint32 and rows.shape == (n,) and n and rows.max() >= n:
        raise CorruptIndexError(f"section {ROWS} names row {rows.max()} of {n}")
    blocks = int(blocks_for(np.diff(offsets))[-1])
    expected = {name: (section.dtype, section.shape(n, blocks)) for name, section in layout(M).items()}
    return {OFFSETS: (np.int64, (nlist + 1,)), **expected}


def layout(M: int) -> Layout:
    """Return the sections of second codes, M of 4 bits, without the offsets of their lists."""
    return {ROWS: Section(np.uint32, 1, "numbers"), CODES: packed_codes(M, 4)}


def check_rows(arrays: dict[str, np.ndarray]) -> None:
    """Raise CorruptIndexError unless every row is named once, which `unpack` relies on."""
    named = np.zeros(len(arrays[ROWS]), bool)
    named[arrays[ROWS]] = True
    if not named.all():
        raise CorruptIndexError(f"section {ROWS} does not name row {int(np.argmin(named))}, and another twice")
