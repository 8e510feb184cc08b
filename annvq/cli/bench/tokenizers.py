"""``annvq bench tokenizers``: quantizers of latents in a small autoencoder."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from annvq.bench.console import print_fitting, tokenizer_table
from annvq.cli.bench.result import DEFAULT_OUT, Result, check_places
from annvq.cli.options import JsonFile, count, examples, local_path
from annvq.progress import shown

EXAMPLES = examples(
    "bench tokenizers fashion-mnist --quantizer FSQ --quantizer SimVQ --steps 1000 --json result.json",
)


def command(
    folder: Annotated[
        Path | None,
        typer.Argument(
            parser=local_path,
            metavar="DATA",
            help="Folder with Fashion-MNIST (IDX, gz) or CIFAR-10 as JPEG (tar.gz); by default fashion-mnist in the "
            "folder that ANNVQ_DATA names.",
        ),
    ] = None,
    quantizer: Annotated[
        list[str] | None,
        typer.Option("--quantizer", metavar="Q", help="Name of a quantizer, or 'every'; may be given several times."),
    ] = None,
    seeds: Annotated[int, count(help="Number of trainings per quantizer.")] = 3,
    steps: Annotated[int, count(help="Number of training steps.")] = 1000,
    batch: Annotated[int, count(least=2, help="Number of images per step.")] = 64,
    normalize: Annotated[
        bool, typer.Option(help="Normalize activations inside the autoencoder, and the latents that are quantized.")
    ] = True,
    usage_images: Annotated[
        int, count(help="Largest number of training images over which the use of codes is counted.")
    ] = 10_000,
    test_images: Annotated[int, count(help="Largest number of test images over which errors are measured.")] = 10_000,
    search: Annotated[
        bool, typer.Option("--search", help="Also search images by their codes alone, with the first seed.")
    ] = False,
    json: JsonFile = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            parser=local_path,
            metavar="DIR",
            help="Folder for finished trainings and pictures.",
        ),
    ] = DEFAULT_OUT,
) -> None:
    """Train a small autoencoder with each quantizer, and measure bits, PSNR, utilization and perplexity.

    Figures are means and spreads over seeds. A run that was interrupted goes on when the same command is given again.
    """
    from annvq.bench.tokenizers import pictures, run  # which need torch
    from annvq.bench.tokenizers.cell import Setting
    from annvq.bench.tokenizers.quantizers import DEFAULT, QUANTIZERS

    chosen = tuple(QUANTIZERS) if quantizer == ["every"] else tuple(dict.fromkeys(quantizer or DEFAULT))
    if unknown := [name for name in chosen if name not in QUANTIZERS]:
        raise typer.BadParameter(f"unknown quantizer {unknown[0]!r}, expected some of {', '.join(QUANTIZERS)}")
    if folder is None:
        if "ANNVQ_DATA" not in os.environ:
            raise typer.BadParameter("give DATA, or a folder with fashion-mnist in it as ANNVQ_DATA")
        folder = local_path(os.environ["ANNVQ_DATA"]) / "fashion-mnist"
    setting = Setting(steps=steps, batch=batch, normalize=normalize, usage_images=usage_images, test_images=test_images)
    asked = run.TokenizerBench(chosen, seeds, setting, search)
    check_places(json, out / run.CELLS)
    with shown() as progress:
        result = run.run(folder, asked, out / "tokenizers", progress)
    told = Result("bench tokenizers", json)
    told.finish(result.config, result.rows())
    config = result.config
    title = f"{config['data']}: {config['steps']:,} steps of {config['batch']} images, {config['seeds']} seeds"
    print_fitting(told.console, partial(tokenizer_table, result.rows(), title))
    told.draw_several(lambda: pictures.draw(result, out))
