"""Compiling kernels before their first use."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np

from annvq.errors import ParameterError
from annvq.index import recipe as recipes
from annvq.index.build import build
from annvq.index.index import Index
from annvq.index.recipe import Recipe, SearchDefaults
from annvq.index.search.params import SearchParams
from annvq.index.search.stages import search
from annvq.metrics import INDEX_METRICS, METRICS

_ROWS = 1024  # enough to learn 256 centroids and many lists, few enough to cost nothing
_DIM = 32
_M = 4
_NLIST = 4
_MANY = 768  # lists, of which the centroids are coded
_ADDED = 40


def warmup(recipe: Recipe | str | os.PathLike[str] | Index, *, metric: str | None = None) -> None:
    """Compile everything that an index of this recipe can run, and cache it on disk for other processes.

    Tiny indexes are built, searched in every way, with and without filters, changed and searched again; kernels that
    are compiled or cached already cost nothing. The cache is where `NUMBA_CACHE_DIR` says, else beside annvq's
    sources, else in the user's folder of caches, if it belongs to the user (or root) and nobody else may write to it;
    else there is none, and every process compiles its own. The logger "annvq" says what is compiled and cached where.

    Parameters
    ----------
    recipe
        As for `annvq.build`, or an index, which stays as it is. For documents use `annvq.multivector.warmup`.
    metric
        A metric of `annvq.build`; by default that of the index, or "ip", "l2" and "cosine". Kernels do not depend on
        the dimension.

    Raises
    ------
    ParameterError
        The metric is unknown.
    RecipeError
        The recipe is not valid, or not for this metric.
    StateError
        It is an index of documents.

    """
    if isinstance(recipe, Index):
        recipe.rows.check_plain()
        recipe, metric = recipe.recipe, metric or recipe.metric
    if metric is not None and metric not in INDEX_METRICS:
        raise ParameterError(f"metric {metric!r}: expected one of {', '.join(INDEX_METRICS)}")
    small = small_recipe(recipe)
    of_bits = small.codebook.kind == "bits"
    for one in (metric,) if metric is not None else ("hamming",) if of_bits else METRICS:
        for ids in ([*range(_ROWS + _ADDED)], [str(i) for i in range(_ROWS + _ADDED)]):
            _run(small, one, ids)


def _run(recipe: Recipe, metric: str, ids: list) -> None:
    vectors = np.random.default_rng(0).normal(size=(_ROWS, _DIM)).astype(np.float32)
    vectors = np.packbits(vectors > 0, axis=1) if metric == "hamming" else vectors
    index = build(vectors, recipe, metric=metric, ids=ids[:_ROWS], threads=1)
    _search(index, vectors, ids)
    index.add(vectors[:_ADDED], ids=ids[_ROWS:])  # a segment of its own
    index.remove(ids[:1])
    _search(index, vectors, ids)
    index.compact()


def _search(index: Index, vectors: np.ndarray, ids: list) -> None:
    index.search(vectors[0], threads=1)
    index.search(vectors[:9], threads=1)
    index.search(vectors[:9], filter=ids[4:99], threads=1)
    index.search(vectors[:9], filter=np.ones(len(index), bool), threads=1)
    index.range_search(vectors[:1], 1.0)
    index.reconstruct(ids[4:5])
    # Threads share one query's lists, as they do when there are many rows.
    queries = index.rows.current.trained.accept(vectors[:1], "queries")
    search(index.rows.current.view, queries, 5, SearchParams(_NLIST, 10), 2, split_rows=1)


def small_recipe(recipe: Recipe | str | os.PathLike[str]) -> Recipe:
    """Return a recipe that runs the same kernels on little data; "auto" may become "balanced"."""
    small = recipes.load("balanced" if recipe == "auto" else recipe)
    if isinstance(small.codebook.M, int):
        small = replace(small, codebook=replace(small.codebook, M=_M))
    if isinstance(small.dims, int):
        small = replace(small, dims=2 * _M)
    nlist = small.nlist
    if nlist is not None:
        nlist = _MANY if nlist == "auto" or nlist >= _MANY else _NLIST
    return replace(small, nlist=nlist, search=SearchDefaults(), learn=None)
