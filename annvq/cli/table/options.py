"""The argument that commands of tables share, and what they say about one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from annvq.cli.options import local_path
from annvq.tables import FrozenTable

TablePath = Annotated[
    Path, typer.Argument(parser=local_path, metavar="TABLE", help="File that annvq table compress wrote.")
]


def figures(table: FrozenTable) -> dict[str, Any]:
    """Return what a table is and takes, sizes in bytes."""
    full = 4 * table.num_embeddings * table.embedding_dim
    return {
        "method": table.method,
        "num_embeddings": table.num_embeddings,
        "embedding_dim": table.embedding_dim,
        "bytes": table.nbytes,
        "compression": full / table.nbytes,
        "padding_idx": table.padding_idx,
    }
