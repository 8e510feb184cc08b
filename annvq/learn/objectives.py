"""What is learned: each objective makes a number of a batch, and a trainer sums them, weighted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from annvq.arguments import as_count, as_number
from annvq.errors import ParameterError
from annvq.learn import losses
from annvq.learn.runtime import torch

if TYPE_CHECKING:
    from torch import Tensor

    from annvq.learn.batch import Batch


class Objective(Protocol):
    """Makes a loss of a batch.

    Attributes
    ----------
    needs_relevance
        Whether it can learn only from queries with relevant documents.

    """

    needs_relevance: bool

    def __call__(self, batch: Batch) -> Tensor:
        """Return the loss, a scalar."""
        ...


@dataclass(frozen=True)
class Ranking:
    """Relevant documents above those that the search found: JPQ's (`annvq.learn.losses.lambda_rank`)."""

    cut: int = 100
    temperature: float = 0.05
    needs_relevance = True

    def __post_init__(self) -> None:
        as_count("cut", self.cut)
        as_number("temperature", self.temperature, above=0)

    def __call__(self, batch: Batch) -> Tensor:
        """Return the loss."""
        negatives = (batch.ranks > 0) & ~batch.relevant
        return losses.lambda_rank(batch.scores, batch.relevant, negatives, batch.ranks, self.cut, self.temperature)


@dataclass(frozen=True)
class Contrast:
    """Relevant documents against all of the batch (`annvq.learn.losses.contrastive`)."""

    temperature: float = 0.05
    needs_relevance = True

    def __post_init__(self) -> None:
        as_number("temperature", self.temperature, above=0)

    def __call__(self, batch: Batch) -> Tensor:
        """Return the loss."""
        usable = torch.ones_like(batch.relevant)
        return losses.contrastive(batch.scores, batch.relevant, usable, self.temperature)


@dataclass(frozen=True)
class Distillation:
    """The original embeddings' order of the batch's documents, for codes and for lists (Xiao et al. 2022, eq. 6).

    Parameters
    ----------
    kind
        A key of `annvq.learn.losses.DISTILLATIONS`.
    temperature
        Of teacher and student.
    lists
        Weight of the lists' own loss; without lists there is none.

    """

    kind: str = "listnet"
    temperature: float = 0.05
    lists: float = 1.0
    needs_relevance = False

    def __post_init__(self) -> None:
        if self.kind not in losses.DISTILLATIONS:
            accepted = ", ".join(losses.DISTILLATIONS)
            raise ParameterError(f"unknown distillation {self.kind!r}, expected one of {accepted}")
        as_number("temperature", self.temperature, above=0)

    def __call__(self, batch: Batch) -> Tensor:
        """Return the loss."""
        loss = losses.DISTILLATIONS[self.kind]
        usable = batch.own if self.kind == "ranknet" else torch.ones_like(batch.own)  # all pairs of all would be many
        total = loss(batch.scores, batch.teacher, usable, self.temperature)
        if batch.list_scores is not None and self.lists:
            total = total + self.lists * loss(batch.list_scores, batch.teacher, usable, self.temperature)
        return total


@dataclass(frozen=True)
class Clustering:
    """The squared distance of documents from what their codes stand for, summed over dimensions (RepCONC's MSE)."""

    needs_relevance = False

    def __call__(self, batch: Batch) -> Tensor:
        """Return the loss."""
        return (batch.documents - batch.quantized).square().sum(1).mean()
