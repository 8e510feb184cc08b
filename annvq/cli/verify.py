"""``annvq verify``: every byte of an index against its checksums."""

from __future__ import annotations

import typer

import annvq
from annvq.cli.options import IndexPath


def command(index: IndexPath) -> None:
    """Read every byte of INDEX; fails where one is not what was written."""
    with annvq.open(index) as opened:
        opened.verify()
        count = len(opened)
    typer.echo(f"{index}: intact, {count:,} vectors")
