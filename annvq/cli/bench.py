"""``annvq bench``: speed against recall (ann), retrieval quality (beir), embedding tables, tokenizers."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from annvq.bench import ann, beir, plots
from annvq.bench.console import print_fitting, quality_table, speed_table, tables_table, tokenizer_table
from annvq.bench.peers import PEERS
from annvq.bench.report import check_place, write_json
from annvq.bench.sweep import Mode
from annvq.cli.options import JsonFile, Recipes, Threads, check_recall, local_path
from annvq.cli.screen import screen
from annvq.errors import MissingExtraError
from annvq.progress import shown

app = typer.Typer(help="Measure recipes and other libraries.", no_args_is_help=True)
_DEFAULT_OUT = Path("bench-out")


@app.command("ann")
def ann_command(
    dataset: Annotated[
        Path,
        typer.Argument(
            parser=local_path, metavar="DATA", help="ann-benchmarks HDF5, or npz with base, query, metric, gt."
        ),
    ],
    recipe: Recipes = None,
    peers: Annotated[str, typer.Option(help=f"Libraries, with commas: {', '.join(PEERS)}.")] = "",
    threads: Annotated[int, typer.Option(min=1, help="For building and searching, every library.")] = 1,
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="Neighbours a query.")] = 10,
    single: Annotated[bool, typer.Option("--single/--batch", help="One query a call, or all queries in one.")] = False,
    every_mode: Annotated[
        bool,
        typer.Option(
            "--every-mode",
            help="Build with THREADS; measure one query a call and a batch on one thread, and a batch on THREADS.",
        ),
    ] = False,
    queries: Annotated[int, typer.Option(min=2, help="Use so many, evenly spaced; half of them are reported.")] = 2000,
    json: JsonFile = None,
    out: Annotated[Path | None, typer.Option(parser=local_path, metavar="DIR", help="Write a picture there.")] = None,
) -> None:
    """Sweep search parameters of recipes and peers on DATA: recall, queries/s, latency, bytes.

    Half of the queries choose the parameters, the other half gives the figures.
    """
    names = tuple(dict.fromkeys(name.strip() for name in peers.split(",") if name.strip()))
    for name in names:
        if name not in PEERS:
            raise typer.BadParameter(f"unknown library {name!r}, expected some of {', '.join(PEERS)}")
    chosen = tuple(recipe) if recipe else ann.DEFAULT_RECIPES
    modes = (Mode(single, threads),)
    if every_mode:
        modes = tuple(dict.fromkeys((Mode(True, 1), Mode(False, 1), Mode(False, threads))))
    asked = ann.AnnBench(chosen, names, k=k, modes=modes, build_threads=threads, queries=queries)
    _check_places(json, None if out is None else out / "recall-qps.png")

    def keep(result: ann.AnnResult) -> None:
        if json is not None:
            write_json(json, "bench ann", result.config, result.rows())

    with shown() as progress:
        result = ann.run(dataset, asked, progress, keep)
    for mode in result.modes:
        print_fitting(screen(), partial(speed_table, result, mode))
        for lib, cores in result.config["cores_used"][str(mode)].items():
            if cores > mode.threads + 0.25:
                typer.echo(f"annvq: {lib} used {cores} cores where {mode.threads} were asked for", err=True)
        if out is not None:
            kind = f"-{'single' if mode.single else 'batch'}-{mode.threads}" if every_mode else ""
            groups = list(result.by_index(mode).values())
            title = f"{dataset.stem}: recall@{k} against speed, {mode}"
            _picture(out / f"recall-qps{kind}.png", partial(plots.recall_against_speed, groups, title=title))


@app.command("beir")
def beir_command(
    folder: Annotated[
        Path,
        typer.Argument(
            parser=local_path, metavar="DIR", help="corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv (.gz accepted)."
        ),
    ],
    model: Annotated[str, typer.Option(help="sentence-transformers model: name or folder.")],
    recipe: Recipes = None,
    split: Annotated[str, typer.Option(help="Judgements to report.")] = "test",
    tune: Annotated[
        float | None,
        typer.Option(callback=check_recall, help="Tune each index to this recall@10 on queries that are not reported."),
    ] = None,
    queries: Annotated[
        int | None, typer.Option(min=1, help="Measure at most so many, evenly spaced; by default all.")
    ] = None,
    bfloat16: Annotated[
        bool,
        typer.Option("--bfloat16", help="Token embeddings, of multi-vector recipes, in bfloat16: faster on some CPUs."),
    ] = False,
    threads: Threads = None,
    json: JsonFile = None,
    out: Annotated[
        Path, typer.Option(parser=local_path, metavar="DIR", help="Embeddings are kept and a picture written there.")
    ] = _DEFAULT_OUT,
) -> None:
    """Embed a judged text collection and measure nDCG, recall, MRR, MAP, bytes and speed of recipes."""
    chosen = tuple(recipe) if recipe else beir.DEFAULT_RECIPES
    picture = out / f"{folder.resolve().name}-{split}-ndcg-bytes.png"
    asked = beir.BeirBench(model, chosen, split=split, threads=threads, tune=tune, queries=queries, bfloat16=bfloat16)
    _check_places(json, picture)

    def keep(result: beir.BeirResult) -> None:
        if json is not None:
            done = {*(quality.recipe for quality in result.qualities), *result.failed}
            ahead = [recipe for recipe in chosen if recipe not in done]
            config = {**result.config, "failed_recipes": result.failed, "recipes_ahead": ahead}
            write_json(json, "bench beir", config, result.rows())

    with shown() as progress:
        result = beir.run(folder, asked, out / "embeddings", progress, keep)
    config = result.config
    counts = f"{config['documents']:,} documents, {config['queries']:,} queries"
    title = f"{config['data']} ({split}), {config['model']}: {counts}"
    if result.qualities:
        print_fitting(screen(), lambda narrow: quality_table(result.qualities, title, narrow))
        _picture(
            picture,
            lambda path: plots.quality_against_size(result.qualities, path, f"{title}\nquality against size"),
        )
    for failed, reason in result.failed.items():
        typer.echo(f"annvq: {failed}: {reason}", err=True)
    if result.failed:
        raise typer.Exit(1)


@app.command("tables")
def tables_command(
    folder: Annotated[
        Path,
        typer.Argument(
            parser=local_path, metavar="DATA", help="Folder of MovieLens 100K, Diabetes 130, or pairs (Gowalla)."
        ),
    ],
    method: Annotated[
        list[str] | None, typer.Option("--method", metavar="M", help="Repeatable; by default all.")
    ] = None,
    ratio: Annotated[
        list[float] | None,
        typer.Option("--ratio", metavar="R", help="Times smaller; repeatable; by default 2, 10, 50."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="M", help="dlrm, wide-deep, deepfm; bpr-mf, lightgcn. Repeatable."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many trainings of each cell.")] = 5,
    epochs: Annotated[int | None, typer.Option(min=1, help="Of every stage, at most.")] = None,
    json: JsonFile = None,
    out: Annotated[
        Path,
        typer.Option(parser=local_path, metavar="DIR", help="Finished cells are kept and a picture written there."),
    ] = _DEFAULT_OUT,
) -> None:
    """Train recommenders with compressed embedding tables: quality against bytes.

    A run that was interrupted goes on when the same command is given again.
    """
    from annvq.bench.tables.grid import RATIOS, TablesBench, TablesResult, run  # torch takes seconds to import

    asked = TablesBench(tuple(method or ()), tuple(ratio or RATIOS), tuple(model or ()), seeds, epochs)
    name = folder.resolve().name
    kept = out / f"tables-{name}.jsonl"
    _check_places(json, kept)

    def keep(result: TablesResult) -> None:
        if json is not None:
            config = {**result.config, "refused": result.refused()}
            write_json(json, "bench tables", config, result.rows())

    with shown() as progress:
        result = run(folder, asked, kept, progress, keep)
    for used in result.config["models"]:
        print_fitting(screen(), partial(tables_table, result, used))
        rows = [row for row in result.rows() if row["params"]["model"] == used]
        measure, title = result.measures[0], f"{name}, {used}: quality against bytes of the table"
        draw = partial(plots.quality_against_bytes, rows, title=title, measure=measure)
        _picture(out / f"tables-{name}-{used}.png", draw)


@app.command("tokenizers")
def tokenizers_command(
    folder: Annotated[
        Path | None,
        typer.Argument(
            parser=local_path,
            metavar="[DATA]",
            help="Folder of Fashion-MNIST (IDX, gz) or CIFAR-10 as JPEG (tar.gz); by default fashion-mnist in the "
            "folder that ANNVQ_DATA names.",
        ),
    ] = None,
    quantizer: Annotated[
        list[str] | None, typer.Option("--quantizer", metavar="Q", help="Name, or 'every'; repeatable.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each quantizer.")] = 3,
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = 1000,
    batch: Annotated[int, typer.Option(min=2, help="Images of a step.")] = 64,
    normalize: Annotated[bool, typer.Option(help="Normalize inside the autoencoder, and what is quantized.")] = True,
    usage_images: Annotated[
        int, typer.Option(min=1, help="Training images over which the use of the codes is counted, at most.")
    ] = 10_000,
    test_images: Annotated[
        int, typer.Option(min=1, help="Test images over which errors are measured, at most.")
    ] = 10_000,
    search: Annotated[
        bool, typer.Option("--search", help="Search images by their codes alone, with the first seed.")
    ] = False,
    json: JsonFile = None,
    out: Annotated[
        Path,
        typer.Option(parser=local_path, metavar="DIR", help="Finished trainings are kept and pictures drawn there."),
    ] = _DEFAULT_OUT,
) -> None:
    """Train a small autoencoder with each quantizer: bits, PSNR, utilization, perplexity; mean and spread of seeds.

    A run that was ended goes on where it was.
    """
    from annvq.bench.tokenizers import pictures, run  # which need torch
    from annvq.bench.tokenizers.cell import Setting
    from annvq.bench.tokenizers.quantizers import DEFAULT, QUANTIZERS

    chosen = tuple(QUANTIZERS) if quantizer == ["every"] else tuple(dict.fromkeys(quantizer or DEFAULT))
    if unknown := [name for name in chosen if name not in QUANTIZERS]:
        raise typer.BadParameter(f"unknown quantizer {unknown[0]!r}, expected some of {', '.join(QUANTIZERS)}")
    if folder is None:
        if "ANNVQ_DATA" not in os.environ:
            raise typer.BadParameter("give DATA, or a folder with fashion-mnist in it as ANNVQ_DATA")
        folder = local_path(os.environ["ANNVQ_DATA"]) / "fashion-mnist"
    setting = Setting(steps=steps, batch=batch, normalize=normalize, usage_images=usage_images, test_images=test_images)
    asked = run.TokenizerBench(chosen, seeds, setting, search)
    _check_places(json, out / run.CELLS)
    with shown() as progress:
        result = run.run(folder, asked, out / "tokenizers", progress)
    if json is not None:
        write_json(json, "bench tokenizers", result.config, result.rows())
    config = result.config
    title = f"{config['data']}: {config['steps']:,} steps of {config['batch']} images, {config['seeds']} seeds"
    print_fitting(screen(), partial(tokenizer_table, result.rows(), title))
    _pictures(lambda: pictures.draw(result, out))


def _check_places(*paths: Path | None) -> None:
    """Fail before minutes go into a result that could not be written."""
    for path in paths:
        if path is not None:
            check_place(path)


def _picture(path: Path, draw: Callable[[Path], None]) -> None:
    """Draw where matplotlib is installed, else say what is missing."""

    def drawn() -> list[Path]:
        draw(path)
        return [path]

    _pictures(drawn)


def _pictures(draw: Callable[[], list[Path]]) -> None:
    """Draw several and name them, or say what is missing."""
    try:
        paths = draw()
    except MissingExtraError as error:
        typer.echo(f"annvq: no picture: {error}", err=True)
    else:
        for path in paths:
            typer.echo(f"picture: {path}")
