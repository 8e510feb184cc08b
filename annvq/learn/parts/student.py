"""Everything that can be trained, in one module: codebook, centroids, rotation, adapter, encoder."""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from annvq.errors import ParameterError
from annvq.index.recipe import Recipe
from annvq.index.trained import Trained
from annvq.learn.parts.encoder import Adapter, TextEncoder
from annvq.learn.parts.mirrors import CentroidsMirror, RotationMirror, mirror_of
from annvq.learn.parts.start import Start
from annvq.learn.runtime import torch

if TYPE_CHECKING:
    from torch import Tensor

# What may be trained, and the learning rates of AdamW if none are given (from the methods' papers).
RATES = {
    "codebook": 1e-4,
    "centroids": 1e-3,
    "rotation": 1e-4,
    "adapter": 1e-4,
    "query_encoder": 5e-6,
    "encoder": 5e-6,
}


class Student(torch.nn.Module):
    """The learned parts of an index and the encoder of its queries, as parameters.

    Parameters
    ----------
    start
        The index's parts (product or residual codes, inner product or cosine, no refine store), encoder and
        adapter.
    train
        Keys of `RATES`; all other parts are frozen. "encoder" is both sides' (one model for queries and
        documents), "query_encoder" the queries' alone.

    """

    def __init__(self, start: Start, train: Collection[str]) -> None:
        super().__init__()
        trained = start.trained
        _check(trained, start.encoder, train)
        self._trained = trained
        self.train_parts = frozenset(train)
        self.residual = trained.recipe.codebook.residual
        self.codebook = mirror_of(trained.codebook)
        self.centroids = None if trained.centroids is None else CentroidsMirror(trained.centroids)
        self.rotation = None if trained.rotation is None else RotationMirror(trained.rotation)
        self.adapter = copy.deepcopy(start.adapter)
        if self.adapter is None and "adapter" in train:
            self.adapter = Adapter(trained.dim)
        self.encoder = copy.deepcopy(start.encoder)
        self.encoder_moves = start.encoder_moved or bool({"encoder", "query_encoder"} & set(train))
        for name, part in self._parts().items():
            part.requires_grad_(name in train)

    def _parts(self) -> dict[str, torch.nn.Module]:
        encoder = "encoder" if "encoder" in self.train_parts else "query_encoder"
        parts = {"codebook": self.codebook, "centroids": self.centroids, "rotation": self.rotation}
        parts |= {"adapter": self.adapter, encoder: self.encoder}
        return {name: part for name, part in parts.items() if part is not None}

    def groups(self, rates: dict[str, float]) -> list[dict]:
        """Return the optimizer's groups of parameters, one per trained part."""
        parts = self._parts()
        return [
            {"params": list(parts[name].parameters()), "lr": rates[name], "weight_decay": 0.0}
            for name in RATES
            if name in self.train_parts
        ]

    def adapt(self, queries: Tensor) -> Tensor:
        """Return query vectors (n, d) after the adapter."""
        return queries if self.adapter is None else self.adapter(queries)

    def rotate(self, vectors: Tensor) -> Tensor:
        """Return vectors (n, d) as lists and codes see them."""
        return vectors if self.rotation is None else self.rotation(vectors)

    def lists(self, labels: Tensor) -> Tensor | None:
        """Return the centroids (n, d) of lists (n,), or None without lists."""
        return None if self.centroids is None else self.centroids.decode(labels)

    def train(self, mode: bool = True) -> Student:
        """Set training mode; dropout is active only in the parts that are trained."""
        super().train(mode)
        for name, part in self._parts().items():
            if name not in self.train_parts:
                part.eval()
        return self

    def to_trained(self) -> Trained:
        """Return the index's parts as they stand; what is frozen is the very same."""
        moved: dict[str, Any] = {}
        if "codebook" in self.train_parts:
            moved["codebook"] = self.codebook.to_codebook()
        if "centroids" in self.train_parts and self.centroids is not None:
            moved |= {"centroids": self.centroids.to_centroids(), "coarse_codebook": None}
        if "rotation" in self.train_parts and self.rotation is not None:
            moved["rotation"] = self.rotation.to_rotation()
        return replace(self._trained, **moved)


def check_recipe(recipe: Recipe) -> None:
    """Raise a ParameterError if a recipe's codes cannot be learned."""
    kind = recipe.codebook.kind
    if kind not in ("pq", "rvq"):
        raise ParameterError(f"codes of kind {kind!r} cannot be trained, only product and residual codes (pq, rvq)")
    if recipe.refine is not None or recipe.spill:
        raise ParameterError("a refine store or second lists (spill) decide the ranking themselves: leave them out")


def _check(trained: Trained, encoder: TextEncoder | None, train: Collection[str]) -> None:
    check_recipe(trained.recipe)
    unknown = set(train) - set(RATES)
    if unknown or not train:
        raise ParameterError(f"train = {sorted(train)}: expected some of {', '.join(RATES)}")
    if {"encoder", "query_encoder"} <= set(train):
        raise ParameterError("'encoder' trains one model for queries and documents, 'query_encoder' the queries' only")
    if encoder is None and {"encoder", "query_encoder"} & set(train):
        raise ParameterError("an encoder is to be trained and none is given: give texts and encoder=")
    if trained.metric == "l2":
        raise ParameterError("learned codes are for inner products (metric 'ip' or 'cosine'), not 'l2'")
    if "centroids" in train and trained.centroids is None:
        raise ParameterError("the recipe has no lists whose centroids could be trained")
    if "rotation" in train and (trained.rotation is None or trained.rotation.dim != trained.rotation.dim_out):
        raise ParameterError("the recipe has no rotation that could be trained, to as many dimensions as vectors have")
