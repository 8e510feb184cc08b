"""Options that several commands take, and how their values are read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from annvq.arguments import as_path
from annvq.bench.report import check_place
from annvq.errors import FilterError, ParameterError
from annvq.index.filters import dialect, text

STDOUT = Path("-")  # as a file's name: standard output, or standard input


def local_path(given: str | Path) -> Path:
    """Return the value of an option that is a path (`as_path`); if it cannot be one, that is a usage error."""
    try:
        return as_path(given)
    except ParameterError as error:
        raise typer.BadParameter(str(error)) from None


def at_least(least: int) -> Callable[[str], int]:
    """Return a function that reads a whole number of at least ``least``; help texts then need no ranges."""

    def whole_number(given: str) -> int:
        try:
            value = int(given)
        except ValueError:
            raise typer.BadParameter(f"{given!r} is not a whole number") from None
        if value < least:
            raise typer.BadParameter(f"{given} is less than {least}")
        return value

    return whole_number


def count(*names: str, help: str, least: int = 1) -> Any:
    """Return an option that is a whole number of at least ``least``."""
    return typer.Option(*names, parser=at_least(least), metavar="N", help=help)


def as_filter(given: str) -> Any:
    """Return an option's filter, checked as far as it can be without an index; a usage error says what is wrong.

    It is a dict if the option is JSON, which begins with a brace, and otherwise the text.
    """
    found: Any = given
    try:
        if given.lstrip().startswith("{"):
            found = json.loads(given)
            dialect.read(found)
        else:
            text.read(given)
    except (FilterError, ValueError) as error:
        raise typer.BadParameter(str(error)) from None
    except RecursionError:
        raise typer.BadParameter("JSON that is nested too deeply") from None
    return found


def examples(*lines: str) -> str:
    """Return the end of a help text, which shows command lines, each on a line of its own."""
    return "\n\n".join(["Examples:", *(f"  annvq {line}" for line in lines)])


def check_recall(value: float | None) -> float | None:
    """Return the value of an option that asks for a recall; it is a usage error if no search can have that recall."""
    if value is not None and not 0 < value <= 1:
        raise typer.BadParameter(f"{value} is not above 0 and at most 1")
    return value


def check_report(given: Path | None) -> Path | None:
    """Return where a report goes; OSError if it cannot be written there, before anything is changed or measured."""
    if given not in (None, STDOUT):
        check_place(given)
    return given


FORMATS = "npy, npz, Parquet, Arrow, fvecs, bvecs, fbin, u8bin, i8bin or HDF5"

Metric = Literal["ip", "l2", "cosine", "hamming"]

IndexPath = Annotated[Path, typer.Argument(parser=local_path, metavar="INDEX", help="Folder that holds an index.")]
EmbeddingsPaths = Annotated[
    list[Path],
    typer.Argument(
        parser=local_path,
        metavar="EMBEDDINGS",
        help=f"Files with vectors ({FORMATS}), folders of such files, or patterns in quotes ('parts/*.parquet').",
    ),
]
QueriesPath = Annotated[
    Path,
    typer.Argument(
        parser=local_path,
        metavar="QUERIES",
        help=f"File with one or more vectors ({FORMATS}); '-' reads JSON lines or npy from standard input.",
    ),
]
Threads = Annotated[int | None, count(help="Number of threads; by default, all CPUs of the process.")]
IdColumn = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Column of the ids; by default 'id' ('ids' in npz and HDF5). If there is none, row numbers are the ids.",
    ),
]
VectorColumn = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Column (Parquet, Arrow), array (npz) or dataset (HDF5) that holds the vectors; by default the only one.",
    ),
]
Attributes = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMNS",
        help="Columns to keep as attributes, separated by commas, or 'all' (Parquet and Arrow files).",
    ),
]
Where = Annotated[
    Any,
    typer.Option(
        "--filter",
        parser=as_filter,
        metavar="EXPR",
        help='Only rows that match: \'lang == "de" and year >= 2000\', or JSON \'{"year": {"$gte": 2000}}\'.',
    ),
]
Recipes = Annotated[
    list[str] | None,
    typer.Option("--recipe", metavar="R", help="Name, factory string or TOML file; may be given several times."),
]
JsonFile = Annotated[
    Path | None,
    typer.Option(
        "--json",
        parser=local_path,
        callback=check_report,
        metavar="FILE",
        help="Write the result as JSON; '-' is standard output.",
    ),
]
