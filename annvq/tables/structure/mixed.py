"""Groups of rows, each with its own dimension: what MDE makes, and what searches of dimensions end with."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, takewhile
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from annvq.errors import ParameterError
from annvq.learn.parts.mirrors import tensor_of
from annvq.learn.runtime import torch
from annvq.tables.budget import FLOAT, Budget
from annvq.tables.frequencies import weights_of
from annvq.tables.frozen.mixed import Mixed
from annvq.tables.frozen.partition import Partition, places_of
from annvq.tables.state import check_budget, check_method
from annvq.tables.table import Table, gathered, inference_array, normal, set_

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Split:
    """Members of every group among some ids, and where in the order of groups each id is."""

    members: tuple[Tensor, ...]
    places: Tensor

    @classmethod
    def of(cls, group: Tensor, count: int) -> Split:
        """Split groups (m,), given their number."""
        order = group.argsort(stable=True)
        places = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        return cls(order.split(torch.bincount(group, minlength=count).tolist()), places)

    def rows(self, of_group: Callable[[int, Tensor], Tensor], dtype: torch.dtype) -> Tensor:
        """Return rows (m, d); ``of_group`` is given a group and its members (k,) and returns their rows (k, d)."""
        used = [g for g, some in enumerate(self.members) if len(some)] or [0]
        parts = [of_group(g, self.members[g]).to(dtype) for g in used]  # autocast's products are in half precision
        return torch.cat(parts).index_select(0, self.places)


class MixedTable(Table):
    """Rows of group g have ``dims[g]`` floats, projected to d or filled with zeros.

    Parameters
    ----------
    budget, padding_idx, sparse
        As for `Table`.
    groups
        (n,) int64, every row's group.
    dims
        Dimension of each group, 0 to d.
    std
        Initial standard deviation of the rows.
    is_projected
        Whether shorter rows are projected; otherwise they are padded with zeros.
    method
        Name of the method that made it.

    """

    method: ClassVar[str] = "MixedTable"
    has_sparse_gradients: ClassVar[bool] = True
    _named: str | None = None

    def __init__(
        self,
        budget: Budget,
        padding_idx: int | None,
        sparse: bool,
        groups: np.ndarray,
        dims: Sequence[int],
        *,
        std: float,
        is_projected: bool = True,
        method: str | None = None,
    ) -> None:
        super().__init__(budget, padding_idx, sparse)
        self._named = method
        self._lay_out(groups, dims, std, is_projected)

    def _lay_out(self, groups: np.ndarray, dims: Sequence[int], std: float, is_projected: bool = True) -> None:
        """Draw the rows of all groups and their projections."""
        self.dims = tuple(int(dim) for dim in dims)
        self.is_projected = is_projected
        sizes = np.bincount(groups, minlength=len(self.dims))
        self.weights = torch.nn.ParameterList(normal(int(size), dim, std=std) for size, dim in zip(sizes, self.dims))
        self.projections = torch.nn.ParameterDict(
            {str(g): normal(self.dims[g], self.embedding_dim, std=1 / math.sqrt(self.dims[g])) for g in self._narrow()}
        )
        self.group: Tensor
        self.place: Tensor
        self.register_buffer("group", tensor_of(groups.astype(np.uint8)))
        self.register_buffer("place", tensor_of(places_of(groups, len(self.dims))))

    @property
    def made_by(self) -> str:
        """Name of the method that made it."""
        return self._named or self.method

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays that are needed at inference."""
        sizes = [weight.shape[0] for weight in self.weights]
        return mixed_bytes(self.num_embeddings, self.embedding_dim, sizes, self.dims, self.is_projected)

    def rows(self, ids: Tensor) -> Tensor:
        """Return rows (m, d) of ids (m,)."""
        place, split = self.place[ids], Split.of(self.group[ids], len(self.dims))
        return split.rows(lambda g, members: self._of_group(g, place[members]), self.weights[0].dtype)

    def _of_group(self, g: int, places: Tensor) -> Tensor:
        """Return rows (m, d) of places (m,) in a group."""
        dim, d = self.dims[g], self.embedding_dim
        if not dim:
            return self.weights[g].new_zeros(len(places), d)
        rows = gathered(self.weights[g], places, self.sparse)
        if str(g) in self.projections:
            return rows @ self.projections[str(g)]
        return torch.nn.functional.pad(rows, (0, d - dim)) if dim < d else rows

    def form(self) -> Mixed:
        """Return the arrays for inference."""
        partition = Partition.of(self.group.cpu().numpy().astype(np.int64), len(self.dims))
        weights = tuple(inference_array(weight) for weight in self.weights)
        projections = {int(g): inference_array(matrix) for g, matrix in self.projections.items()}
        return Mixed(self.num_embeddings, self.embedding_dim, partition, weights, projections)

    def prepare(self, given: Mapping[str, Any], prefix: str) -> None:
        """Take a state's groups and dimensions; errors as of `Table.prepare`, and of groups that do not fit."""
        check_method(self.description(), given, prefix)
        found = _Structure.read(given, prefix, self.num_embeddings, self.embedding_dim)
        if found is not None:
            sizes = [int(size) for size in np.bincount(found.groups, minlength=len(found.dims))]
            taken = mixed_bytes(self.num_embeddings, self.embedding_dim, sizes, found.dims, found.is_projected)
            check_budget(self.made_by, taken, self.budget_bytes)
            if found.dims != self.dims or sizes != [len(weight) for weight in self.weights]:
                self._resize(sizes, found)
        super().prepare(given, prefix)

    def _resize(self, sizes: Sequence[int], found: _Structure) -> None:
        like, d = self.weights[0], self.embedding_dim

        def empty(*shape: int) -> torch.nn.Parameter:
            return torch.nn.Parameter(like.new_empty(shape), requires_grad=like.requires_grad)

        self.dims, self.is_projected = found.dims, found.is_projected
        self.weights = torch.nn.ParameterList(empty(size, dim) for size, dim in zip(sizes, self.dims))
        self.projections = torch.nn.ParameterDict({str(g): empty(self.dims[g], d) for g in self._narrow()})

    def _narrow(self) -> list[int]:
        """Return the groups that have a projection."""
        return [g for g, dim in enumerate(self.dims) if 0 < dim < self.embedding_dim and self.is_projected]

    def approximate(self, weight: np.ndarray, *, frequencies: np.ndarray | None = None, seed: int = 0) -> None:
        """Take each group's singular vectors, weighted by frequency; without projections the first dimensions."""
        counts = weights_of(frequencies, len(weight))
        group = self.group.cpu().numpy()
        for g, dim in enumerate(self.dims):
            members = group == g
            if not dim or not members.any():
                continue
            rows = weight[members]
            if str(g) in self.projections:
                weighted = rows * np.sqrt(counts[members])[:, None]
                gram = weighted.T.astype(np.float64) @ weighted
                basis = np.linalg.eigh(gram)[1][:, ::-1][:, :dim]
                set_(self.projections[str(g)], basis.T)
                rows = rows @ basis
            set_(self.weights[g], rows[:, :dim])


