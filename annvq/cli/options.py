"""Options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from annvq.arguments import as_path
from annvq.errors import ParameterError


def local_path(given: str | Path) -> Path:
    """Return the value of an option that is a path (`as_path`); a usage error where it can be none."""
    try:
        return as_path(given)
    except ParameterError as error:
        raise typer.BadParameter(str(error)) from None


FORMATS = "npy, npz, Parquet, Arrow, fvecs, bvecs or HDF5"

Metric = Literal["ip", "l2", "cosine"]

IndexPath = Annotated[Path, typer.Argument(parser=local_path, metavar="INDEX", help="Folder of an index.")]
QueriesPath = Annotated[Path, typer.Argument(parser=local_path, metavar="QUERIES", help=f"Vectors, or one: {FORMATS}.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads; by default all CPUs of the process.")]
VectorColumn = Annotated[
    str | None, typer.Option(help="Column (Parquet, Arrow), array (npz) or dataset (HDF5) of the vectors.")
]
Recipes = Annotated[
    list[str] | None, typer.Option("--recipe", metavar="R", help="Name, factory string or TOML; repeatable.")
]
JsonFile = Annotated[
    Path | None,
    typer.Option("--json", parser=local_path, metavar="FILE", help="Write config, machine and rows as JSON."),
]


def check_recall(value: float | None) -> float | None:
    """Return the value of an option that asks for a recall; a usage error where none can be reached."""
    if value is not None and not 0 < value <= 1:
        raise typer.BadParameter(f"{value} is not above 0 and at most 1")
    return value
