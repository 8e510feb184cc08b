"""How a codebook is initialized: by k-means of the first batch it sees, or from its mean and covariance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from annvq.arguments import as_count
from annvq.codebooks import KMeans
from annvq.learn.runtime import torch
from annvq.learn.training.processes import from_first, rows_of_all
from annvq.tokenizers.training.revival import drawn_rows

if TYPE_CHECKING:
    from torch import Tensor

_SPREAD = 0.01  # of the rows' deviation: codes that share a row part


@dataclass(frozen=True)
class KMeansStart:
    """k-means of the first training batch (Zeghidour et al. 2021 (SoundStream), section III-C).

    Parameters
    ----------
    niter
        Iterations of Lloyd's algorithm.
    seed
        Seed of its initialization.

    Raises
    ------
    ParameterError
        A number is outside its range.

    """

    niter: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        as_count("niter", self.niter)
        as_count("seed", self.seed, least=0)

    @torch.no_grad()
    def codes(self, rows: Tensor, count: int) -> Tensor | None:
        """Return codes (count, d) for rows (n, d) of all processes; None if there are none.

        If there are fewer rows than codes, every row becomes a code, and the other codes are rows moved a little.
        """
        rows = rows_of_all(rows.detach())
        if not len(rows):
            return None
        if len(rows) < count:
            more = drawn_rows(rows, count - len(rows))
            spread = rows.std(0, correction=0) * _SPREAD
            return from_first(torch.cat([rows, more + spread * torch.randn_like(more)]))
        vectors = rows.float().cpu().numpy()
        made = KMeans.train(vectors, count, niter=self.niter, seed=self.seed, threads=torch.get_num_threads())
        return from_first(torch.tensor(made.centroids, dtype=rows.dtype, device=rows.device))


@torch.no_grad()
def moments(rows: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return the mean (d,) of rows (n, d) of all processes, and the symmetric square root (d, d) of their covariance.

    None if there are d rows or fewer, or if they are equal up to rounding: codes with such a spread would not separate.
    """
    rows = rows_of_all(rows.detach())
    if len(rows) <= rows.shape[1]:
        return None
    values, vectors = torch.linalg.eigh(torch.cov(rows.T.double()).reshape(rows.shape[1], -1))
    if not values.max() > 1e-20 * rows.double().square().mean():
        return None
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    return from_first(rows.mean(0)), from_first(root.to(rows.dtype).contiguous())
