"""``annvq add``: more vectors or documents for an index."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import typer

from annvq.cli.inputs import Columns, open_documents, open_embeddings
from annvq.cli.opening import open_either
from annvq.cli.options import (
    Attributes,
    EmbeddingsPaths,
    IdColumn,
    IndexPath,
    JsonFile,
    Threads,
    VectorColumn,
    examples,
)
from annvq.cli.output import write_report
from annvq.cli.screen import say, screen
from annvq.multivector import MultiVectorIndex
from annvq.progress import shown

EXAMPLES = examples(
    "add my-index more.npy",
    "add my-index new.parquet --id-column url --attributes all",
    "add my-index changed.parquet --id-column url --attributes all --replace",
)


def command(
    index: IndexPath,
    embeddings: EmbeddingsPaths,
    id_column: IdColumn = None,
    vector_column: VectorColumn = None,
    attributes: Attributes = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of rows that INDEX holds under the same ids.")
    ] = False,
    threads: Threads = None,
    json: JsonFile = None,
) -> None:
    """Add EMBEDDINGS to INDEX, either all of them or none; they are read into memory.

    Vectors without ids get the integers after the largest id. An index of documents takes documents, in the same files
    as annvq build.
    """
    columns = Columns(embeddings, vector_column, id_column, attributes)
    with open_either(index, "rw") as opened:
        what = "documents" if isinstance(opened, MultiVectorIndex) else "vectors"
        with shown() as progress:
            if isinstance(opened, MultiVectorIndex):
                given = open_documents(columns, progress)
                rows = given.source.read()
            else:
                given = open_embeddings(columns, progress)
                blocks = list(given.source.batches(max(1, given.source.count or 1)))
                rows = np.concatenate(blocks) if blocks else np.empty((0, given.source.dim), np.float32)
        change = opened.upsert if replace else opened.add
        change(rows, ids=given.source.ids(), attributes=given.attributes, threads=threads)
        stats = opened.stats()
    if json is not None:
        write_report({"added": len(rows), **stats}, json)
    say(screen(json), f"{index}: {len(rows):,} {what} added, {stats['n']:,} in all, version {stats['version']}")
