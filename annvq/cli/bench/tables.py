"""``annvq bench tables``: embedding tables compressed in recommenders."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from annvq.bench import plots
from annvq.bench.console import print_fitting, tables_table
from annvq.cli.bench.result import DEFAULT_OUT, Result, check_places
from annvq.cli.options import JsonFile, count, examples, local_path
from annvq.errors import ParameterError
from annvq.progress import shown

EXAMPLES = examples(
    "bench tables movielens-100k --method PQ --method MGQE --ratio 10 --seeds 3 --json result.json",
)


def command(
    folder: Annotated[
        Path,
        typer.Argument(
            parser=local_path, metavar="DATA", help="Folder with MovieLens 100K, Diabetes 130, or pairs (Gowalla)."
        ),
    ],
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method", metavar="M", help="Method of compression; may be given several times; by default all."
        ),
    ] = None,
    ratio: Annotated[
        list[float] | None,
        typer.Option(
            "--ratio",
            metavar="R",
            help="How many times smaller tables are to be; may be given several times; by default 2, 10 and 50.",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", metavar="M", help="dlrm, wide-deep, deepfm, bpr-mf or lightgcn; may be given several times."
        ),
    ] = None,
    seeds: Annotated[int, count(help="Number of trainings per method, ratio and model.")] = 5,
    epochs: Annotated[int | None, count(help="Largest number of epochs per stage.")] = None,
    json: JsonFile = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", parser=local_path, metavar="DIR", help="Folder for finished trainings and pictures."
        ),
    ] = DEFAULT_OUT,
) -> None:
    """Train recommenders with compressed embedding tables, and compare their quality and bytes.

    A run that was interrupted goes on when the same command is given again.
    """
    from annvq.bench.tables.grid import RATIOS, TablesBench, TablesResult, run  # torch takes seconds to import

    try:
        asked = TablesBench(tuple(method or ()), tuple(ratio or RATIOS), tuple(model or ()), seeds, epochs)
    except ParameterError as error:
        raise typer.BadParameter(str(error)) from None
    name = folder.resolve().name
    kept = out / f"tables-{name}.jsonl"
    check_places(json, kept)

    told = Result("bench tables", json)

    def keep(result: TablesResult) -> None:
        told.keep({**result.config, "refused": result.refused()}, result.rows())

    with shown() as progress:
        result = run(folder, asked, kept, progress, keep)
    told.finish({**result.config, "refused": result.refused()}, result.rows())
    for used in result.config["models"]:
        print_fitting(told.console, partial(tables_table, result, used))
        rows = [row for row in result.rows() if row["params"]["model"] == used]
        measure, title = result.measures[0], f"{name}, {used}: quality against bytes of the table"
        draw = partial(plots.quality_against_bytes, rows, title=title, measure=measure)
        told.draw(out / f"tables-{name}-{used}.png", draw)
