"""What makes query vectors: given rows or a sentence-transformers model, and an adapter after either."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.errors import ParameterError
from annvq.evaluation import embeddings
from annvq.evaluation.embeddings import Side
from annvq.learn.runtime import torch

if TYPE_CHECKING:
    from torch import Tensor

_ENCODED_AT_ONCE = 64


class TextEncoder(torch.nn.Module):
    """A sentence-transformers model whose embeddings are normalized to unit length."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.training = bool(getattr(model, "training", False))

    def forward(self, texts: Sequence[str], side: Side) -> Tensor:
        """Return the embeddings (n, d) of texts, ``side`` "query" or "document", with gradients."""
        features = embeddings.features_of(self.model, texts, side)
        return torch.nn.functional.normalize(self.model(features)["sentence_embedding"], dim=1)

    def encode(self, texts: Sequence[str], side: Side, progress: Callable[[int], object] | None = None) -> np.ndarray:
        """Return the embeddings (n, d) float32 of any number of texts, without gradients or dropout.

        ``progress`` is called with the number of texts embedded so far.
        """
        were_training = [module for module in self.modules() if module.training]
        self.eval()
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # keeps padding small
        parts: list[np.ndarray] = []
        with torch.inference_mode():
            for start in range(0, len(order), _ENCODED_AT_ONCE):
                places = order[start : start + _ENCODED_AT_ONCE]
                parts.append(self([texts[i] for i in places], side).float().cpu().numpy())
                if progress is not None:
                    progress(start + len(places))
        for module in were_training:
            module.training = True
        vectors = np.empty((len(texts), parts[0].shape[1] if parts else 0), np.float32)
        if parts:
            vectors[order] = np.concatenate(parts)
        return vectors


class Adapter(torch.nn.Module):
    """A linear map of query vectors (d, d) that starts as the identity: q + W q."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(dim, dim))

    def forward(self, queries: Tensor) -> Tensor:
        """Return adapted queries (n, d)."""
        return queries + queries @ self.weight.T

    def matrix(self) -> np.ndarray:
        """Return the whole map (d, d) float32: adapted = queries @ matrix.T."""
        weight = self.weight.detach().float().cpu().numpy()
        return np.eye(len(weight), dtype=np.float32) + weight


def load(encoder: Any) -> TextEncoder:
    """Return an encoder of a sentence-transformers model, its name or folder."""
    if isinstance(encoder, str | os.PathLike):
        return TextEncoder(embeddings.load_model(encoder))
    if isinstance(encoder, torch.nn.Module):
        return TextEncoder(encoder)
    raise ParameterError(f"an encoder is a SentenceTransformer, its name or folder, not {type(encoder).__name__}")


def save(encoder: TextEncoder, adapter: Adapter | None, folder: Path) -> None:
    """Write a folder that sentence-transformers loads, with the adapter as its last but one module; no pickle."""
    from sentence_transformers import SentenceTransformer, models

    model = encoder.model
    modules = list(model)
    if adapter is not None:
        dim = len(adapter.weight)
        dense = models.Dense(dim, dim, bias=False, activation_function=torch.nn.Identity())
        dense.linear.weight.data = torch.from_numpy(adapter.matrix())
        modules.append(dense)
    if not isinstance(modules[-1], models.Normalize):
        modules.append(models.Normalize())
    whole = SentenceTransformer(
        modules=modules, prompts=model.prompts, default_prompt_name=model.default_prompt_name, device="cpu"
    )
    whole.save(str(folder), safe_serialization=True, create_model_card=False)
