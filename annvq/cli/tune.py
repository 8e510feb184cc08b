"""``annvq tune``: search parameters that reach a recall fastest, stored with the index."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

import annvq
from annvq import io
from annvq.cli.options import IndexPath, QueriesPath, Threads, VectorColumn, check_recall
from annvq.cli.screen import screen
from annvq.index.search.tune import TuneReport


def command(
    index: IndexPath,
    queries: QueriesPath,
    recall: Annotated[
        float, typer.Option(callback=check_recall, help="Share of the true neighbours found, above 0.")
    ] = 0.95,
    k: Annotated[int, typer.Option("-k", min=1, help="Hits a query.")] = 10,
    vector_column: VectorColumn = None,
    threads: Threads = None,
) -> None:
    """Measure settings of INDEX on QUERIES and store the fastest that reaches the recall."""
    with annvq.open(index, mode="rw") as opened:
        report = opened.tune(io.read_queries(queries, vector_column=vector_column), k=k, recall=recall, threads=threads)
    typer.echo(f"recall@{report.k} against every row scored with the {report.truth}, {report.queries:,} queries")
    screen().print(_table(report))
    best = report.chosen
    what = f"nprobe {best.nprobe}, rerank {best.rerank}: recall@{report.k} {best.recall:.4f}"
    if report.reached:
        typer.echo(f"stored {what}, {best.qps:,.0f} queries/s one at a time")
    else:
        typer.echo(f"recall {recall} is not reached; stored the best, {what}")


def _table(report: TuneReport) -> Table:
    table = Table()
    for name in ("nprobe", "rerank", f"recall@{report.k}", "queries/s", ""):
        table.add_column(name, justify="right")
    for one in sorted(report.measured, key=lambda one: (one.rerank, one.nprobe)):
        speed = f"{one.qps:,.0f}" if one.qps else "-"  # only settings that are good enough are timed
        is_chosen = one == report.chosen
        mark = "stored" if is_chosen else ""
        table.add_row(
            str(one.nprobe), str(one.rerank), f"{one.recall:.4f}", speed, mark, style="bold" if is_chosen else None
        )
    return table
