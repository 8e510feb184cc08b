"""How well codes are used: utilization and entropy of every codebook."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from annvq.errors import ShapeError


@dataclass(frozen=True)
class CodeHealth:
    """How well M codebooks are used.

    Parameters
    ----------
    utilization
        (M,) share of the centroids that stand for at least one vector.
    entropy
        (M,) bits: log2(ksub) if all centroids are used equally.

    """

    utilization: np.ndarray
    entropy: np.ndarray

    @classmethod
    def of(cls, codes: np.ndarray, ksub: int) -> CodeHealth:
        """Measure codes (n, M) of 0 to ksub - 1 (ShapeError for others)."""
        if codes.ndim != 2:
            raise ShapeError(f"codes of shape {codes.shape}, expected (n, M)")
        counts = np.stack([np.bincount(column, minlength=ksub) for column in codes.T]) if codes.shape[1] else codes.T
        shares = counts / max(1, len(codes))
        logs = np.log2(shares, out=np.zeros(shares.shape), where=shares > 0)
        return cls((counts > 0).mean(axis=1), -(shares * logs).sum(axis=1))

    def row(self) -> dict[str, float]:
        """Return means and minima, for tables and JSON."""
        return {
            "utilization": round(float(self.utilization.mean()), 5),
            "least_utilization": round(float(self.utilization.min()), 5),
            "entropy_bits": round(float(self.entropy.mean()), 4),
            "least_entropy_bits": round(float(self.entropy.min()), 4),
        }
