"""Embedding dimensionality search with a sparse selection."""

from __future__ import annotations

from typing import ClassVar

from annvq.tables.structure.selection import Selected


class AutoSrh(Selected):
    """A soft selection of dimensions that is also drawn towards zero, then pruning value by value.

    See `Selected` for the parameters; 6 splits, a rate of 0.001 and an L1 weight of 1e-5 are the configuration of
    the comparison by Zhang et al. 2024. Source: Kong et al. 2022, "AutoSrh: an embedding dimensionality search
    framework for tabular data prediction", section 4.
    """

    method: ClassVar[str] = "AutoSrh"
    alpha_l1: ClassVar[float] = 1e-5
