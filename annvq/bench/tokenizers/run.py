"""The whole comparison: every cell is kept once it is finished, and rows have the means of cells."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.bench.tokenizers.cell import Cell, Setting, figures_of, run_cell
from annvq.bench.tokenizers.images import Images
from annvq.bench.tokenizers.quantizers import DEFAULT, QUANTIZERS
from annvq.bench.tokenizers.search import SearchFigures
from annvq.errors import ParameterError
from annvq.io.replacing import replacing
from annvq.learn.runtime import torch

if TYPE_CHECKING:
    from annvq.progress import Progress

CELLS = "cells.jsonl"
PROTOCOL = 2  # raised whenever the meaning of a cell changes: cells kept under another number are measured again
_FIGURES = ("mse", "psnr", "utilization", "perplexity", "train_s")


@dataclass(frozen=True)
class TokenizerBench:
    """What to compare.

    Parameters
    ----------
    quantizers
        Names in `QUANTIZERS`.
    seeds
        The number of seeds, from 0.
    setting
        What all cells have in common.
    search
        Whether, with the first seed, images are searched by their codes alone.

    Raises
    ------
    ParameterError
        A name is unknown; the message lists the known ones.

    """

    quantizers: tuple[str, ...] = DEFAULT
    seeds: int = 3
    setting: Setting = field(default_factory=Setting)
    search: bool = False

    def __post_init__(self) -> None:
        for name in self.quantizers:
            if name not in QUANTIZERS:
                raise ParameterError(f"unknown quantizer {name!r}, expected some of {', '.join(QUANTIZERS)}")


@dataclass(frozen=True)
class TokenizerResult:
    """Cells of every quantizer, in the order that was asked for, and reconstructions of the first seed.

    Parameters
    ----------
    config
        What was asked for.
    cells
        The cells of each quantizer.
    originals, reconstructions
        (n, channels, height, width) uint8 each; the latter for each quantizer.

    """

    config: dict[str, Any]
    cells: dict[str, list[Cell]]
    originals: np.ndarray
    reconstructions: dict[str, np.ndarray]

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each quantizer: means over seeds, and their spread."""
        rows = []
        for quantizer, cells in self.cells.items():
            first = cells[0]
            row: dict[str, Any] = {"quantizer": quantizer, "bits": round(first.bits, 4)}
            row["bits_per_image"] = round(first.bits_per_image, 2)
            for name in _FIGURES:
                row |= {key: _rounded(value) for key, value in figures_of(cells, name).items()}
            row |= {"tokens": first.tokens, "seeds": len(cells)}
            if first.search is not None:
                row["search"] = {key: _rounded(value) for key, value in first.search.row().items()}
            rows.append(row)
        return rows


def _rounded(value: float | None) -> float | None:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def run(folder: Path, asked: TokenizerBench, out: Path, progress: Progress) -> TokenizerResult:
    """Train and measure every cell that ``out`` does not hold yet.

    Parameters
    ----------
    folder
        The folder of images, see `Images.read`.
    asked
        What to compare.
    out
        The folder of finished cells, one JSON object per line, and of reconstructions; an ended run continues there.
    progress
        It is told of every step.

    """
    images = Images.read(folder)
    place = out / images.name
    place.mkdir(parents=True, exist_ok=True)
    store = _Store(place, {"data": images.name, **asdict(asked.setting), "protocol": PROTOCOL})
    wanted = [(quantizer, seed) for seed in range(asked.seeds) for quantizer in asked.quantizers]
    for number, (quantizer, seed) in enumerate(wanted, 1):
        search = asked.search and seed == 0
        if store.has(quantizer, seed, search):
            continue
        progress.begin(f"{quantizer}, seed {seed} ({number} of {len(wanted)})", asked.setting.steps)
        steps = count(1)
        made = run_cell(images, quantizer, seed, asked.setting, search, lambda steps=steps: progress.at(next(steps)))
        store.keep(*made, search)
    cells = {quantizer: [store.cell(quantizer, seed) for seed in range(asked.seeds)] for quantizer in asked.quantizers}
    shown = {quantizer: store.shown(quantizer) for quantizer in asked.quantizers}
    pictures = len(next(iter(shown.values())))
    config = {
        **store.config,
        "train_images": len(images.train),
        "test_images": min(asked.setting.test_images, len(images.test)),
        "seeds": asked.seeds,
        "quantizers": list(asked.quantizers),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    return TokenizerResult(config, cells, images.test[:pictures], shown)


class _Store:
    """Finished cells in a folder."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.config = config
        self._folder = folder
        self._cells: dict[tuple[str, int], tuple[Cell, bool]] = {}
        for line in self._lines():
            if line["config"] == config:
                cell, searched = _cell(line["cell"]), bool(line["searched"])
                self._cells[cell.quantizer, cell.seed] = cell, searched

    def has(self, quantizer: str, seed: int, search: bool) -> bool:
        """Return whether a cell is there, with its search if that was asked for."""
        _, searched = self._cells.get((quantizer, seed), (None, None))
        is_shown = seed > 0 or self._picture(quantizer).is_file()
        return searched is not None and is_shown and (searched or not search)

    def cell(self, quantizer: str, seed: int) -> Cell:
        return self._cells[quantizer, seed][0]

    def shown(self, quantizer: str) -> np.ndarray:
        return np.load(self._picture(quantizer), allow_pickle=False)

    def keep(self, cell: Cell, shown: np.ndarray, searched: bool) -> None:
        """Write a cell's reconstructions if its seed is the first, and then the cell."""
        if cell.seed == 0:
            with replacing(self._picture(cell.quantizer)) as partial, open(partial, "wb") as opened:
                np.save(opened, shown)
        line = json.dumps({"config": self.config, "searched": searched, "cell": asdict(cell)})
        with open(self._folder / CELLS, "a") as opened:
            opened.write(line + "\n")
        self._cells[cell.quantizer, cell.seed] = cell, searched

    def _picture(self, quantizer: str) -> Path:
        setting = "-".join(str(value) for name, value in self.config.items() if name != "data")
        return self._folder / f"{quantizer}-{setting}.npy"

    def _lines(self) -> Iterator[dict[str, Any]]:
        try:
            text = (self._folder / CELLS).read_text()
        except FileNotFoundError:
            return
        for line in text.splitlines():
            try:
                yield json.loads(line)
            except ValueError:  # the last line of a run that was killed
                continue


def _cell(stored: dict[str, Any]) -> Cell:
    search = stored.pop("search")
    return Cell(**stored, search=None if search is None else SearchFigures(**search))
