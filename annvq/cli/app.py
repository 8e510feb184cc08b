"""The commands by their names."""

from __future__ import annotations

from typing import Annotated

import typer

import annvq
from annvq.cli import bench, build, demo, info, search, train, tune, verify, warmup

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
