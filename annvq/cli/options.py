"""Options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

FORMATS = "npy, npz, Parquet, Arrow, fvecs, bvecs or HDF5"

Metric = Literal["ip", "l2", "cosine"]

IndexPath = Annotated[Path, typer.Argument(metavar="INDEX", help="Folder of an index.")]
QueriesPath = Annotated[Path, typer.Argument(metavar="QUERIES", help=f"Vectors: {FORMATS}.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads; by default all CPUs of the process.")]
VectorColumn = Annotated[
    str | None, typer.Option(help="Column (Parquet, Arrow), array (npz) or dataset (HDF5) of the vectors.")
]
JsonFile = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write config, machine and rows as JSON.")
]
