"""``annvq warmup``: kernels compiled before their first use, for example when a machine is set up."""

from __future__ import annotations

import typer

from annvq import multivector
from annvq.cli.options import Recipes, examples
from annvq.index import recipe as recipes
from annvq.index.warmup import warmup
from annvq.kernels.compile import cache
from annvq.multivector import recipe as multivector_recipes
from annvq.progress import shown

EXAMPLES = examples("warmup", "warmup --recipe balanced")


def command(recipe: Recipes = None) -> None:
    """Compile the kernels of some recipes (by default of all) for this machine, and keep them on disk."""
    names = list(recipe or (*recipes.names(), *multivector_recipes.names()))
    of_documents = [multivector_recipes.is_multivector(name) for name in names]
    for name, documents in zip(names, of_documents):
        if not documents and name != "auto":
            recipes.load(name)
    with shown() as progress:
        for number, (name, documents) in enumerate(zip(names, of_documents), 1):
            progress.begin(f"compiling {name} ({number} of {len(names)})")
            if documents:
                multivector.warmup(name)
            else:
                warmup(name)
    typer.echo(f"compiled: {', '.join(names)}")
    folder, reason = cache.where()
    typer.echo(f"kept in {folder}" if folder else f"kept nowhere, so that every process compiles them: {reason}")
