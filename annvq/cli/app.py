"""The commands by their names."""

from __future__ import annotations

from typing import Annotated

import typer

import annvq
from annvq.cli import add, build, compact, demo, export, info, remove, search, train, tune, verify, warmup
from annvq.cli.bench import ann, beir, tables, tokenizers

_COMMANDS = {
    "build": build,
    "search": search,
    "tune": tune,
    "info": info,
    "add": add,
    "remove": remove,
    "compact": compact,
    "export": export,
    "verify": verify,
    "warmup": warmup,
    "demo": demo,
    "train": train,
}
_BENCHES = {"ann": ann, "beir": beir, "tables": tables, "tokenizers": tokenizers}

app = typer.Typer(
    name="annvq",
    help="Vector search: build, search, change and measure indexes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_bench_app = typer.Typer(help="Measure recipes and other libraries.", no_args_is_help=True)
for _parent, _modules in ((app, _COMMANDS), (_bench_app, _BENCHES)):
    for _name, _module in _modules.items():
        _parent.command(_name, epilog=_module.EXAMPLES)(_module.command)
app.add_typer(_bench_app, name="bench")


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
