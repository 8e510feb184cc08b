"""``annvq warmup``: kernels compiled before their first use, say when a machine is set up."""

from __future__ import annotations

import typer

from annvq.cli.options import Recipes
from annvq.cli.progress import progress_bar
from annvq.index import recipe as recipes
from annvq.index.build import METRICS
from annvq.index.warmup import warm_up
from annvq.kernels import cache


def command(recipe: Recipes = None) -> None:
    """Compile the kernels of RECIPEs (by default all) for this machine and keep them on disk."""
    names = list(recipe or recipes.names())
    for name in names:
        recipes.load(name)
    with progress_bar() as bar:
        task = bar.add_task("compiling", total=len(names))
        for name in names:
            bar.update(task, description=f"compiling {name}")
            for metric in METRICS:
                warm_up(name, metric)
            bar.advance(task)
    typer.echo(f"compiled: {', '.join(names)}")
    folder, reason = cache.where()
    typer.echo(f"kept in {folder}" if folder else f"kept nowhere, every process compiles them: {reason}")
