"""Torch, imported where learning begins."""

from __future__ import annotations

from annvq.errors import MissingExtraError

try:
    import torch
except ImportError:
    raise MissingExtraError("torch", "train") from None

__all__ = ["torch"]
