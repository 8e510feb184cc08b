"""The command line: commands, and how they end.

Exit codes: 0 done, 1 failed (one line on stderr), 2 usage, 130 interrupted.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import annvq
from annvq.cli import bench, build, demo, info, search, train, tune, verify, warmup
from annvq.cli.arguments import repeat_recipes
from annvq.errors import AnnvqError

app = typer.Typer(
    name="annvq",
    help="Vector retrieval index engine: build, search, tune and measure indexes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("build")(build.command)
app.command("search")(search.command)
app.command("tune")(tune.command)
app.command("info")(info.command)
app.command("verify")(verify.command)
app.command("warmup")(warmup.command)
app.command("demo")(demo.command)
app.command("train")(train.command)
app.add_typer(bench.app, name="bench")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(annvq.__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and end the process with its exit code.

    Parameters
    ----------
    arguments
        Without the program's name; by default those of the process.

    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        app(repeat_recipes(arguments), prog_name="annvq")
    except (AnnvqError, OSError, MemoryError) as error:
        typer.echo(f"annvq: {_one_line(error)}", err=True)
        sys.exit(1)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split())


if __name__ == "__main__":
    main()
