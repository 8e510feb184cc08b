"""``annvq build``: an index from files of embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

import annvq
from annvq.bench.console import megabytes
from annvq.cli.inputs import Columns, has_documents, open_documents, open_embeddings, say_if_lengths_count
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
from annvq.codebooks.accelerator import accelerated_by
from annvq.errors import RecipeError
from annvq.index.build import accelerator_of
from annvq.multivector import MultiVectorIndex
from annvq.multivector import recipe as multivector_recipes
from annvq.progress import Progress, shown

EXAMPLES = examples(
    "build vectors.npy -o my-index",
    "build docs.parquet -o my-index --id-column url --metric cosine --attributes lang,year",
    "build 'parts/*.parquet' -o my-index --recipe IVF1024,PQ64x8,Refine(SQ8)",
    "build vectors.npy -o my-index --device cuda",
    "build vectors.npy -o my-index --prefer speed --bytes-per-vector 1000",
    "build tokens.parquet -o my-index --recipe muvera-4bit",
)
_FOR_DOCUMENTS = "muvera"  # instead of "auto", which chooses among recipes for single vectors


def command(
    embeddings: EmbeddingsPaths,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", parser=local_path, metavar="INDEX", help="Folder to create; an index there is replaced."
        ),
    ],
    recipe: Annotated[
        str,
        typer.Option(
            metavar="R",
            help=f"Name, factory string or TOML file; for documents of several vectors, auto is {_FOR_DOCUMENTS}.",
        ),
    ] = "auto",
    prefer: Annotated[
        Literal["speed", "memory", "build"] | None,
        typer.Option(
            metavar="speed|memory|build",
            help="What matters most where recipe auto chooses: fast searches, few bytes or a quick build.",
        ),
    ] = None,
    bytes_per_vector: Annotated[
        int | None, count(help="Most bytes per vector that what recipe auto chooses may take; ids are not counted.")
    ] = None,
    metric: Annotated[
        Metric | None,
        typer.Option(
            metavar="ip|l2|cosine|hamming",
            help="Measure of closeness; by default ip, the inner product; hamming is for packed bits (uint8). "
            "Documents of several vectors have their own.",
        ),
    ] = None,
    zero: Annotated[
        Literal["error", "score-0"],
        typer.Option(metavar="error|score-0", help="What becomes of zero vectors under cosine."),
    ] = "error",
    id_column: IdColumn = None,
    vector_column: VectorColumn = None,
    attributes: Attributes = None,
    threads: Threads = None,
    seed: Annotated[int, count(least=0, help="Seed of training.")] = 0,
    device: Annotated[
        str, typer.Option(metavar="cpu|cuda|cuda:N", help="Where to train and encode; the index is the same.")
    ] = "cpu",
    json: JsonFile = None,
) -> None:
    """Build an index from EMBEDDINGS, which are streamed and never held in memory as a whole.

    Documents of several vectors become an index that is searched by Chamfer similarity. They are lists of vectors in a
    column (Parquet, Arrow), arrays "vectors" (n, d) and "offsets" (m + 1,) (npz), or an array (m, t, d) (npy).
    """
    given = Columns(embeddings, vector_column, id_column, attributes)
    more = {"seed": seed, "threads": threads, "path": out}
    limits = {"prefer": prefer, "bytes_per_vector": bytes_per_vector}
    is_limited = any(value is not None for value in limits.values())
    if is_limited and recipe != "auto":
        raise typer.BadParameter(f"--prefer and --bytes-per-vector go with --recipe auto, not with {recipe!r}")
    with accelerated_by(accelerator_of(device)), shown() as progress:
        documents = _are_documents(given, recipe)
        if documents and is_limited:
            raise typer.BadParameter("--prefer and --bytes-per-vector are for single vectors, not for documents")
        if documents and metric is not None:
            raise typer.BadParameter("--metric is for single vectors; documents are compared by Chamfer similarity")
        if documents:
            index = _of_documents(given, recipe, progress, more)
        else:
            index = _of_vectors(given, recipe, metric, progress, {**more, **limits, "zero": zero})
    with index:
        stats = index.stats()
    if json is not None:
        write_report(stats, json)
    say(screen(json), f"{out}: {(_documents_summary if documents else _vectors_summary)(stats)}")
    if prefer is not None:
        say(screen(json), f"recipe {stats['recipe']}: {stats['use_when']}")


def _are_documents(given: Columns, recipe: str) -> bool:
    """Return whether to build an index of documents; RecipeError if the recipe does not fit the first file."""
    found = has_documents(given)
    wanted = multivector_recipes.is_multivector(recipe)
    if found and not wanted and recipe != "auto":
        expected = ", ".join(multivector_recipes.names())
        raise RecipeError(
            f"recipe {recipe!r} takes single vectors, and {given.files()[0]} holds documents of several vectors: "
            f"expected one of {expected}"
        )
    return found or wanted


def _of_documents(given: Columns, recipe: str, progress: Progress, more: dict[str, Any]) -> MultiVectorIndex:
    documents = open_documents(given, progress)
    name = _FOR_DOCUMENTS if recipe == "auto" else recipe
    return MultiVectorIndex.build(documents.source, name, attributes=documents.attributes, progress=progress, **more)


def _of_vectors(
    given: Columns, recipe: str, metric: Metric | None, progress: Progress, more: dict[str, Any]
) -> annvq.Index:
    vectors = open_embeddings(given, progress)
    if metric is None:
        say_if_lengths_count(vectors.source, progress)
    return annvq.build(
        vectors.source, recipe, metric=metric or "ip", attributes=vectors.attributes, progress=progress, **more
    )


def _vectors_summary(stats: dict[str, Any]) -> str:
    return (
        f"{stats['n']:,} vectors of {stats['dim']} dimensions, recipe {stats['recipe']}, metric {stats['metric']}, "
        f"{stats['bytes_per_vector']:.0f} bytes/vector ({stats['compression']:.1f}x smaller than float32), "
        f"{megabytes(sum(stats['bytes'].values()))}"
    )


def _documents_summary(stats: dict[str, Any]) -> str:
    size = sum(stats["bytes"].values())
    return (
        f"{stats['n']:,} documents with {stats['tokens']:,} vectors of {stats['dim']} dimensions, recipe "
        f"{stats['recipe']}, {size / stats['n']:,.0f} bytes/document, {megabytes(size)}"
    )
