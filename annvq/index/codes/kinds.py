"""The available kinds of codes."""

from __future__ import annotations

from annvq.index.codes.bits import BitsKind
from annvq.index.codes.graph import GraphKind
from annvq.index.codes.kind import Kind
from annvq.index.codes.product import ProductKind
from annvq.index.codes.rabitq import RaBitQKind
from annvq.index.codes.residual import ResidualKind
from annvq.index.codes.rowstore import RowKind
from annvq.index.codes.scalar import Scalar4Kind

_ALL: tuple[Kind, ...] = (
    RowKind("fp32", 32, "Flat"),
    RowKind("fp16", 16, "SQfp16"),
    RowKind("sq8", 8, "SQ8"),
    BitsKind(),
    Scalar4Kind(),
    ProductKind(),
    ResidualKind(),
    RaBitQKind(),
    GraphKind(),
)
KINDS: dict[str, Kind] = {kind.name: kind for kind in _ALL}
