"""annvq: build an index from embeddings, query top-k, keep it on disk, measure what compression costs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from annvq import errors, recipes
    from annvq.collection import Collection, Record
    from annvq.hits import Hits, RangeHits
    from annvq.index.build import build, train
    from annvq.index.index import Index
    from annvq.index.joining import merge
    from annvq.index.opening import from_bytes
    from annvq.index.opening import open_index as open
    from annvq.index.recipe import Recipe
    from annvq.index.search.params import SearchParams
    from annvq.index.warmup import warmup

__version__ = "0.1.0"
__all__ = [
    "Collection", "Hits", "Index", "RangeHits", "Recipe", "Record", "SearchParams", "build", "errors", "from_bytes",
    "merge", "open", "recipes", "train", "warmup",
]  # fmt: skip

_HOMES = {
    "Collection": "annvq.collection",
    "Hits": "annvq.hits",
    "Index": "annvq.index.index",
    "RangeHits": "annvq.hits",
    "Recipe": "annvq.index.recipe",
    "Record": "annvq.collection",
    "SearchParams": "annvq.index.search.params",
    "build": "annvq.index.build",
    "from_bytes": "annvq.index.opening",
    "merge": "annvq.index.joining",
    "open": "annvq.index.opening",
    "train": "annvq.index.build",
    "warmup": "annvq.index.warmup",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: the command line says what is wrong with the environment before kernels look at it."""
    if name in _HOMES:
        home = importlib.import_module(_HOMES[name])
        globals()[name] = found = getattr(home, {"open": "open_index"}.get(name, name))
        return found
    try:
        return importlib.import_module(f"annvq.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"annvq.{name}":
            raise
        raise AttributeError(f"module 'annvq' has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
