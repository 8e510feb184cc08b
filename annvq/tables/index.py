"""An index over a table's codes, which are packed for the scan as they are, without being decoded."""

from __future__ import annotations

from typing import Any

import numpy as np

from annvq.codebooks import ProductCodebook, ResidualCodebook
from annvq.errors import ParameterError
from annvq.index.codes.spec import CodebookSpec
from annvq.index.index import Index
from annvq.index.recipe import Recipe
from annvq.index.recipe.spec import SearchDefaults
from annvq.index.trained import Trained
from annvq.index.versions.versioned import VersionedRows
from annvq.metrics import CODE_METRICS
from annvq.tables.frozen.codes import GroupedCodes, ProductCodes, ResidualCodes
from annvq.tables.frozen.rabitq import RaBitQRows
from annvq.tables.frozen.table import FrozenTable


def index_of(table: FrozenTable, metric: str) -> Index:
    """Return an index of a table's rows, whose ids are 0 to n - 1; the padding row is one of them.

    Parameters
    ----------
    table
        A table of product, residual or RaBitQ codes.
    metric
        "ip" or "l2"; RaBitQ's factors are made for "ip".

    Raises
    ------
    ParameterError
        Another kind of table, or another metric.

    """
    if metric not in CODE_METRICS:
        raise ParameterError(f"metric of a table's index must be one of {', '.join(CODE_METRICS)}, not {metric!r}")
    form = table.form
    codebook: Any
    arrays: dict[str, np.ndarray]
    centroids, rotation = None, None
    if isinstance(form, ProductCodes | GroupedCodes):
        codebook = ProductCodebook(form.codebooks, form.d)
        spec = CodebookSpec(kind="pq", M=codebook.M, nbits=codebook.nbits)
        arrays = {"codes": form.unpacked()}
    elif isinstance(form, ResidualCodes):
        codebook = ResidualCodebook(form.codebooks)
        spec = CodebookSpec(kind="rvq", M=codebook.M, nbits=codebook.nbits)
        arrays = {"codes": form.unpacked()}
    elif isinstance(form, RaBitQRows):
        if metric != "ip":
            raise ParameterError(f"RaBitQ's factors are for metric 'ip', not {metric!r}")
        codebook, centroids, rotation, arrays = form.codebook, form.center[None], "random", form.encoded
        spec = CodebookSpec(kind="rabitq", nbits=codebook.nbits)
    else:
        raise ParameterError(
            f"{table.method} keeps no codes that the scan reads: expected PQ, RVQ, DPQ, MGQE or RaBitQ"
        )
    recipe = Recipe(rotation=rotation, codebook=spec, search=SearchDefaults(nprobe=None, rerank=None))
    trained = Trained(recipe, metric, form.d, centroids=centroids, codebook=codebook)
    return Index(VersionedRows.from_codes(trained, np.zeros(form.n, np.int64), arrays))
