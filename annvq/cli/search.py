"""``annvq search``: the nearest rows to every query, as a file, as JSON lines or on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import typer
from rich.table import Table

from annvq.cli.opening import open_either
from annvq.cli.options import (
    STDOUT,
    IndexPath,
    QueriesPath,
    Threads,
    VectorColumn,
    Where,
    count,
    examples,
    local_path,
)
from annvq.cli.output import check_rows_path, write_rows
from annvq.cli.queries import read_queries
from annvq.cli.screen import one_line, say, screen
from annvq.errors import StateError
from annvq.hits import Hits
from annvq.multivector import MultiVectorIndex

EXAMPLES = examples(
    "search my-index queries.npy -k 10 -o hits.parquet",
    "search my-index queries.parquet --filter 'lang == \"de\" and year >= 2000'",
    "search my-index queries.npy --columns title,year | jq .title",
    "search my-index - < queries.jsonl | jq .id",
)
_SHOWN = 5  # queries


def command(
    index: IndexPath,
    queries: QueriesPath,
    k: Annotated[int, count("-k", help="Number of hits per query.")] = 10,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            parser=local_path,
            metavar="FILE",
            help="Parquet, Arrow, CSV, JSON or JSON lines, by the suffix; '-' is standard output. The columns are "
            "query (its row, from 0), rank, id, score, those of --columns and, if the queries have ids, query_id.",
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(metavar="COLUMNS|all", help="Attributes that come with the hits, by names with commas between."),
    ] = None,
    nprobe: Annotated[int | None, count(help="Number of lists to scan.")] = None,
    rerank: Annotated[
        int | None, count(help="Number of candidates that are scored again; of documents, by their vectors.")
    ] = None,
    where: Where = None,
    id_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of the queries' ids; by default 'id', if there is one.")
    ] = None,
    vector_column: VectorColumn = None,
    threads: Threads = None,
) -> None:
    """Search INDEX for the nearest rows to each of QUERIES; a larger score is closer, whatever the metric.

    Without -o, a terminal shows the first hits, and a pipe or a file gets all of them as JSON lines.
    """
    check_rows_path(out)
    with open_either(index) as opened:
        documents = isinstance(opened, MultiVectorIndex)
        given = read_queries(queries, vector_column=vector_column, id_column=id_column, documents=documents)
        more: dict[str, Any] = {"nprobe": nprobe, "filter": where, "threads": threads}
        more["candidates" if documents else "rerank"] = rerank
        held = opened.rows.current.snapshot.columns()
        named = None if columns is None else list(held) if columns == "all" else columns.split(",")
        hits = opened.search(given.vectors, k=k, columns=named, **more)
    console = screen()
    if out is None and console.is_terminal:
        say(console, f"first {min(_SHOWN, len(given))} of {len(given):,} queries (-o FILE for all)")
        console.print(_table(hits, given.ids))
        return
    write_rows(to_arrow(hits, given.ids), out or STDOUT)
    if out not in (None, STDOUT):
        say(console, f"{out}: hits of {len(given):,} queries")


def to_arrow(hits: Hits, query_ids: list[Any] | None = None) -> pa.Table:
    """Return one row per hit: query (row number), rank (from 1), id, score, attributes; missing places are left out.

    Parameters
    ----------
    hits
        (nq, k) ids and scores.
    query_ids
        The ids of the queries, which become another column, query_id.

    Raises
    ------
    StateError
        An attribute has the name of another column.

    """
    nq, k = hits.scores.shape
    present = (hits.scores != -np.inf).ravel()
    ids = hits.ids.ravel()[present]
    queries = np.repeat(np.arange(nq, dtype=np.int64), k)[present]
    columns = {
        "query": queries,
        "rank": np.tile(np.arange(1, k + 1, dtype=np.int32), nq)[present],
        "id": pa.array(ids.tolist(), pa.string()) if ids.dtype == object else ids,
        "score": hits.scores.ravel()[present],
    }
    if hits.attributes is not None:
        if taken := {*columns, "query_id"} & set(hits.attributes.schema.names):
            raise StateError(f"attribute {min(taken)!r} has the name of another column of the hits")
        held = hits.attributes.take(pa.array(np.flatnonzero(present)))
        columns |= dict(zip(held.schema.names, held.columns, strict=True))
    if query_ids is not None:
        columns["query_id"] = pa.array(query_ids).take(pa.array(queries))
    return pa.table(columns)


def _table(hits: Hits, query_ids: list[Any] | None) -> Table:
    shown = hits.to_lists()[:_SHOWN]
    table = Table()
    for name in ("query", "rank", "id", "score"):
        table.add_column(name, justify="right", overflow="fold")  # an id is never cut
    for query, ranked in enumerate(shown):
        name = str(query) if query_ids is None else one_line(str(query_ids[query]))
        for rank, (key, score) in enumerate(ranked, 1):
            table.add_row(name, str(rank), one_line(str(key)), f"{score:.4f}", end_section=rank == len(ranked))
    return table
