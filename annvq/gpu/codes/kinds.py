"""What stands for each kind of code and refine store on a device."""

from __future__ import annotations

from typing import Any

import torch

from annvq.errors import DeviceError
from annvq.gpu.codes.bits import ResidentBits
from annvq.gpu.codes.kind import ResidentCodes, ResidentRefine
from annvq.gpu.codes.local_rows import ResidentLocalRows
from annvq.gpu.codes.rabitq import ResidentRaBitQ
from annvq.gpu.codes.rows import ResidentRows
from annvq.gpu.codes.tables import ResidentTables
from annvq.index.codes.bits import PackedBits
from annvq.index.codes.kinds import KINDS
from annvq.index.codes.localrows import LocalRowStore
from annvq.index.codes.rabitq import RaBitQCodes
from annvq.index.codes.rowstore import RowStore
from annvq.index.codes.tablecodes import TableCodes
from annvq.index.recipe import Recipe
from annvq.index.trained import Trained

_CODES: dict[type, Any] = {
    PackedBits: ResidentBits, RaBitQCodes: ResidentRaBitQ, RowStore: ResidentRows, TableCodes: ResidentTables,
}  # fmt: skip
_REFINES: dict[type, Any] = {RowStore: ResidentRows, LocalRowStore: ResidentLocalRows}


def refuse_graphs(recipe: Recipe) -> None:
    """Raise DeviceError if a recipe's codes are searched on the CPU only."""
    kind = KINDS[recipe.codebook.kind]
    if kind.is_graph:
        raise DeviceError(
            f"recipe {recipe.name!r}: codes of kind {kind.name!r} are searched on the CPU only; "
            "recipes of lists, such as 'fast' and 'ivf-flat', can be moved to a GPU"
        )


def codes_on(trained: Trained, device: torch.device) -> ResidentCodes:
    """Return how an index's codes lie on a device (DeviceError as for `refuse_graphs`)."""
    refuse_graphs(trained.recipe)
    return _CODES[type(trained.codes)](trained.codes, device)


def refine_on(trained: Trained, device: torch.device) -> ResidentRefine | None:
    """Return how an index's refine store lies on a device, or None if it has none."""
    return None if trained.refine is None else _REFINES[type(trained.refine)](trained.refine, device)
