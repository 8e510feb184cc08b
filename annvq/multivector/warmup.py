"""Compiling, ahead of the first use, what an index of documents runs."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np

from annvq.index.warmup import small_recipe
from annvq.multivector.index import MultiVectorIndex
from annvq.multivector.recipe import EncoderSpec, MultiVectorRecipe, load

_DOCUMENTS, _ADDED = 1024, 40  # enough to learn 256 centroids and many lists
_DIM = 16
_FEW = 2  # repetitions, and hyperplanes of each


def warmup(recipe: MultiVectorRecipe | str | os.PathLike[str] | MultiVectorIndex = "muvera") -> None:
    """Compile whatever an index of documents of this recipe can run, as `annvq.warmup` does for single vectors.

    Parameters
    ----------
    recipe
        A recipe as for `MultiVectorIndex.build`, or an index, which is not changed.

    """
    small = _small(_recipe_of(recipe) if isinstance(recipe, MultiVectorIndex) else load(recipe))
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(_DOCUMENTS + _ADDED, 3, _DIM)).astype(np.float32)
    for ids in ([*range(len(vectors))], [str(i) for i in range(len(vectors))]):
        index = MultiVectorIndex.build(vectors[:_DOCUMENTS], small, ids=ids[:_DOCUMENTS], threads=1)
        _search(index, vectors, ids)
        index.add(vectors[_DOCUMENTS:], ids=ids[_DOCUMENTS:])
        index.remove(ids[:1])
        _search(index, vectors, ids)
        index.compact()


def _search(index: MultiVectorIndex, vectors: np.ndarray, ids: list) -> None:
    index.search(vectors[:1], threads=1)
    index.search(vectors[:3], filter=ids[4:99], threads=1)
    index.search(vectors[:3], filter=np.ones(len(index), bool), threads=1)
    index.reconstruct(ids[4:5])


def _recipe_of(index: MultiVectorIndex) -> MultiVectorRecipe:
    _, finder = index._current()
    encoder = EncoderSpec(**finder.tokens.settings["encoder"])
    return MultiVectorRecipe(index=index.recipe, encoder=encoder, tokens=finder.tokens.spec, candidates_by=finder.by)


def _small(recipe: MultiVectorRecipe) -> MultiVectorRecipe:
    """Return a recipe that runs the same kernels on little data."""
    spec = recipe.encoder
    encoder = replace(
        spec,
        repetitions=min(_FEW, spec.repetitions),
        simhash_bits=min(_FEW, spec.simhash_bits),
        projection_dim=None if spec.projection_dim is None else _DIM // 2,
        final_dim=None if spec.final_dim is None else _DIM,
    )
    return replace(recipe, encoder=encoder, index=small_recipe(recipe.index))
