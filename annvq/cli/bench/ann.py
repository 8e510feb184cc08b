"""``annvq bench ann``: speed against recall of recipes and other libraries."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from annvq.bench import ann, plots
from annvq.bench.compare import SideBySide
from annvq.bench.console import comparison_table, latency_table, print_fitting, speed_table
from annvq.bench.peers import PEERS
from annvq.bench.sweep import Mode
from annvq.cli.bench.result import Result, check_places
from annvq.cli.options import JsonFile, Recipes, count, examples, local_path
from annvq.progress import shown

EXAMPLES = examples(
    "bench ann fashion-mnist.hdf5 --recipe fast --recipe balanced --peers faiss,scann --json result.json",
    "bench ann data.npz --single --out pictures",
    "bench ann data.npz --n 10000 --single --recipe fast --peers symphonyqg,lorann,glass,vsag",
    "bench ann data.npz --device cuda --queries 20000 --recipe fast --peers faiss-gpu,cuvs",
)

UNSTEADY = 0.1  # a change of annvq's own speed that is told


def command(
    dataset: Annotated[
        Path,
        typer.Argument(
            parser=local_path,
            metavar="DATA",
            help="HDF5 file of ann-benchmarks, or npz file with base, query, metric and perhaps gt.",
        ),
    ],
    recipe: Recipes = None,
    peers: Annotated[
        str, typer.Option(metavar="NAMES", help=f"Other libraries, separated by commas: {', '.join(PEERS)}.")
    ] = "",
    threads: Annotated[int, count(help="Number of threads with which every library builds and searches.")] = 1,
    k: Annotated[int, count("-k", "--k", help="Number of neighbours per query.")] = 10,
    single: Annotated[
        bool, typer.Option("--single/--batch", help="One query per call, or all queries in one call.")
    ] = False,
    every_mode: Annotated[
        bool,
        typer.Option(
            "--every-mode",
            help="Build with THREADS; measure one query per call and a batch on one thread, and a batch on THREADS.",
        ),
    ] = False,
    device: Annotated[
        str,
        typer.Option(
            metavar="DEVICE",
            help="Where annvq searches: cpu, cuda, or cuda:1 for the second GPU. On a GPU, one query per call and "
            "batches of 10, 1,000 and 10,000 are measured, as far as half of the queries fill them.",
        ),
    ] = "cpu",
    queries: Annotated[
        int, count(least=2, help="Number of queries to use, evenly spaced; half of them are reported.")
    ] = 2000,
    n: Annotated[
        int | None, count("--n", help="Number of vectors to search, evenly spaced; by default all of DATA.")
    ] = None,
    json: JsonFile = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", parser=local_path, metavar="DIR", help="Folder for a picture.")
    ] = None,
) -> None:
    """Measure recall, queries per second, latency and bytes of recipes and other libraries on DATA.

    Search parameters are swept. Half of the queries choose among them, and the other half gives the figures. Every
    other library is compared with annvq at the same recall, measured right before and right after it. Queries and hits
    lie in the memory of the CPU, also where an index is on a GPU.
    """
    names = tuple(dict.fromkeys(name.strip() for name in peers.split(",") if name.strip()))
    for name in names:
        if name not in PEERS:
            raise typer.BadParameter(f"unknown library {name!r}, expected some of {', '.join(PEERS)}")
    chosen = tuple(recipe) if recipe else ann.DEFAULT_RECIPES
    modes = (Mode(single, threads),)
    if device != "cpu" and (every_mode or not single):
        modes = ann.device_modes(threads)
    elif every_mode:
        modes = tuple(dict.fromkeys((Mode(True, 1), Mode(False, 1), Mode(False, threads))))
    asked = ann.AnnBench(chosen, names, k=k, modes=modes, build_threads=threads, queries=queries, n=n, device=device)
    check_places(json, None if out is None else out / "recall-qps.png")

    kept = Result("bench ann", json)
    with shown() as progress:
        result = ann.run(dataset, asked, progress, lambda result: kept.keep(result.config, result.rows()))
    kept.finish(result.config, result.rows())
    for mode in result.modes:
        print_fitting(kept.console, partial(speed_table, result, mode))
        if mode.single:
            print_fitting(kept.console, partial(latency_table, result, mode))
        beside = [comparison for comparison in result.comparisons if comparison.point.mode == mode]
        if beside:
            print_fitting(kept.console, partial(comparison_table, result, mode))
            _warn(beside)
        for lib, cores in result.config["cores_used"][str(mode)].items():
            if cores > mode.threads + 0.25:
                typer.echo(f"annvq: {lib} used {cores} cores where {mode.threads} were asked for", err=True)
        if out is not None:
            kind = f"-{_short(mode)}" if len(modes) > 1 else ""
            groups = list(result.by_index(mode).values())
            title = f"{dataset.stem}, {result.config['n']:,} vectors: recall@{k} against speed, {mode}"
            kept.draw(out / f"recall-qps{kind}.png", partial(plots.recall_against_speed, groups, title=title))


def _short(mode: Mode) -> str:
    size = "" if mode.batch is None else f"-of-{mode.batch}"
    return f"{'single' if mode.single else 'batch'}{size}-{mode.threads}"


def _warn(comparisons: Sequence[SideBySide]) -> None:
    """Say which comparisons of one mode others disturbed."""
    disturbed = [comparison for comparison in comparisons if comparison.use.is_busy]
    if disturbed:
        worst = max(disturbed, key=lambda comparison: comparison.use.others or 0.0).use
        typer.echo(
            f"annvq: the machine was busy in {len(disturbed)} of {len(comparisons)} comparisons: {worst}", err=True
        )
    for comparison in comparisons:
        if comparison.change > UNSTEADY:
            what = f"{comparison.point.lib} {comparison.point.recipe} at {comparison.target:.2f}"
            typer.echo(f"annvq: its own speed changed by {comparison.change:.0%} beside {what}", err=True)
