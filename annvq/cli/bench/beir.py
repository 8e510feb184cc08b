"""``annvq bench beir``: retrieval quality on a judged text collection."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from annvq.bench import beir, plots
from annvq.bench.console import print_fitting, quality_table
from annvq.cli.bench.result import DEFAULT_OUT, Result, check_places
from annvq.cli.options import JsonFile, Recipes, Threads, check_recall, count, examples, local_path
from annvq.progress import shown

EXAMPLES = examples(
    "bench beir scifact --model sentence-transformers/all-MiniLM-L6-v2 --json result.json",
    "bench beir scifact --model MODEL --recipe flat --recipe balanced --tune 0.95",
)


def command(
    folder: Annotated[
        Path,
        typer.Argument(
            parser=local_path,
            metavar="DIR",
            help="Folder with corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv (.gz is accepted).",
        ),
    ],
    model: Annotated[str, typer.Option(metavar="MODEL", help="Name or folder of a sentence-transformers model.")],
    recipe: Recipes = None,
    split: Annotated[str, typer.Option(metavar="SPLIT", help="Split whose judgements are reported.")] = "test",
    tune: Annotated[
        float | None,
        typer.Option(
            callback=check_recall,
            metavar="R",
            help="Tune each index to this recall@10 on queries that are not reported.",
        ),
    ] = None,
    queries: Annotated[
        int | None, count(help="Largest number of queries to measure, evenly spaced; by default all.")
    ] = None,
    bfloat16: Annotated[
        bool,
        typer.Option(
            "--bfloat16",
            help="Compute token embeddings (for multi-vector recipes) in bfloat16, which is faster on some CPUs.",
        ),
    ] = False,
    threads: Threads = None,
    json: JsonFile = None,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", parser=local_path, metavar="DIR", help="Folder for embeddings and a picture."),
    ] = DEFAULT_OUT,
) -> None:
    """Embed a judged text collection, and measure nDCG, recall, MRR, MAP, bytes and speed of recipes."""
    chosen = tuple(recipe) if recipe else beir.DEFAULT_RECIPES
    picture = out / f"{folder.resolve().name}-{split}-ndcg-bytes.png"
    asked = beir.BeirBench(model, chosen, split=split, threads=threads, tune=tune, queries=queries, bfloat16=bfloat16)
    check_places(json, picture)

    kept = Result("bench beir", json)

    def config_of(result: beir.BeirResult) -> dict[str, Any]:
        done = {*(quality.recipe for quality in result.qualities), *result.failed}
        ahead = [recipe for recipe in chosen if recipe not in done]
        return {**result.config, "failed_recipes": result.failed, "recipes_ahead": ahead}

    with shown() as progress:
        result = beir.run(
            folder, asked, out / "embeddings", progress, lambda result: kept.keep(config_of(result), result.rows())
        )
    kept.finish(config_of(result), result.rows())
    config = result.config
    counts = f"{config['documents']:,} documents, {config['queries']:,} queries"
    title = f"{config['data']} ({split}), {config['model']}: {counts}"
    if result.qualities:
        print_fitting(kept.console, lambda narrow: quality_table(result.qualities, title, narrow))
        kept.draw(
            picture,
            lambda path: plots.quality_against_size(result.qualities, path, f"{title}\nquality against size"),
        )
    for failed, reason in result.failed.items():
        typer.echo(f"annvq: {failed}: {reason}", err=True)
    if result.failed:
        raise typer.Exit(1)
