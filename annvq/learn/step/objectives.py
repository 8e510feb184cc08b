"""Training objectives: each computes a loss on a batch, and a trainer takes their weighted sum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from annvq.arguments import as_count, as_number
from annvq.errors import ParameterError
from annvq.learn.runtime import torch
from annvq.learn.step import losses

if TYPE_CHECKING:
    from torch import Tensor

    from annvq.learn.step.batch import Batch


class Objective(Protocol):
    """Computes a loss on a batch.

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
    """Ranks relevant documents above those that the search found: JPQ's loss (`annvq.learn.step.losses.lambda_rank`).

    Parameters
    ----------
    cut
        Rank up to which documents count.
    temperature
        Temperature of the scores.
    judged
        Whether only documents that are relevant to another training query count as negatives. With few queries, most
        documents are relevant to none, and that is all that would be learned about them.

    Raises
    ------
    ParameterError
        A number is outside its range.

    """

    cut: int = 100
    temperature: float = 0.05
    judged: bool = True
    needs_relevance = True

    def __post_init__(self) -> None:
        as_count("cut", self.cut)
        as_number("temperature", self.temperature, above=0)

    def __call__(self, batch: Batch) -> Tensor:
        """Return the loss."""
        negatives = (batch.ranks > 0) & ~batch.relevant
        if self.judged:
            negatives &= batch.judged
        return losses.lambda_rank(batch.scores, batch.relevant, negatives, batch.ranks, self.cut, self.temperature)


@dataclass(frozen=True)
class Contrast:
    """Contrasts relevant documents with all others of the batch (`annvq.learn.step.losses.contrastive`).

    Parameters
    ----------
    temperature
        Temperature of the scores, above 0.
    judged
        The same as for `Ranking`.

    Raises
    ------
    ParameterError
        The temperature is not above 0.

    """

    temperature: float = 0.05
    judged: bool = True
    needs_relevance = True

    def __post_init__(self) -> None:
        as_number("temperature", self.temperature, above=0)

    def __call__(self, batch: Batch) -> Tensor:
        """Return the loss."""
        usable = (batch.judged if self.judged else torch.ones_like(batch.judged)).expand_as(batch.relevant)
        return losses.contrastive(batch.scores, batch.relevant, usable, self.temperature)


@dataclass(frozen=True)
class Distillation:
    """Distills the embeddings' own ranking of the batch's documents into codes and lists (Xiao et al. 2022, eq. 6).

    Parameters
    ----------
    teacher
        "original": the embeddings as they were given. "current": as encoder and adapter make them now; then only codes
        and lists learn from it.
    kind
        A key of `annvq.learn.step.losses.DISTILLATIONS`.
    temperature
        Temperature of teacher and student.
    lists
        Weight of the lists' own loss, which there is only if the index has lists.

    Raises
    ------
    ParameterError
        A word is none that is accepted, or a number is outside its range.

    """

    kind: str = "listnet"
    temperature: float = 0.05
    lists: float = 1.0
    teacher: str = "original"
    needs_relevance = False

    def __post_init__(self) -> None:
        if self.teacher not in ("original", "current"):
            raise ParameterError(f"teacher {self.teacher!r}: expected 'original' or 'current'")
        if self.kind not in losses.DISTILLATIONS:
            accepted = ", ".join(losses.DISTILLATIONS)
            raise ParameterError(f"unknown distillation {self.kind!r}, expected one of {accepted}")
        as_number("temperature", self.temperature, above=0)

    def __call__(self, batch: Batch) -> Tensor:
        """Return the loss."""
        loss = losses.DISTILLATIONS[self.kind]
        usable = batch.own if self.kind == "ranknet" else torch.ones_like(batch.own)  # all pairs would be too many
        queries, teacher, scores = batch.queries, batch.teacher, batch.scores
        if self.teacher == "current":
            queries = queries.detach()
            teacher, scores = queries @ batch.documents.detach().T, queries @ batch.quantized.T
        total = loss(scores, teacher, usable, self.temperature)
        if batch.lists is not None and self.lists:
            total = total + self.lists * loss(queries @ batch.lists.T, teacher, usable, self.temperature)
        return total


@dataclass(frozen=True)
class Clustering:
    """The documents' squared reconstruction error, summed over dimensions (RepCONC's MSE)."""

    needs_relevance = False

    def __call__(self, batch: Batch) -> Tensor:
        """Return the loss."""
        return (batch.documents - batch.quantized).square().sum(1).mean()
