"""``annvq tune``: search parameters that reach a recall fastest, stored with the index."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from annvq.cli.opening import open_either
from annvq.cli.options import (
    FORMATS,
    IndexPath,
    JsonFile,
    Threads,
    VectorColumn,
    check_recall,
    count,
    examples,
    local_path,
)
from annvq.cli.output import write_report
from annvq.cli.queries import read_queries
from annvq.cli.screen import say, screen
from annvq.errors import ParameterError
from annvq.index.search.tune import TuneReport
from annvq.multivector import MultiVectorIndex

EXAMPLES = examples(
    "tune my-index queries.npy --recall 0.95", "tune my-index queries.parquet -k 100 --json tuned.json", "tune my-index"
)


def command(
    index: IndexPath,
    queries: Annotated[
        Path | None,
        typer.Argument(
            parser=local_path,
            metavar="[QUERIES]",
            help=f"File with vectors ({FORMATS}); '-' reads JSON lines or npy from standard input. "
            "Left out, rows of the index stand in for queries; real ones are better.",
        ),
    ] = None,
    recall: Annotated[
        float,
        typer.Option(
            callback=check_recall, metavar="R", help="Share of the true neighbours that a search is to find, above 0."
        ),
    ] = 0.95,
    k: Annotated[int, count("-k", help="Number of hits per query.")] = 10,
    vector_column: VectorColumn = None,
    threads: Threads = None,
    json: JsonFile = None,
) -> None:
    """Measure search parameters of INDEX on QUERIES or its own rows, and store the fastest that reach the recall."""
    with open_either(index, "rw") as opened:
        documents = isinstance(opened, MultiVectorIndex)
        if queries is None and documents:
            raise ParameterError("an index of documents is tuned with queries: give a file")
        vectors = None
        if queries is not None:
            vectors = read_queries(queries, vector_column=vector_column, id_column=None, documents=documents).vectors
        report = opened.tune(vectors, k=k, recall=recall, threads=threads)
    if json is not None:
        write_report(report.to_dict(), json)
    console = screen(json)
    rescored = "candidates" if documents else "rerank"
    say(
        console,
        f"recall@{report.k} against every row scored with the {report.truth}, {report.queries:,} {report.asked}",
    )
    if report.asked == "rows":
        say(console, "rows stood in for queries: queries unlike the rows find less, so give real ones if you can")
    console.print(_table(report, rescored))
    best = report.chosen
    what = f"nprobe {best.nprobe}, {rescored} {best.rerank}: recall@{report.k} {best.recall:.4f}"
    if report.reached:
        say(console, f"stored {what}, {best.qps:,.0f} queries/s one at a time")
    else:
        say(console, f"recall {recall} is not reached; stored the best, {what}")


def _table(report: TuneReport, rescored: str) -> Table:
    table = Table()
    for name in ("nprobe", rescored, f"recall@{report.k}", "queries/s", ""):
        table.add_column(name, justify="right")
    for one in sorted(report.measured, key=lambda one: (one.rerank, one.nprobe)):
        speed = f"{one.qps:,.0f}" if one.qps else "-"  # only settings that are good enough are timed
        is_chosen = one == report.chosen
        mark = "stored" if is_chosen else ""
        table.add_row(
            str(one.nprobe), str(one.rerank), f"{one.recall:.4f}", speed, mark, style="bold" if is_chosen else None
        )
    return table
