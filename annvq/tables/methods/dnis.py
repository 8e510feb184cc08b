"""Differentiable neural input search."""

from __future__ import annotations

from typing import ClassVar

from annvq.tables.structure.selection import Selected


class DNIS(Selected):
    """A soft selection of dimensions, moved by the validation loss alone, then pruning value by value.

    See `Selected` for the parameters. Source: Cheng et al. 2020, "Differentiable neural input search for recommender
    systems", sections 3.2 and 3.3 (arXiv 2006.04466), its gradients of first order.
    """

    method: ClassVar[str] = "DNIS"
    alpha_l1: ClassVar[float] = 0.0
