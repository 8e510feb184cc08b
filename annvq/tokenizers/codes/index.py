"""Items searched by their codes: an index whose scan adds up each code's contribution to a query's score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.arguments import as_choice
from annvq.arrays import frozen
from annvq.codebooks import ProductCodebook, ResidualCodebook
from annvq.errors import ParameterError, ShapeError
from annvq.index.codes.spec import CodebookSpec
from annvq.index.index import Index
from annvq.index.recipe import Recipe
from annvq.index.rows.ids import as_ids
from annvq.index.trained import Trained
from annvq.index.versions.versioned import VersionedRows
from annvq.learn.runtime import torch
from annvq.metrics import CODE_METRICS
from annvq.renamed import unstated_metric
from annvq.tokenizers.tokenizer import Tokenizer, array_of_table

if TYPE_CHECKING:
    from torch import Tensor

_MOST_BYTES = 1 << 30  # of a codebook
_MOST_CODES = 256  # of a column


def to_index(tokenizer: Tokenizer, codes: Tensor, metric: str | None = None, *, ids: Any = None) -> Index:
    """Return an index of items, each known by its codes alone.

    An item is the vector of its z_q at all places, one after the other: (places * dim). Queries are such vectors:
    ``z.flatten(1)`` of latents that were never quantized, or ``tokenizer.decode(codes).flatten(1)``. Scores are those
    of the decoded items, without decoding them; codes are packed to 4 bits if no column has more than 16.

    Parameters
    ----------
    tokenizer
        A tokenizer whose vectors are sums of rows of tables of at most 256 codes: any with at most 256 codes per
        codebook, and `FSQ`, `LFQ`, `BSQ` and `BinaryQuantizer` of any size.
    codes
        (n, ...) as `encode` gives them for (n, ..., dim), without -1.
    metric
        "ip" or "l2". The default, which is deprecated, is "l2".
    ids
        (n,) integers or str; None for 0 to n - 1.

    Raises
    ------
    ParameterError
        Another metric, more codes per codebook, masked codes, or tables of more than 1 GiB (many places of codes that
        are no product): build an index of decoded vectors instead.
    ShapeError, DtypeError
        Not codes of this tokenizer.

    Examples
    --------
    >>> import torch
    >>> tokenizer = annvq.tokenizers.KMeansTokenizer(8, 16).fit(torch.randn(500, 8))
    >>> codes = tokenizer.encode(torch.randn(100, 4, 8))
    >>> index = annvq.tokenizers.to_index(tokenizer, codes, "l2")
    >>> index.search(tokenizer.decode(codes[:1]).flatten(1), k=1).ids
    array([[0]])

    """
    metric = as_choice("metric", unstated_metric("l2") if metric is None else metric, CODE_METRICS)
    flat, shape = tokenizer.flat_codes(codes)
    if not shape or not shape[0]:
        raise ShapeError(f"codes: shape {tuple(codes.shape)}, expected at least one item (n, ...)")
    if flat.min() < 0:
        raise ParameterError("codes hold -1: items of fewer places have no distance from others")
    n = shape[0]
    codebook = _codebook(tokenizer, len(flat) // n)
    columns = tokenizer.code_columns(flat).reshape(n, -1).to("cpu", torch.uint8).numpy()
    kind = "rvq" if isinstance(codebook, ResidualCodebook) else "pq"
    recipe = Recipe(codebook=CodebookSpec(kind=kind, M=codebook.M, nbits=codebook.nbits))
    trained = Trained(recipe, metric, codebook.dim, codebook=codebook)
    column = None if ids is None else as_ids(ids, n)
    return Index(VersionedRows.from_codes(trained, np.zeros(n, np.int64), {"codes": columns}, column))


def _codebook(tokenizer: Tokenizer, places: int) -> ProductCodebook | ResidualCodebook:
    """Return the codebook of items of this many places."""
    if tokenizer.column_size > _MOST_CODES:
        raise ParameterError(
            f"{tokenizer.column_size} codes a codebook, a scan has at most {_MOST_CODES}: "
            "build an index of decode(codes).flatten(1) instead"
        )
    tables = [array_of_table(table) for table in tokenizer.column_tables()]
    ksub = 16 if tokenizer.column_size <= 16 else _MOST_CODES
    columns = np.stack([_filled(table, ksub) for table in tables])
    parts = _side_by_side(columns)
    if parts is not None:
        return ProductCodebook(frozen(np.tile(parts, (places, 1, 1)), np.float32), places * tokenizer.dim)
    size = places * len(columns) * ksub * places * tokenizer.dim * 4
    if size > _MOST_BYTES:
        raise ParameterError(
            f"{places} places of {len(columns)} codes whose sum is a vector take tables of {size / 2**30:.1f} GiB, "
            "more than 1: build an index of decode(codes).flatten(1) instead"
        )
    whole = np.zeros((places, len(columns), ksub, places, tokenizer.dim), np.float32)
    for place in range(places):
        whole[place, :, :, place] = columns
    return ResidualCodebook(frozen(whole.reshape(-1, ksub, places * tokenizer.dim), np.float32), 1)


def _filled(table: np.ndarray, ksub: int) -> np.ndarray:
    """Return a table (k, dim) with rows up to ksub, which no code names."""
    return np.concatenate([table, np.repeat(table[:1], ksub - len(table), 0)])


def _side_by_side(columns: np.ndarray) -> np.ndarray | None:
    """Return (C, ksub, dim / C) of tables (C, ksub, dim) that have a run of dimensions each; None for others."""
    count, ksub, dim = columns.shape
    if dim % count:
        return None
    split = columns.reshape(count, ksub, count, dim // count)
    own = np.arange(count)
    parts = split[own, :, own].copy()
    split = split.copy()
    split[own, :, own] = 0
    return None if split.any() else parts
