"""``annvq table verify``: whether every row of an embedding table can be read."""

from __future__ import annotations

import numpy as np

from annvq import tables
from annvq.cli.options import JsonFile, examples
from annvq.cli.output import write_report
from annvq.cli.screen import say, screen
from annvq.cli.table.options import TablePath
from annvq.errors import CorruptIndexError

EXAMPLES = examples("table verify table.safetensors")
_ROWS = 1 << 14  # decoded at a time


def command(table: TablePath, json: JsonFile = None) -> None:
    """Read all of TABLE and compute every row; the command fails if the file is damaged or a row is not finite.

    The file format has no checksums, so a changed byte that still makes a row is not found.
    """
    opened = tables.open(table)
    for start in range(0, len(opened), _ROWS):
        rows = opened(np.arange(start, min(start + _ROWS, len(opened))))
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            raise CorruptIndexError(f"{table}: row {start + int(np.argmin(finite))} holds NaN or infinity")
    if json is not None:
        write_report({"path": str(table), "num_embeddings": len(opened), "intact": True}, json)
    say(screen(json), f"{table}: readable, {len(opened):,} rows")
