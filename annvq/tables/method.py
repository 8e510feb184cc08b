"""The constructor of all methods: what they share, and what each adds."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from functools import partial
from typing import Any

from annvq.tables.budget import Budget
from annvq.tables.table import Table


class Method(Table):
    """A table that is made of a number of rows, a dimension and a budget.

    A method writes `_make`, whose keyword-only parameters are the options of its own; ``inspect.signature`` of the
    class, and thus ``help``, shows them after those of all methods.

    Parameters
    ----------
    num_embeddings, embedding_dim
        Rows n and dimension d of the table that it stands for.
    ratio, bytes
        The budget, one of them: how many times smaller than n * d float32, or the most bytes at inference. Methods
        that always take the same bytes (FP16, INT8, INT16, ALPT) need neither.
    padding_idx
        As of nn.Embedding.
    sparse
        As of nn.Embedding; True only for methods that have sparse gradients (`has_sparse_gradients`).
    std
        Standard deviation of the rows at the start.
    options
        What the method takes besides.

    Raises
    ------
    BudgetError
        The smallest table of the method takes more bytes.
    ParameterError, ShapeError
        Arguments outside their range, or that do not fit the rows.

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
        of_all = list(inspect.signature(Method.__init__).parameters.values())[1:-1]
        own = [each for each in inspect.signature(cls._make).parameters.values() if each.kind is each.KEYWORD_ONLY]
        cls.__signature__ = inspect.Signature([*of_all, *own])

    @classmethod
    def _natural(cls, n: int, d: int, **options: Any) -> int | None:
        """Return the bytes of a table (n, d) that is given no budget; None: it must be given one."""
        return None

    @abstractmethod
    def _make(self, *given: Any, **options: Any) -> None:
        """Make all parameters and buffers; given a `Budget`, the standard deviation, and the method's own options."""
