"""Indexes of single vectors and of documents, opened by whoever does not care which it is."""

from __future__ import annotations

from pathlib import Path

import annvq
from annvq.errors import StateError
from annvq.multivector import MultiVectorIndex


def open_either(path: Path, mode: str = "r") -> annvq.Index | MultiVectorIndex:
    """Open an index of whichever kind; errors are those of `annvq.open`."""
    try:
        return MultiVectorIndex.open(path, mode)
    except StateError:
        return annvq.open(path, mode)
