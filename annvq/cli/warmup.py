"""``annvq warmup``: kernels compiled before their first use, say when a machine is set up."""

from __future__ import annotations

import typer

from annvq import multivector
from annvq.cli.options import Recipes
from annvq.cli.progress import progress_bar
from annvq.index import recipe as recipes
from annvq.index.warmup import warmup
from annvq.kernels import cache
from annvq.multivector import recipe as multivector_recipes


def command(recipe: Recipes = None) -> None:
    """Compile the kernels of RECIPEs (by default all) for this machine and keep them on disk."""
    names = list(recipe or (*recipes.names(), *multivector_recipes.names()))
    of_documents = [multivector_recipes.is_multivector(name) for name in names]
    for name, documents in zip(names, of_documents):
        if not documents and name != "auto":
            recipes.load(name)
    with progress_bar() as bar:
        task = bar.add_task("compiling", total=len(names))
        for name, documents in zip(names, of_documents):
            bar.update(task, description=f"compiling {name}")
            if documents:
                multivector.warmup(name)
            else:
                warmup(name)
            bar.advance(task)
    typer.echo(f"compiled: {', '.join(names)}")
    folder, reason = cache.where()
    typer.echo(f"kept in {folder}" if folder else f"kept nowhere, every process compiles them: {reason}")
