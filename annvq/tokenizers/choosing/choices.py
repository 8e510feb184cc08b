"""Which code stands for a row while training: the nearest, one drawn at random, or a balanced assignment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from annvq.arguments import as_count, as_number
from annvq.errors import ParameterError
from annvq.learn.codes.assignment import EPSILON, ITERATIONS, LEAST_EPSILON, sinkhorn
from annvq.tokenizers.choosing.blocked import argmax, centred, distance_logits, noise_seed
from annvq.tokenizers.choosing.nearest import CodeSearch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Nearest:
    """The nearest code."""

    def choose(self, rows: Tensor, codes: Tensor, search: CodeSearch) -> Tensor:
        """Return the codes of rows.

        Parameters
        ----------
        rows
            (n, d) floats.
        codes
            (k, d), the codebook.
        search
            What finds the nearest codes.

        Returns
        -------
        Tensor
            (n,) int64.

        """
        return search(rows, codes, moving=True)


@dataclass(frozen=True)
class Stochastic:
    """A code drawn from the softmax of -|z - e|^2 / temperature, by Gumbel noise (Takida et al. 2022 draw so).

    Parameters
    ----------
    temperature
        Above 0; towards 0 the nearest is drawn.

    Raises
    ------
    ParameterError
        The temperature is not above 0.

    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        as_number("temperature", self.temperature, above=0)

    def choose(self, rows: Tensor, codes: Tensor, search: CodeSearch) -> Tensor:
        """Return the codes of rows.

        Parameters
        ----------
        rows, codes
            The same as for `Nearest.choose`.
        search
            Not used: all codes are compared.

        Returns
        -------
        Tensor
            (n,) int64.

        """
        rows, codes = centred(rows, codes)
        return argmax(rows, *distance_logits(codes, self.temperature), seed=noise_seed())


@dataclass(frozen=True)
class Balanced:
    """The code to which Sinkhorn's plan sends most of a row; the plan uses all codes equally over the batch.

    See `annvq.learn.codes.assignment.sinkhorn` (Zhan et al. 2022 (RepCONC), section 4.3). The plan has batch x codes
    entries, which suits codebooks of a few thousand codes.

    Parameters
    ----------
    epsilon, iterations
        Parameters of the plan; epsilon is at least 0.002.

    Raises
    ------
    ParameterError
        A number is outside its range.

    """

    epsilon: float = EPSILON
    iterations: int = ITERATIONS

    def __post_init__(self) -> None:
        if as_number("epsilon", self.epsilon, above=0) < LEAST_EPSILON:
            raise ParameterError(f"epsilon must be at least {LEAST_EPSILON}, not {self.epsilon}")
        as_count("iterations", self.iterations)

    def choose(self, rows: Tensor, codes: Tensor, search: CodeSearch) -> Tensor:
        """Return the codes of rows.

        Parameters
        ----------
        rows, codes
            The same as for `Nearest.choose`.
        search
            Not used: all codes are compared.

        Returns
        -------
        Tensor
            (n,) int64.

        """
        rows, codes = centred(rows, codes)
        products = rows @ codes.T
        distances = rows.square().sum(1, keepdim=True) - 2 * products + codes.square().sum(1)
        return sinkhorn(distances, self.epsilon, self.iterations).argmax(1)


Choice = Nearest | Stochastic | Balanced
