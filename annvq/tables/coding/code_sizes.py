"""How many codes of how many bits a table's budget allows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from annvq.tables.budget import FLOAT, Budget, most_that_fits
from annvq.tables.frozen.codes import code_bytes

BITS = (8, 4)
_MOST_STAGES = 512


@dataclass(frozen=True)
class CodeSizes:
    """M codes per row, each of 4 or 8 bits."""

    M: int
    nbits: int

    @property
    def ksub(self) -> int:
        """Centroids of a code."""
        return 1 << self.nbits

    def product_bytes(self, n: int, d: int) -> int:
        """Return the bytes of packed codes and product codebooks."""
        return n * code_bytes(self.M, self.nbits) + FLOAT * self.ksub * self.M * -(-d // self.M)

    def residual_bytes(self, n: int, d: int) -> int:
        """Return the bytes of packed codes and residual codebooks."""
        return n * code_bytes(self.M, self.nbits) + FLOAT * self.ksub * self.M * d


def subspaces(d: int, most: int) -> int:
    """Return the number of sub-spaces of equal length, the last perhaps shorter, that is nearest below ``most``."""
    return -(-d // -(-d // most)) if most else 0


def product_sizes(budget: Budget, method: str) -> CodeSizes:
    """Return the product codes with the most bits per row that meet the budget; among equals, those of 8 bits.

    Raises
    ------
    BudgetError
        Even one code per row exceeds the budget.

    """
    return _sizes(budget, method, budget.d, CodeSizes.product_bytes, lambda most: subspaces(budget.d, most))


def residual_sizes(budget: Budget, method: str) -> CodeSizes:
    """Return the residual codes with the most bits per row that meet the budget; errors as for `product_sizes`."""
    return _sizes(budget, method, _MOST_STAGES, CodeSizes.residual_bytes, lambda most: most)


def _sizes(
    budget: Budget,
    method: str,
    most: int,
    bytes_of: Callable[[CodeSizes, int, int], int],
    kept: Callable[[int], int],
) -> CodeSizes:
    best, smallest = CodeSizes(0, 8), math.inf
    for bits in BITS:

        def fits(M: int, bits: int = bits) -> bool:
            return bytes_of(CodeSizes(kept(M), bits), budget.n, budget.d) <= budget.bytes

        smallest = min(smallest, bytes_of(CodeSizes(1, bits), budget.n, budget.d))
        M = kept(next((M for M in range(most_that_fits(fits, most) if most > 1 else 1, 0, -1) if fits(M)), 0))
        if M * bits > best.M * best.nbits:
            best = CodeSizes(M, bits)
    budget.check(method, int(smallest))
    return best
