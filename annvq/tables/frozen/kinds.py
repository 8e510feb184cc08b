"""All inference forms by the name that stands in files."""

from __future__ import annotations

from annvq.tables.frozen.codes import GroupedCodes, ProductCodes, ResidualCodes
from annvq.tables.frozen.compositional import Compositional
from annvq.tables.frozen.deep_hash import DeepHash
from annvq.tables.frozen.form import Form
from annvq.tables.frozen.gather import Blocks, Hashed, HotAndShared
from annvq.tables.frozen.integers import Integers
from annvq.tables.frozen.mixed import Mixed
from annvq.tables.frozen.rabitq import RaBitQRows
from annvq.tables.frozen.robe import Robe
from annvq.tables.frozen.sparse import Sparse
from annvq.tables.frozen.tensor_train import TensorTrain

KINDS: dict[str, type[Form]] = {
    form.kind: form
    for form in (
        Hashed,
        Blocks,
        HotAndShared,
        Compositional,
        Robe,
        DeepHash,
        TensorTrain,
        ProductCodes,
        ResidualCodes,
        GroupedCodes,
        RaBitQRows,
        Mixed,
        Sparse,
        Integers,
    )
}
