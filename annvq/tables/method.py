"""The constructor of all methods: what they share and what each of them adds."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from functools import partial
from typing import Any

from annvq.renamed import former_names
from annvq.tables.budget import Budget
from annvq.tables.table import Table


class TableMethod(Table):
    """A table that is constructed from a number of rows, a dimension and a budget.

    A method implements `_make`, whose keyword-only parameters are its own options; ``inspect.signature`` of the class,
    and thus ``help``, shows them after those of all methods.

    Parameters
    ----------
    num_embeddings, embedding_dim
        Rows n and dimension d of the table that it stands for.
    ratio, bytes
        The budget, given as one of the two: how many times smaller than n * d float32, or the most bytes at inference.
        Methods that always take the same bytes (FP16, INT8, INT16, ALPT) need neither.
    padding_idx
        As for nn.Embedding.
    sparse
        As for nn.Embedding; True only for methods that have sparse gradients (`has_sparse_gradients`).
    std
        Initial standard deviation of the rows.
    options
        The method's own options.

    Raises
    ------
    BudgetError
        The smallest table of the method takes more bytes than the budget.
    ParameterError, ShapeError
        Arguments are outside their range, or do not match the rows.

    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        ratio: float | None = None,
        bytes: int | None = None,
        padding_idx: int | None = None,
        sparse: bool = False,
        std: float = 1.0,
        **options: Any,
    ) -> None:
        natural = partial(self._natural, **options)
        budget = Budget.of(num_embeddings, embedding_dim, ratio, bytes, natural=natural)
        Table.__init__(self, budget, padding_idx, sparse)  # MDE is a MixedTable as well, which is made otherwise
        self._make(budget, std, **options)

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        of_all = list(inspect.signature(TableMethod.__init__).parameters.values())[1:-1]
        own = [each for each in inspect.signature(cls._make).parameters.values() if each.kind is each.KEYWORD_ONLY]
        cls.__signature__ = inspect.Signature([*of_all, *own])

    @classmethod
    def _natural(cls, n: int, d: int, **options: Any) -> int | None:
        """Return the bytes of a table (n, d) without a budget; None: it must be given one."""
        return None

    @abstractmethod
    def _make(self, *given: Any, **options: Any) -> None:
        """Make all parameters and buffers from a `Budget`, the standard deviation and the method's own options."""


__getattr__ = former_names(__name__, {"Method": "TableMethod"})
