"""``annvq train``: codes learned from a judged text collection, as an index and an encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from annvq.bench.report import check_place
from annvq.cli.options import Threads, count, examples, local_path
from annvq.cli.screen import screen
from annvq.index import recipe as recipes
from annvq.progress import shown

EXAMPLES = examples(
    "train distill-vq scifact --model sentence-transformers/all-MiniLM-L6-v2 -o learned",
    "train jpq scifact --model MODEL -o learned --recipe OPQ24,PQ24x8 --epochs 4",
)
_OF_BENCH = Path("bench-out/embeddings")


def command(
    method: Annotated[
        Literal["jpq", "repconc", "distill-vq"],
        typer.Argument(metavar="METHOD", help="How to learn: jpq, repconc or distill-vq."),
    ],
    folder: Annotated[
        Path,
        typer.Argument(
            parser=local_path, metavar="DIR", help="Folder with corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv."
        ),
    ],
    model: Annotated[str, typer.Option(metavar="MODEL", help="Name or folder of a sentence-transformers model.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", parser=local_path, metavar="OUT", help="Folder for the index, encoders and checkpoints."
        ),
    ],
    recipe: Annotated[
        str,
        typer.Option(
            metavar="R",
            help="Recipe with product or residual codes; by default, 48 bytes per vector of 384 dimensions.",
        ),
    ] = "",
    both: Annotated[
        bool,
        typer.Option("--both", help="Train the documents' encoder, too (repconc)."),
    ] = False,
    split: Annotated[str, typer.Option(metavar="SPLIT", help="Split whose judgements are learned from.")] = "train",
    epochs: Annotated[int | None, count(help="Number of passes over the queries per stage.")] = None,
    batch: Annotated[int | None, count(help="Number of queries per step.")] = None,
    steps: Annotated[int | None, count(help="Largest number of steps per stage.")] = None,
    patience: Annotated[
        int | None, count(help="Number of measurements without a better one after which a stage ends.")
    ] = None,
    seed: Annotated[int, count(least=0, help="Seed of everything that is drawn.")] = 0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew, whatever checkpoints there are.")] = False,
    embeddings: Annotated[
        Path | None,
        typer.Option(
            parser=local_path,
            metavar="DIR",
            help=f"Folder that keeps embeddings; by default {_OF_BENCH}, where bench beir keeps them, if it exists, "
            "and otherwise OUT/embeddings.",
        ),
    ] = None,
    threads: Threads = None,
) -> None:
    """Learn codes from the queries of a judged text collection.

    The best step is chosen on the split dev. OUT then holds the index, the encoder of the queries and, with --both,
    that of the documents. A training that was interrupted goes on when the same command is given again.
    """
    from annvq.learn.collection import LearningCollection  # torch takes seconds to import
    from annvq.learn.methods import learning_method
    from annvq.learn.parts.student import check_recipe

    if both and method != "repconc":
        raise typer.BadParameter(f"--both is an option of repconc, not of {method}")
    check_recipe(recipes.load(recipe or method))
    check_place(out / "history.json")
    more: dict[str, Any] = {"both": True} if both else {}
    how = learning_method(method)(
        recipe=recipe, epochs=epochs, batch=batch, most_steps=steps, patience=patience, seed=seed,
        **more,
    )  # fmt: skip
    kept = embeddings or (_OF_BENCH if _OF_BENCH.is_dir() else out / "embeddings")
    with shown() as progress:
        collection = LearningCollection.read(folder, model, kept, split=split, progress=progress)

        def report(entry) -> None:
            metric = next(name for name in entry if "@" in name)
            loss = "" if entry["loss"] != entry["loss"] else f"loss {entry['loss']:.4f}, "
            progress.note(f"step {entry['step']:,} of {entry['steps']:,}: {loss}dev {metric} {entry[metric]:.4f}")

        learned = collection.learn(how, out=out, resume=not fresh, threads=threads, report=report, progress=progress)
    table = Table(title=f"{method} on {collection.name}, dev queries", title_justify="left")
    for name in ("stage", "metric", "before", "best", "at step", "code entropy, bits"):
        table.add_column(name)
    for number, history in enumerate(learned.history):
        metric = next(name for name in history[0] if "@" in name)
        best = max(history, key=lambda entry: entry[metric])
        entropy = f"{history[0]['entropy_bits']:.2f} to {best['entropy_bits']:.2f}"
        values = (f"{history[0][metric]:.4f}", f"{best[metric]:.4f}", f"{best['step']:.0f}", entropy)
        table.add_row(str(number + 1), metric, *values)
    screen().print(table)
    typer.echo(f"index: {out / 'index'}")
