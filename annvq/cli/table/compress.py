"""``annvq table compress``: a trained embedding table in a fraction of its bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from annvq import tables
from annvq.bench.console import megabytes
from annvq.bench.report import check_place
from annvq.cli.options import JsonFile, count, examples, local_path
from annvq.cli.output import write_report
from annvq.cli.screen import say, screen
from annvq.cli.table.options import figures
from annvq.cli.table.weights import FORMATS, read_weights
from annvq.progress import shown
from annvq.tables.registry import FIXED_SIZE

EXAMPLES = examples(
    "table compress weight.npy -o table.safetensors --method PQ --ratio 10",
    "table compress model.safetensors --vector-column embeddings.weight -o table.safetensors --method INT8",
)
_ROWS = 1 << 14  # compared at a time


def command(
    weights: Annotated[
        Path,
        typer.Argument(
            parser=local_path,
            metavar="WEIGHTS",
            help=f"File with a matrix (rows, dimensions): {', '.join(FORMATS[:-1])} or {FORMATS[-1]}.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", parser=local_path, metavar="TABLE", help="File to write, in safetensors format."),
    ],
    method: Annotated[
        str, typer.Option(metavar="M", help="Method, such as PQ, RVQ or INT8; an unknown name lists all of them.")
    ] = "PQ",
    ratio: Annotated[
        float | None, typer.Option(metavar="R", help="How many times smaller than float32 the table is to be.")
    ] = None,
    nbytes: Annotated[int | None, count("--bytes", help="The most bytes that it may take, instead of --ratio.")] = None,
    vector_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Tensor, array or column of the matrix; by default the only one.")
    ] = None,
    steps: Annotated[
        int, count("--finetune-steps", least=0, help="Steps of gradient descent towards the given rows.")
    ] = 0,
    seed: Annotated[int, count(least=0, help="Seed of everything that is drawn.")] = 0,
    json: JsonFile = None,
) -> None:
    """Compress the weight matrix of a trained embedding table, and write a table that is read without torch.

    What is printed as lost is the squared error of all rows, as a share of their variance.
    """
    if method not in tables.METHODS:
        raise typer.BadParameter(f"unknown method {method!r}, expected one of {', '.join(tables.METHODS)}")
    if ratio is not None and nbytes is not None:
        raise typer.BadParameter("give --ratio or --bytes, not both")
    if ratio is None and nbytes is None and method not in FIXED_SIZE:
        raise typer.BadParameter(f"{method} needs --ratio or --bytes, which say how small the table is to be")
    if ratio is not None and not 0 < ratio < float("inf"):
        raise typer.BadParameter(f"--ratio {ratio:g} is not above 0")
    check_place(out)
    from annvq.learn.runtime import torch  # takes seconds to import

    matrix = read_weights(weights, vector_column)
    with shown() as progress:
        progress.begin(f"compressing {matrix.shape[0]:,} rows of {matrix.shape[1]}")
        embedding = torch.nn.Embedding.from_pretrained(torch.from_numpy(matrix))
        table = tables.compress(embedding, method, ratio=ratio, bytes=nbytes, seed=seed, finetune_steps=steps)
        table.export(out)
    written = tables.open(out)
    report = {**figures(written), "error": relative_error(written, matrix)}
    if json is not None:
        write_report(report, json)
    say(
        screen(json),
        f"{out}: {report['method']}, {report['num_embeddings']:,} rows of {report['embedding_dim']} dimensions, "
        f"{megabytes(report['bytes'])} ({report['compression']:.1f}x smaller than float32), "
        f"{report['error']:.4f} of the variance lost",
    )


def relative_error(table: tables.FrozenTable, matrix: np.ndarray) -> float:
    """Return the squared error of a table's rows as a share of the variance of a matrix (n, d)."""
    mean = matrix.mean(0, dtype=np.float64)
    lost = spread = 0.0
    for start in range(0, len(matrix), _ROWS):
        rows = matrix[start : start + _ROWS].astype(np.float64)
        lost += float(np.square(table(np.arange(start, start + len(rows))) - rows).sum())
        spread += float(np.square(rows - mean).sum())
    return lost / spread if spread else float(lost > 0)
