"""Documents of several vectors: encodings, Chamfer similarity, and the index that joins them."""

from annvq.multivector.chamfer import chamfer
from annvq.multivector.fde import FixedDimensionalEncoder
from annvq.multivector.index import MultiVectorIndex
from annvq.multivector.ragged import Ragged
from annvq.multivector.recipe import MultiVectorRecipe
from annvq.multivector.reduce import carve_queries, pool_tokens
from annvq.multivector.warmup import warmup

__all__ = [
    "FixedDimensionalEncoder",
    "MultiVectorIndex",
    "MultiVectorRecipe",
    "Ragged",
    "carve_queries",
    "chamfer",
    "pool_tokens",
    "warmup",
]
