"""``annvq search``: the nearest vectors of every query, as a Parquet file or on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.table import Table

import annvq
from annvq import io
from annvq.cli.options import IndexPath, QueriesPath, Threads, VectorColumn, local_path
from annvq.cli.screen import one_line, screen
from annvq.hits import Hits
from annvq.io.arrow import PARQUET
from annvq.io.replacing import replacing

_SHOWN = 5  # queries


def command(
    index: IndexPath,
    queries: QueriesPath,
    k: Annotated[int, typer.Option("-k", min=1, help="Hits a query.")] = 10,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", parser=local_path, metavar="HITS.parquet", help="Columns query, rank, id, score."),
    ] = None,
    nprobe: Annotated[int | None, typer.Option(min=1, help="Lists scanned a query.")] = None,
    rerank: Annotated[int | None, typer.Option(min=1, help="Candidates scored again a query.")] = None,
    vector_column: VectorColumn = None,
    threads: Threads = None,
) -> None:
    """Search INDEX for every one of QUERIES; larger scores are closer."""
    if out is not None and out.suffix.lower() not in PARQUET:
        raise typer.BadParameter(f"{str(out)!r}: hits are written as Parquet, to a name ending in .parquet")
    with annvq.open(index) as opened:
        vectors = io.read_queries(queries, vector_column=vector_column)
        hits = opened.search(vectors, k=k, nprobe=nprobe, rerank=rerank, threads=threads)
    if out is None:
        typer.echo(f"first {min(_SHOWN, len(vectors))} of {len(vectors):,} queries (-o FILE for all)")
        screen().print(_table(hits))
        return
    with replacing(out) as temporary:
        pq.write_table(to_arrow(hits), temporary)
    typer.echo(f"{out}: hits of {len(vectors):,} queries")


def to_arrow(hits: Hits) -> pa.Table:
    """Return one row a hit: query (row number), rank (from 1), id, score; missing places are left out.

    Parameters
    ----------
    hits
        (nq, k) ids and scores.

    """
    nq, k = hits.scores.shape
    present = (hits.scores != -np.inf).ravel()
    ids = hits.ids.ravel()[present]
    return pa.table(
        {
            "query": np.repeat(np.arange(nq, dtype=np.int64), k)[present],
            "rank": np.tile(np.arange(1, k + 1, dtype=np.int32), nq)[present],
            "id": pa.array(ids.tolist(), pa.string()) if ids.dtype == object else ids,
            "score": hits.scores.ravel()[present],
        }
    )


def _table(hits: Hits) -> Table:
    shown = hits.to_lists()[:_SHOWN]
    table = Table()
    for name in ("query", "rank", "id", "score"):
        table.add_column(name, justify="right", overflow="fold")  # an id is never cut
    for query, ranked in enumerate(shown):
        for rank, (key, score) in enumerate(ranked, 1):
            table.add_row(str(query), str(rank), one_line(str(key)), f"{score:.4f}", end_section=rank == len(ranked))
    return table
