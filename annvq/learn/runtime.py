"""Torch, imported where learning begins."""

from __future__ import annotations

from typing import Any

from annvq.errors import MissingExtraError

try:
    import torch
except ImportError:
    raise MissingExtraError("torch", "train") from None

__all__ = ["safetensors_of_torch", "torch"]


def safetensors_of_torch() -> Any:
    """Return the module `safetensors.torch`; MissingExtraError if it is not installed."""
    try:
        import safetensors.torch
    except ImportError:
        raise MissingExtraError("safetensors", "train") from None
    return safetensors.torch
