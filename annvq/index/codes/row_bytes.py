"""Bytes that a row of an index takes: what the sections' layouts come to, without lists' padding to blocks.

Ids, positions and attributes are not counted, nor what all rows share.
"""

from __future__ import annotations

import math

from annvq.codebooks.rabitq import factor_columns
from annvq.index.codes.spec import SCALAR_BITS, CodebookSpec
from annvq.index.values import settled
from annvq.kernels.scan.lists import BLOCK
from annvq.kernels.scan.scan4 import groups_for
from annvq.kernels.vectors.hadamard import padded_dim

_CONSTANT = 4  # float32
_SPILLED_ROW = 4  # uint32: whose a second code is
_GROUP = 64  # bytes of a block's codes of four sub-quantizers


def of_numbers(kind: str, d: int) -> int:
    """Return the bytes of a row that is kept as ``d`` numbers: fp32, fp16, sq8."""
    return SCALAR_BITS[kind] // 8 * d


def of_table_codes(M: int, nbits: int) -> int:
    """Return the bytes of M codes; those of 4 bits are packed in groups of four sub-quantizers."""
    return groups_for(M) * _GROUP // BLOCK if nbits == 4 else M


def of_rabitq(d: int, bits: int) -> int:
    """Return the bytes of codes of whole 64 dimensions, and their factors."""
    return bits * padded_dim(d) // 8 + 4 * factor_columns(bits)


def of_codes(codebook: CodebookSpec, d: int, l2: bool, spilled: bool) -> int:
    """Return the bytes of codes and their constants, of vectors of dimension ``d`` to which ``codebook`` is settled."""
    if codebook.kind == "rabitq":
        return of_rabitq(d, settled(codebook.nbits))
    if codebook.kind == "sq4":
        return of_table_codes(d, 4)
    if codebook.kind in SCALAR_BITS:
        return of_numbers(codebook.kind, d)
    codes = of_table_codes(settled(codebook.M), settled(codebook.nbits))
    has_constant = l2 and (codebook.residual or codebook.kind == "rvq")
    return codes + (codes + _SPILLED_ROW if spilled else 0) + (_CONSTANT if has_constant else 0)


def telling(codebook: CodebookSpec, d: int) -> int:
    """Return the bytes that tell something of a d-dimensional vector: no factors, no padding of dimensions."""
    nbits = settled(SCALAR_BITS.get(codebook.kind, codebook.nbits))
    if codebook.kind in SCALAR_BITS or codebook.kind == "rabitq":
        return math.ceil(nbits * d / 8)
    return of_table_codes(settled(codebook.M), nbits)
