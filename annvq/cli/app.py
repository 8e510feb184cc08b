"""The commands by their names."""

from __future__ import annotations

from typing import Annotated

import typer

import annvq
from annvq.cli import add, build, compact, demo, export, info, remove, search, train, tune, verify, warmup
from annvq.cli.bench import ann, beir, tables, tokenizers
from annvq.cli.help import PlainCommand, PlainGroup, text_of
from annvq.cli.options import examples
from annvq.cli.table import compress
from annvq.cli.table import export as table_export
from annvq.cli.table import info as table_info
from annvq.cli.table import verify as table_verify

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
_TABLES = {"compress": compress, "info": table_info, "export": table_export, "verify": table_verify}
_BENCHES = {"ann": ann, "beir": beir, "tables": tables, "tokenizers": tokenizers}

app = typer.Typer(
    name="annvq",
    cls=PlainGroup,
    help="Vector search: build, search, change and measure indexes.",
    epilog=examples("build vectors.npy -o my-index", "search my-index queries.npy -k 10 -o hits.parquet", "demo"),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_bench_app = typer.Typer(
    cls=PlainGroup,
    help="Measure recipes, methods and other libraries.",
    epilog=examples("bench ann fashion-mnist.hdf5 --peers faiss", "bench beir scifact --model MODEL"),
    no_args_is_help=True,
)
_table_app = typer.Typer(
    cls=PlainGroup,
    help="Compress embedding tables, and read those that were compressed.",
    epilog=examples("table compress weight.npy -o table.safetensors --method PQ --ratio 10"),
    no_args_is_help=True,
)
for _parent, _modules in ((app, _COMMANDS), (_table_app, _TABLES), (_bench_app, _BENCHES)):
    for _name, _module in _modules.items():
        _parent.command(_name, cls=PlainCommand, help=text_of(_module.command), epilog=_module.EXAMPLES)(
            _module.command
        )
app.add_typer(_table_app, name="table")
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
