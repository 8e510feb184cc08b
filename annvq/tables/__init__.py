"""Embedding tables in a fraction of their bytes, in place of nn.Embedding and nn.EmbeddingBag.

>>> import torch
>>> layer = annvq.tables.CompoEmb(100_000, 64, ratio=10)            # trained from scratch (extra "train")
>>> embedding = torch.nn.Embedding(1000, 64)
>>> table = annvq.tables.compress(embedding, "PQ", ratio=4)         # of what is trained already
>>> table.export("table.safetensors")
>>> annvq.tables.open("table.safetensors")([3, 14]).shape           # NumPy alone (extra "tables")
(2, 64)
"""

# pyright: reportUnsupportedDunderAll=false
from __future__ import annotations

from importlib import import_module
from typing import Any

from annvq.renamed import warn_renamed
from annvq.tables.frozen.table import FrozenTable
from annvq.tables.frozen.table import open_table as open
from annvq.tables.registry import METHODS

_ELSEWHERE = {
    "Table": "table",
    "TableBag": "bag",
    "Trial": "models.recommendation",
    "compress": "models.compression",
    "distill": "distillation",
    "fit": "models.fitting",
    "recommend": "models.recommendation",
}

__all__ = [
    "ALPT",
    "DHE",
    "DNIS",
    "DPQ",
    "FP16",
    "INT8",
    "INT16",
    "MDE",
    "METHODS",
    "MGQE",
    "PEP",
    "PQ",
    "ROBE",
    "RVQ",
    "AdaptEmb",
    "AutoDim",
    "AutoSrh",
    "CompoEmb",
    "Dedup",
    "DeepLight",
    "FrozenTable",
    "Hash",
    "OptEmbed",
    "RaBitQ",
    "TTRec",
    "Table",
    "TableBag",
    "compress",
    "distill",
    "fit",
    "open",
    "recommend",
]


def __getattr__(name: str) -> Any:
    if name == "Proposal":
        warn_renamed("annvq.tables.Proposal", "Trial")
        name = "Trial"
    if name in METHODS:
        return METHODS[name]
    if name in _ELSEWHERE:
        return getattr(import_module(f"annvq.tables.{_ELSEWHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
