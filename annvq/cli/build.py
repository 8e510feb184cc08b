"""``annvq build``: an index from a file of embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import annvq
from annvq.cli.options import FORMATS, Metric, Threads, VectorColumn, local_path
from annvq.io import open_vectors


def command(
    embeddings: Annotated[
        Path,
        typer.Argument(parser=local_path, metavar="EMBEDDINGS", help=f"{FORMATS}."),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", parser=local_path, metavar="INDEX", help="Folder to make; an index there is replaced."
        ),
    ],
    recipe: Annotated[str, typer.Option(help="Name, factory string or TOML file.")] = "auto",
    metric: Annotated[Metric, typer.Option(help="What is close.")] = "ip",
    id_column: Annotated[
        str | None, typer.Option(help="Column of the ids; by default 'id' ('ids' in npz, HDF5), else row numbers.")
    ] = None,
    vector_column: VectorColumn = None,
    threads: Threads = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of training.")] = 0,
) -> None:
    """Build an index from EMBEDDINGS; they are streamed, never all in memory."""
    source = open_vectors(embeddings, vector_column=vector_column, id_column=id_column)
    index = annvq.build(source, recipe=recipe, metric=metric, seed=seed, threads=threads, progress=True, path=out)
    with index:
        stats = index.stats()
    typer.echo(
        f"{out}: {stats['n']:,} vectors of {stats['dim']} dimensions, recipe {stats['recipe']}, "
        f"{stats['bytes_per_vector']:.0f} bytes/vector ({stats['compression']:.1f}x smaller than float32)"
    )
