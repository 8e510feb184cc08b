"""``annvq add``: more vectors for an index."""

from __future__ import annotations

import numpy as np

from annvq.cli.inputs import open_embeddings
from annvq.cli.opening import open_single
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
from annvq.progress import shown

EXAMPLES = examples(
    "add my-index more.npy",
    "add my-index new.parquet --id-column url --attributes all",
)


def command(
    index: IndexPath,
    embeddings: EmbeddingsPaths,
    id_column: IdColumn = None,
    vector_column: VectorColumn = None,
    attributes: Attributes = None,
    threads: Threads = None,
    json: JsonFile = None,
) -> None:
    """Add EMBEDDINGS to INDEX, all of them or none; they are read into memory.

    Vectors without ids get the integers after the largest id.
    """
    with shown() as progress:
        given = open_embeddings(embeddings, vector_column, id_column, attributes, progress)
    with open_single(index, "rw") as opened:
        blocks = list(given.source.batches(max(1, given.source.count or 1)))
        vectors = np.concatenate(blocks) if blocks else np.empty((0, given.source.dim), np.float32)
        opened.add(vectors, ids=given.source.ids(), attributes=given.attributes, threads=threads)
        stats = opened.stats()
    if json is not None:
        write_report({"added": len(vectors), **stats}, json)
    say(screen(json), f"{index}: {len(vectors):,} vectors added, {stats['n']:,} in all, version {stats['version']}")
