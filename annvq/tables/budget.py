"""The budget that sizes every table: how many bytes it may take at inference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from annvq.arguments import as_count, as_number
from annvq.errors import BudgetError, ParameterError
from annvq.tables.frozen.form import LARGEST_DIM

FLOAT = 4  # bytes of a float32


@dataclass(frozen=True)
class Budget:
    """Bytes for a table (n, d).

    Parameters
    ----------
    bytes
        Upper limit for the bytes of all arrays that are needed at inference.
    n, d
        Rows and dimension of the table.

    """

    bytes: int
    n: int
    d: int

    @classmethod
    def of(
        cls, n: Any, d: Any, ratio: Any, bytes: Any, *, natural: Callable[[int, int], int | None] | None = None
    ) -> Budget:
        """Build from what a user gives.

        Parameters
        ----------
        n, d
            Rows and dimension.
        ratio
            How many times smaller than n * d float32, or None.
        bytes
            The bytes themselves, or None.
        natural
            Returns the bytes that a method takes for (n, d) if it is given neither; None: it must be given one.

        Raises
        ------
        ParameterError
            Both or neither are given, or numbers are outside their range.

        """
        n, d = as_count("num_embeddings", n), as_count("embedding_dim", d, most=LARGEST_DIM)
        if ratio is not None and bytes is not None:
            raise ParameterError(f"expected ratio or bytes, not both: ratio={ratio!r}, bytes={bytes!r}")
        if bytes is not None:
            return cls(as_count("bytes", bytes), n, d)
        if ratio is not None:
            return cls(int(FLOAT * n * d / as_number("ratio", ratio, above=0.0)), n, d)
        needed = None if natural is None else natural(n, d)
        if needed is None:
            raise ParameterError("how small the table is to be: expected ratio=... or bytes=...")
        return cls(needed, n, d)

    def check(self, method: str, smallest: int) -> None:
        """Refuse a budget that cannot be met.

        Raises
        ------
        BudgetError
            The smallest table of this method takes more bytes than the budget.

        """
        if self.bytes < smallest:
            full = FLOAT * self.n * self.d
            raise BudgetError(
                f"{method} of {self.n} rows of {self.d} takes at least {smallest} bytes ({full / smallest:.4g} times "
                f"smaller than float32), and {self.bytes} ({full / max(self.bytes, 1):.4g} times) were given"
            )


def most_that_fits(fits: Callable[[int], bool], most: int) -> int:
    """Return the largest integer from 0 to ``most`` that fits; if one fits, all smaller ones must."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
