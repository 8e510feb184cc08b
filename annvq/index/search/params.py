"""How far a search goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from annvq.arguments import as_count
from annvq.errors import ParameterError


@dataclass(frozen=True)
class SearchParams:
    """How far a search goes: what `Index.tune` finds, an index keeps as its default, and `Index.search` takes.

    Parameters
    ----------
    nprobe
        Lists that are searched, at least 1.
    rerank
        Candidates that the refine store scores again, or documents that are scored by their vectors. A search for k
        takes at least 2 k.

    Examples
    --------
    >>> vectors = np.random.default_rng(0).normal(size=(1000, 32))
    >>> index = annvq.build(vectors, "IVF16,Flat", metric="l2")
    >>> index.search(vectors[7], k=1, params=annvq.SearchParams(nprobe=4, rerank=10)).ids
    array([[7]])

    """

    nprobe: int
    rerank: int


def checked(params: Any) -> SearchParams:
    """Return what a user gave as search parameters, checked (ParameterError)."""
    if not isinstance(params, SearchParams):
        raise ParameterError(f"params: {type(params).__name__}, expected annvq.SearchParams")
    return SearchParams(as_count("nprobe", params.nprobe), as_count("rerank", params.rerank, least=0))
