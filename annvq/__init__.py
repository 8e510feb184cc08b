"""annvq: build an index from embeddings, query top-k, keep it on disk, measure what compression costs."""

from annvq import errors
from annvq.hits import Hits, RangeHits
from annvq.index.build import build
from annvq.index.index import Index
from annvq.index.opening import open_index as open
from annvq.index.recipe import Recipe
from annvq.index.warmup import warmup

__version__ = "0.1.0"
__all__ = ["Hits", "Index", "RangeHits", "Recipe", "build", "errors", "open", "warmup"]
