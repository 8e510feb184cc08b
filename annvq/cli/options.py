"""Options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

FORMATS = "npy, npz, Parquet, Arrow, fvecs, bvecs or HDF5"

Metric = Literal["ip", "l2", "cosine"]

IndexPath = Annotated[Path, typer.Argument(metavar="INDEX", help="Folder of an index.")]
QueriesPath = Annotated[Path, typer.Argument(metavar="QUERIES", help=f"Vectors, or one: {FORMATS}.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads; by default all CPUs of the process.")]
VectorColumn = Annotated[
    str | None, typer.Option(help="Column (Parquet, Arrow), array (npz) or dataset (HDF5) of the vectors.")
]
Recipes = Annotated[
    list[str] | None, typer.Option("--recipe", metavar="R", help="Name, factory string or TOML; repeatable.")
]
JsonFile = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write config, machine and rows as JSON.")
]


def check_recall(value: float | None) -> float | None:
    """Return the value of an option that asks for a recall; a usage error where none can be reached."""
    if value is not None and not 0 < value <= 1:
        raise typer.BadParameter(f"{value} is not above 0 and at most 1")
    return value
