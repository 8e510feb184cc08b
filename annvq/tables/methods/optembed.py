"""Rows chosen by thresholds, and dimensions by evolutionary search."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from annvq.arguments import as_count, as_number
from annvq.learn.parts.mirrors import tensor_of
from annvq.learn.runtime import torch
from annvq.tables.budget import Budget
from annvq.tables.structure.mixed import MixedTable, empty_mixed, mixed_bytes
from annvq.tables.structure.searched import SearchedTable, as_groups
from annvq.tables.table import gathered, normal

if TYPE_CHECKING:
    from torch import Tensor


class OptEmbed(SearchedTable):
    """Rows below a learned norm are dropped, and every group keeps as many first dimensions as a search finds.

    During training, a row's length is drawn at random at every look-up, so that any length works afterwards
    ("supernet"); rows whose L1 norm is below their group's threshold are zeros. `finish` drops rows, searches lengths
    by mutation and crossover for the best quality within the budget, and makes a table to be trained from scratch.
    Source: Lyu et al. 2022, "OptEmbed: learning optimal embedding table for click-through rate prediction", sections
    3.2 to 3.4.

    See `TableMethod` for the parameters of all methods.

    Parameters
    ----------
    frequencies
        (n,), how often each row is used; None: the first rows are the most frequent.
    groups
        (n,) whole numbers, such as the field of each row; None: eight groups by popularity.
    alpha
        Weight of the penalty sum exp(-threshold).
    threshold_lr
        Learning rate of the thresholds.
    rounds, mutations, crossovers
        Parameters of the search.
    mutation_rate
        Share of a candidate's lengths that a mutation draws anew.
    seed
        Seed of the search.

    Raises
    ------
    BudgetError, ParameterError, ShapeError
        The budget is below one float, or arguments are outside their range.

    """

    method: ClassVar[str] = "OptEmbed"
    uses_frequencies: ClassVar[bool] = True
    next_model: ClassVar[str] = "fresh"
    final_mark: ClassVar[str] = "place"

    def _make(
        self,
        budget: Budget,
        std: float,
        *,
        frequencies: Any = None,
        groups: Any = None,
        alpha: float = 1e-5,
        threshold_lr: float = 1e-4,
        rounds: int = 30,
        mutations: int = 10,
        crossovers: int = 10,
        mutation_rate: float = 0.1,
        seed: int = 0,
    ) -> None:
        self._std = std
        group = as_groups(groups, budget.n, frequencies)
        count = int(group.max()) + 1
        budget.check(self.method, mixed_bytes(budget.n, budget.d, [1], [1], False) + _extra(budget, count))
        self._alpha = as_number("alpha", alpha, above=-1e-300)
        self._threshold_lr = as_number("threshold_lr", threshold_lr, above=0.0)
        self._rounds = as_count("rounds", rounds, least=0)
        self._mutations, self._crossovers = as_count("mutations", mutations), as_count("crossovers", crossovers)
        self._rate = as_number("mutation_rate", mutation_rate, above=0.0, most=1.0)
        self._seed = as_count("seed", seed, least=0)
        self.weight = normal(budget.n, budget.d, std=std)
        self.threshold = torch.nn.Parameter(torch.zeros(count))
        self.group: Tensor
        self.lengths: Tensor
        self.register_buffer("group", tensor_of(group))
        self.register_buffer("lengths", torch.full((count,), budget.d))

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Return groups for an optimizer: thresholds have their own rate."""
        return [{"params": [self.weight], "lr": lr}, {"params": [self.threshold], "lr": self._threshold_lr}]

    def rows(self, ids: Tensor) -> Tensor:
        """Return rows (m, d) of ids (m,)."""
        found, group = gathered(self.weight, ids, False), self.group[ids]
        kept = _Step.apply(found.abs().sum(1) - self.threshold[group])
        if self.training:
            lengths = torch.randint(1, self.embedding_dim + 1, (len(ids),), device=ids.device)
        else:
            lengths = self.lengths[group]
        mask = torch.arange(self.embedding_dim, device=ids.device) < lengths[:, None]
        return found * kept[:, None] * mask.to(found.dtype)

    def penalty(self) -> Tensor:
        """Return the penalty that pulls the thresholds up."""
        return self._alpha * torch.exp(-self.threshold).sum()

    def empty_final(self) -> MixedTable:
        """Return a table whose rows have no floats."""
        return empty_mixed(self._budget, self.padding_idx, self.sparse, self.method)

    @torch.no_grad()
    def finish(self, evaluate: Callable[[], float] | None = None) -> MixedTable:
        """Drop rows, search lengths, and return a table of them to be trained anew."""
        norms = self.weight.abs().sum(1)
        margins = (norms - self.threshold[self.group]).double().cpu().numpy()
        group, count = self.group.cpu().numpy(), len(self.threshold)
        kept = margins >= 0
        order = np.argsort(margins, kind="stable")
        if self._bytes(group[kept], [1] * count) > self._budget.bytes:  # one float per row is too much: drop more
            low, high = int((~kept).sum()), self._budget.n
            while low < high:
                middle = (low + high) // 2
                fits = self._bytes(group[order[middle:]], [1] * count) <= self._budget.bytes
                low, high = (low, middle) if fits else (middle + 1, high)
            kept[order[:low]] = False
        lengths = self._search(group[kept], evaluate)
        self.lengths.copy_(torch.tensor(lengths))
        labels = np.where(kept, group, count)
        made = MixedTable(
            self._budget, self.padding_idx, False, labels, [*lengths, 0],
            std=self._std, is_projected=False, method=self.method,
        )  # fmt: skip
        return made.to(self.weight.device)

    def _bytes(self, groups: np.ndarray, lengths: Any) -> int:
        sizes = [*np.bincount(groups, minlength=len(lengths)), 0]
        return mixed_bytes(self._budget.n, self._budget.d, sizes, [*lengths, 0], False)

    def _search(self, groups: np.ndarray, evaluate: Callable[[], float] | None) -> list[int]:
        """Return the lengths of all groups that evaluate best, of those that fit."""
        rng, count, d = np.random.default_rng(self._seed), len(self.threshold), self.embedding_dim

        def fitting(lengths: np.ndarray) -> tuple[int, ...]:
            """Shorten lengths at random until they fit, then lengthen them while they do."""
            lengths = np.clip(lengths, 1, d)
            while self._bytes(groups, lengths) > self._budget.bytes:
                lengths[rng.choice(np.flatnonzero(lengths > 1))] -= 1
            for g in rng.permutation(count):
                while lengths[g] < d and self._bytes(groups, lengths + (np.arange(count) == g)) <= self._budget.bytes:
                    lengths[g] += 1
            return tuple(int(length) for length in lengths)

        even = next((k for k in range(d, 0, -1) if self._bytes(groups, [k] * count) <= self._budget.bytes), 1)
        candidates = [fitting(np.full(count, even))]
        if evaluate is None or not self._rounds:
            return list(candidates[0])
        number = self._mutations + self._crossovers
        candidates += [fitting(rng.integers(1, d + 1, count)) for _ in range(number - 1)]
        known: dict[tuple[int, ...], float] = {}
        for _ in range(self._rounds):
            for candidate in candidates:
                if candidate not in known:
                    self.lengths.copy_(torch.tensor(candidate))
                    known[candidate] = float(evaluate())
            best = sorted(known, key=known.__getitem__, reverse=True)[:number]
            candidates = []
            for _ in range(self._mutations):
                parent = np.array(best[rng.integers(len(best))])
                anew = rng.random(count) < self._rate
                candidates.append(fitting(np.where(anew, rng.integers(1, d + 1, count), parent)))
            for _ in range(self._crossovers):
                parents = [np.array(best[rng.integers(len(best))]) for _ in range(2)]
                candidates.append(fitting(np.where(rng.random(count) < 0.5, *parents)))
        return list(max(known, key=known.__getitem__))


class _Step(torch.autograd.Function):
    """1 above 0, else 0; its gradient is that of the long-tailed estimator (Liu et al. 2020, equation 6)."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.save_for_backward(values)
        return (values > 0).to(values.dtype)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        size = ctx.saved_tensors[0].abs()
        near = torch.where(size <= 0.4, 2 - 4 * size, torch.full_like(size, 0.4))
        return slope * torch.where(size <= 1, near, torch.zeros_like(size))


def _extra(budget: Budget, count: int) -> int:
    """Return what a partition into the groups and the dropped rows takes more than one group does."""
    bytes_of = [mixed_bytes(budget.n, budget.d, [0] * groups, [0] * groups, False) for groups in (1, count + 1)]
    return bytes_of[1] - bytes_of[0]
