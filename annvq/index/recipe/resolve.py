"""Put numbers for "auto" and "d/k": the rules that fit a recipe to n vectors of dimension d.

The rules are starting points, `Index.tune` measures. They assume that the 10 nearest neighbours of
queries like the vectors are wanted.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from annvq.errors import RecipeError
from annvq.index.codes import row_bytes
from annvq.index.codes.spec import SCALAR_BITS, CodebookSpec
from annvq.index.values import check_one_of

if TYPE_CHECKING:
    from annvq.index.recipe.spec import Recipe

METRICS = ("ip", "cosine", "l2")

# Below this, lists save less than choosing them costs.
LEAST_N_FOR_LISTS = 1000
# Lists shorter than a block of the scan (32 vectors) are padding, and centroids of few points are noise.
LEAST_LIST_LENGTH = 30
# Fewer cost questions against passages more quality than the codes do (the README's judged collections).
LEAST_ROWS_SCANNED = 16_384


def auto_nlist(n: int) -> int | None:
    """Return the number of lists for ``n`` vectors: 2 sqrt(n), at most n / 30; None below n = 1000.

    Choosing lists costs nlist products a query and scanning n / nlist codes a list, so that the least
    sum lies at a multiple of sqrt(n); codes are cheaper to scan than centroids, hence not below it.
    """
    if n < LEAST_N_FOR_LISTS:
        return None
    return min(round(2 * math.sqrt(n)), n // LEAST_LIST_LENGTH)


def auto_nprobe(nlist: int, n: int) -> int:
    """Return the lists to scan for ``n`` vectors: 2 sqrt(nlist), at most all, at least 16,384 vectors' worth.

    The share of lists that hold the neighbours falls as lists get more, their number grows. Questions lie
    further from passages than passages from each other, and some thousand codes are scanned in no time.
    """
    return min(nlist, max(round(2 * math.sqrt(nlist)), math.ceil(LEAST_ROWS_SCANNED * nlist / max(1, n))))


def auto_rerank(code_bits_per_dimension: float) -> int:
    """Return the candidates to rescore: 200 / (bits a dimension) rounded up, from 40 to 1000.

    The coarser the codes, the further down the scan's order true neighbours lie.
    """
    return min(1000, max(40, math.ceil(200 / code_bits_per_dimension)))


def resolve(recipe: Recipe, n: int, d: int, metric: str) -> Recipe:
    """Return ``recipe`` with numbers only, checked against n vectors of dimension d.

    Without lists for few vectors (`auto_nlist`) the codebook codes the vectors themselves instead of
    residuals. Score-aware codes are for inner products and dropped for "l2". Where ``dims`` is a share of
    the variance, what depends on it is left to `settle_dims`.

    Raises
    ------
    RecipeError
        More sub-quantizers than dimensions, more lists than vectors, an unknown metric.

    """
    check_one_of("metric", metric, METRICS)
    nlist = auto_nlist(n) if recipe.nlist == "auto" else recipe.nlist
    if nlist is not None and nlist > n:
        raise RecipeError(
            f"nlist = {nlist} lists need at least as many vectors, not n = {n}: use fewer, or nlist = 'auto'"
        )
    codebook = replace(
        recipe.codebook,
        residual=recipe.codebook.residual and nlist is not None,
        score_aware=None if metric == "l2" else recipe.codebook.score_aware,
    )
    nprobe = recipe.search.nprobe
    if nlist is None:
        nprobe = None
    elif nprobe == "auto":
        nprobe = auto_nprobe(nlist, n)
    elif nprobe is not None:
        nprobe = min(nprobe, nlist)  # a fixed nprobe and an automatic nlist
    spill = recipe.spill and nlist is not None and metric != "l2"
    recipe = replace(recipe, nlist=nlist, codebook=codebook, spill=spill, search=replace(recipe.search, nprobe=nprobe))
    if recipe.dims is None:
        return _settle_codes(recipe, d)
    if isinstance(recipe.dims, float):
        return recipe
    if recipe.dims > d:
        raise RecipeError(f"dims = {recipe.dims} components of vectors with d = {d}: use at most {d}")
    return settle_dims(recipe, recipe.dims)


def settle_dims(recipe: Recipe, dims: int) -> Recipe:
    """Return a resolved recipe with the number of components that a share of the variance came to."""
    return _settle_codes(replace(recipe, dims=dims), dims)


def _settle_codes(recipe: Recipe, d: int) -> Recipe:
    """Put numbers for M and rerank, which depend on the dimension d that is coded."""
    codebook = replace(recipe.codebook, M=_number_of_codes(recipe.codebook, d))
    search = recipe.search
    if search.rerank == "auto":
        search = replace(search, rerank=auto_rerank(8 * _told_bytes(codebook, d) / d))
    return replace(recipe, codebook=codebook, search=search)


def _number_of_codes(codebook: CodebookSpec, d: int) -> int | None:
    M = codebook.number_of_codes(d)
    if codebook.kind == "pq" and M is not None and M > d:
        raise RecipeError(f"codebook.M = {M} sub-quantizers do not fit d = {d}: use at most {d}, or M = 'd/2'")
    return M


def _told_bytes(codebook: CodebookSpec, d: int) -> int:
    """Return the bytes that tell something of a d-dimensional vector: no factors, no padding of dimensions."""
    nbits = SCALAR_BITS.get(codebook.kind, codebook.nbits)
    assert nbits is not None  # settled when the spec was made
    if codebook.kind in SCALAR_BITS or codebook.kind == "rabitq":
        return math.ceil(nbits * d / 8)
    M = _number_of_codes(codebook, d)
    assert M is not None  # checked when the spec was made
    return row_bytes.of_table_codes(M, nbits)


def bytes_per_vector(recipe: Recipe, d: int, metric: str = "ip") -> int:
    """Return the bytes a vector of codes, their constants and the refine store, without its id.

    Where ``dims`` is a share of the variance this is what all d components would take: a bound.

    Lists' padding to blocks of 32 is not counted, that of a row is: to four sub-quantizers of 4 bits, to 64 dimensions
    of RaBitQ, which keeps 3 factors (12 bytes) with codes of one bit and 5 (20 bytes) with others. A constant (4 bytes)
    goes with codes of residuals, and with codes of several stages, under "l2".
    """
    check_one_of("metric", metric, METRICS)
    _number_of_codes(recipe.codebook, recipe.dims if isinstance(recipe.dims, int) else d)  # checked
    return row_bytes.of_recipe(recipe, d, metric == "l2")
