"""``annvq export``: ids, vectors and attributes of an index as rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from annvq.cli.opening import open_either
from annvq.cli.options import STDOUT, IndexPath, Where, examples, local_path
from annvq.cli.output import check_rows_path, write_rows
from annvq.cli.screen import say, screen

EXAMPLES = examples(
    "export my-index -o rows.parquet",
    "export my-index -o old.csv --no-vectors --filter 'year < 2000'",
    "export my-index | head -n 3",
)


def command(
    index: IndexPath,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            parser=local_path,
            metavar="FILE",
            help="Parquet, Arrow, JSON, JSON lines or (without vectors) CSV, by the suffix; '-' is standard output.",
        ),
    ] = STDOUT,
    where: Where = None,
    vectors: Annotated[bool, typer.Option(help="With the vectors, or with ids and attributes alone.")] = True,
) -> None:
    """Write the rows of INDEX with their ids, vectors and attributes; vectors are as exact as the index keeps them.

    The rows of an index of documents have a column of lists of vectors. What is written as Parquet, Arrow, JSON or JSON
    lines holds the vectors, and the first two are files that annvq build reads.
    """
    check_rows_path(out)
    with open_either(index) as opened:
        count = write_rows(opened.to_arrow(filter=where, vectors=vectors), out)
    if out != STDOUT:
        say(screen(), f"{out}: {count:,} rows")