def empty_mixed(budget: Budget, padding_idx: int | None, sparse: bool, method: str) -> MixedTable:
    """Return a table of one group whose rows have no floats, for a state to be loaded into."""
    return MixedTable(budget, padding_idx, sparse, np.zeros(budget.n, np.int64), [0], std=1.0, method=method)


@dataclass(frozen=True)
class _Structure:
    """Groups (n,) int64, their dimensions, and whether there are projections, of a state dictionary."""

    groups: np.ndarray
    dims: tuple[int, ...]
    is_projected: bool

    @classmethod
    def read(cls, given: Mapping[str, Any], prefix: str, n: int, d: int) -> _Structure | None:
        """Return what a state says, or None if it lacks groups or weights: torch reports what is missing.

        Raises
        ------
        ParameterError
            Groups of other rows, weights of other dimensions, or such as do not fit each other.

        """
        group, place = given.get(prefix + "group"), given.get(prefix + "place")
        weights = [given[name] for name in _numbered(given, prefix + "weights.")]
        if group is None or place is None or not weights:
            return None
        made = cls._fitting(group, place, weights, given, prefix, d) if group.shape == place.shape == (n,) else None
        if made is None:
            names = "group, place, weights and projections"
            raise ParameterError(f"{names} of the state do not fit each other and {n} rows of {d}")
        return made

    @classmethod
    def _fitting(
        cls, group: Tensor, place: Tensor, weights: list[Tensor], given: Mapping[str, Any], prefix: str, d: int
    ) -> _Structure | None:
        if group.dtype != torch.uint8 or any(weight.dim() != 2 or weight.shape[1] > d for weight in weights):
            return None
        groups, dims = group.cpu().numpy().astype(np.int64), tuple(weight.shape[1] for weight in weights)
        if int(groups.max()) >= len(dims) or not np.array_equal(place.cpu().numpy(), places_of(groups, len(dims))):
            return None
        if np.bincount(groups, minlength=len(dims)).tolist() != [len(weight) for weight in weights]:
            return None
        start = prefix + "projections."
        found = {name[len(start) :]: tuple(given[name].shape) for name in given if name.startswith(start)}
        if found not in ({}, {str(g): (dim, d) for g, dim in enumerate(dims) if 0 < dim < d}):
            return None
        return cls(groups, dims, bool(found))


def _numbered(given: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """Yield the names prefix + "0", prefix + "1" and so on that there are."""
    return takewhile(given.__contains__, (f"{prefix}{number}" for number in count()))


def mixed_bytes(
    n: int, d: int, sizes: Sequence[int] | np.ndarray, dims: Sequence[int], is_projected: bool = True
) -> int:
    """Return the bytes of groups of ``sizes`` rows of dimensions ``dims``, their partition and projections."""
    floats = sum(int(size) * int(dim) for size, dim in zip(sizes, dims))
    if is_projected:
        floats += sum(int(dim) * d for dim in dims if dim < d)
    return Partition.nbytes(n, len(dims)) + FLOAT * floats
