"""``annvq export``: ids, vectors and attributes of an index as rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from annvq.cli.opening import open_single
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
    """Write the rows of INDEX: id, vector, attributes. Vectors are as exact as the index keeps them."""
    check_rows_path(out)
    with open_single(index) as opened:
        count = write_rows(opened.to_arrow(filter=where, vectors=vectors), out)
    if out != STDOUT:
        say(screen(), f"{out}: {count:,} rows")
