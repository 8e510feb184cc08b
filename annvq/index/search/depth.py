"""How far a search goes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Depth:
    """``nprobe`` lists are searched, ``rerank`` candidates rescored by the refine store."""

    nprobe: int
    rerank: int
