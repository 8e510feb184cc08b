"""``annvq build``: an index from files of embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

import annvq
from annvq.bench.console import megabytes
from annvq.cli.inputs import open_embeddings, say_if_lengths_count
from annvq.cli.options import (
    Attributes,
    EmbeddingsPaths,
    IdColumn,
    JsonFile,
    Metric,
    Threads,
    VectorColumn,
    count,
    examples,
    local_path,
)
from annvq.cli.output import write_report
from annvq.cli.screen import say, screen
from annvq.progress import shown

EXAMPLES = examples(
    "build vectors.npy -o my-index",
    "build docs.parquet -o my-index --id-column url --metric cosine --attributes lang,year",
    "build 'parts/*.parquet' -o my-index --recipe IVF1024,PQ64x8,Refine(SQ8)",
)


def command(
    embeddings: EmbeddingsPaths,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", parser=local_path, metavar="INDEX", help="Folder to make; an index there is replaced."
        ),
    ],
    recipe: Annotated[str, typer.Option(metavar="R", help="Name, factory string or TOML file.")] = "auto",
    metric: Annotated[
        Metric | None,
        typer.Option(metavar="ip|l2|cosine", help="Measure of closeness; by default ip, the inner product."),
    ] = None,
    zero: Annotated[
        Literal["error", "score-0"], typer.Option(help="What becomes of zero vectors under cosine.")
    ] = "error",
    id_column: IdColumn = None,
    vector_column: VectorColumn = None,
    attributes: Attributes = None,
    threads: Threads = None,
    seed: Annotated[int, count(least=0, help="Seed of training.")] = 0,
    json: JsonFile = None,
) -> None:
    """Build an index from EMBEDDINGS; they are streamed, never all in memory."""
    with shown() as progress:
        given = open_embeddings(embeddings, vector_column, id_column, attributes, progress)
        if metric is None:
            say_if_lengths_count(given.source, progress)
        index = annvq.build(
            given.source, recipe=recipe, metric=metric or "ip", attributes=given.attributes, zero=zero,
            seed=seed, threads=threads, progress=progress, path=out,
        )  # fmt: skip
    with index:
        stats = index.stats()
    if json is not None:
        write_report(stats, json)
    say(
        screen(json),
        f"{out}: {stats['n']:,} vectors of {stats['dim']} dimensions, recipe {stats['recipe']}, metric "
        f"{stats['metric']}, {stats['bytes_per_vector']:.0f} bytes/vector ({stats['compression']:.1f}x smaller than "
        f"float32), {megabytes(sum(stats['bytes'].values()))}",
    )
