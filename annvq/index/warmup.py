"""Compiling kernels ahead of the first use."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np

from annvq.index import recipe as recipes
from annvq.index.build import build
from annvq.index.recipe import Recipe, SearchDefaults

_ROWS = 512  # enough to learn 256 centroids, few enough to cost nothing
_DIM = 32
_M = 4
_NLIST = 4


def warm_up(recipe: Recipe | str | os.PathLike[str], metric: str = "ip") -> None:
    """Compile what building and searching a recipe runs, and keep it in the cache on disk.

    A tiny index is built and searched in every way; kernels that are compiled or cached already cost
    nothing.

    Parameters
    ----------
    recipe
        As for `annvq.build`.
    metric
        "ip", "l2" or "cosine": some kernels differ.

    """
    vectors = np.random.default_rng(0).normal(size=(_ROWS, _DIM)).astype(np.float32)
    index = build(vectors, _small(recipe), metric=metric, threads=1)
    index.search(vectors[:1], threads=1)
    index.search(vectors[:9], filter=np.arange(_ROWS) % 2 == 0)
    index.range_search(vectors[:1], 1.0)
    index.reconstruct([0])
    index.add(vectors[:8], ids=np.arange(_ROWS, _ROWS + 8))
    index.remove([0])
    index.compact()
    index.search(vectors[:1], threads=1)


def _small(recipe: Recipe | str | os.PathLike[str]) -> Recipe:
    """Return a recipe that runs the same kernels on little data; "auto" may end as "balanced"."""
    small = recipes.load("balanced" if recipe == "auto" else recipe)
    if isinstance(small.codebook.M, int):
        small = replace(small, codebook=replace(small.codebook, M=_M))
    if isinstance(small.dims, int):
        small = replace(small, dims=2 * _M)
    nlist = None if small.nlist is None else _NLIST
    return replace(small, nlist=nlist, search=SearchDefaults(), learn=None)
