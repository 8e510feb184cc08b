"""Bytes that a row of an index takes: what the sections' layouts come to, without lists' padding to blocks.

Ids, positions and attributes are not counted, nor what all rows share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from annvq.codebooks.rabitq import factor_columns
from annvq.index.codes.spec import SCALAR_BITS, CodebookSpec
from annvq.kernels.hadamard import padded_dim
from annvq.kernels.scan4 import BLOCK, groups_for

if TYPE_CHECKING:
    from annvq.index.recipe.spec import Recipe

_CONSTANT = 4  # float32
_SPILLED_ROW = 4  # uint32: whose a second code is
_GROUP = 64  # bytes of a block's codes of four sub-quantizers


def of_recipe(recipe: Recipe, d: int, l2: bool) -> int:
    """Return the bytes of codes, their constants and the refine store, of vectors of dimension ``d``.

    ``recipe`` need not be resolved. Where ``dims`` is a share of the variance this is what all components would take.
    """
    coded = recipe.dims if isinstance(recipe.dims, int) else d
    refine = of_numbers(recipe.refine, d) if recipe.refine else 0
    return _of_codes(recipe.codebook, coded, l2, recipe.spill and not l2) + refine


def of_numbers(kind: str, d: int) -> int:
    """Return the bytes of a row that is kept as ``d`` numbers: fp32, fp16, sq8."""
    return SCALAR_BITS[kind] // 8 * d


def of_table_codes(M: int, nbits: int) -> int:
    """Return the bytes of M codes; those of 4 bits are packed in groups of four sub-quantizers."""
    return groups_for(M) * _GROUP // BLOCK if nbits == 4 else M


def of_rabitq(d: int, bits: int) -> int:
    """Return the bytes of codes of whole 64 dimensions, and their factors."""
    return bits * padded_dim(d) // 8 + 4 * factor_columns(bits)


def _of_codes(codebook: CodebookSpec, d: int, l2: bool, spilled: bool) -> int:
    if codebook.kind == "rabitq":
        assert codebook.nbits is not None  # settled when the spec was made
        return of_rabitq(d, codebook.nbits)
    if codebook.kind == "sq4":
        return of_table_codes(d, 4)
    if codebook.kind in SCALAR_BITS:
        return of_numbers(codebook.kind, d)
    M, nbits = codebook.number_of_codes(d), codebook.nbits
    assert M is not None
    assert nbits is not None  # both settled when the spec was made
    codes = of_table_codes(M, nbits)
    has_constant = l2 and (codebook.residual or codebook.kind == "rvq")
    return codes + (codes + _SPILLED_ROW if spilled else 0) + (_CONSTANT if has_constant else 0)
