"""``annvq demo``: recipes compared on data that come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from annvq.cli.bench.result import Result, check_places
from annvq.cli.options import JsonFile, examples, local_path
from annvq.demo.run import run

EXAMPLES = examples("demo", "demo --out my-demo")
_DEFAULT_OUT = Path("annvq-demo")


def command(
    out: Annotated[
        Path,
        typer.Option("--out", "-o", parser=local_path, metavar="DIR", help="Folder for the index and the pictures."),
    ] = _DEFAULT_OUT,
    json: JsonFile = None,
) -> None:
    """Build indexes of several recipes over Cranfield's abstracts, and compare their quality, size and speed."""
    check_places(json)
    told = Result("demo", json)
    qualities = run(out, told.console)
    told.finish({"data": "cranfield", "metric": "ip"}, [quality.row() for quality in qualities])
