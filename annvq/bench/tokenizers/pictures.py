"""Pictures of the comparison: reconstructions, rate against distortion, utilization."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from annvq.bench.labels import label_points
from annvq.bench.plots import color, figure_of, finish
from annvq.bench.tokenizers.run import TokenizerResult

_IMAGES = 6


def draw(result: TokenizerResult, folder: Path) -> list[Path]:
    """Draw all pictures into a folder; MissingExtraError without matplotlib."""
    data = result.config["data"]
    drawn: dict[str, Callable[[TokenizerResult, Path], None]] = {
        "reconstructions": reconstructions,
        "rate-distortion": rate_against_distortion,
        "utilization": utilization,
    }
    paths = [folder / f"{data}-{name}.png" for name in drawn]
    for path, one in zip(paths, drawn.values()):
        one(result, path)
    return paths


def reconstructions(result: TokenizerResult, path: Path) -> None:
    """Draw a row of test images, and below it a row for each quantizer's reconstructions."""
    rows = {"original": result.originals, **result.reconstructions}
    figure, axes = figure_of((1.2 + _IMAGES * 0.9, 0.2 + len(rows) * 0.75), rows=len(rows))
    psnr = {row["quantizer"]: row["psnr"] for row in result.rows()}
    for axis, (name, images) in zip(np.atleast_1d(axes), rows.items()):
        strip = np.concatenate(list(images[:_IMAGES].transpose(0, 2, 3, 1)), 1)
        axis.imshow(strip.squeeze(-1) if strip.shape[-1] == 1 else strip, cmap="gray", vmin=0, vmax=255)
        axis.set_axis_off()
        label = name if name == "original" else f"{name}\n{psnr[name]:.1f} dB"
        axis.text(-0.02, 0.5, label, transform=axis.transAxes, ha="right", va="center", fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    figure.savefig(path.with_suffix(".svg"))


def rate_against_distortion(result: TokenizerResult, path: Path) -> None:
    """Draw each quantizer: bits per image (log) to the right, PSNR upwards, and the spread over seeds as a bar."""
    figure, axes = figure_of()
    for number, row in enumerate(result.rows()):
        axes.errorbar(
            row["bits_per_image"],
            row["psnr"],
            yerr=row["psnr_spread"] or 0.0,
            marker="osD^vP*Xp<>h"[number % 12],
            linestyle="none",
            color=color(number),
        )
    axes.set_xscale("log", base=2)
    axes.set_xlabel("bits per image (log scale)")
    axes.set_ylabel("PSNR, dB (higher is better)")
    rows = result.rows()
    places = np.array([(row["bits_per_image"], row["psnr"]) for row in rows])
    rates = np.unique(places[:, 0])
    axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
    axes.minorticks_off()
    note = "one seed, so no bars" if result.config["seeds"] == 1 else "bars: standard deviation over seeds"
    finish(
        figure, axes, path, f"{_title(result)}\nrate against distortion", note,
        lambda: label_points(axes, places, [row["quantizer"] for row in rows], [*map(color, range(len(rows)))]),
    )  # fmt: skip


def utilization(result: TokenizerResult, path: Path) -> None:
    """Draw the share of codes that are used, and perplexity as a share of the codes, for each quantizer."""
    rows = result.rows()
    figure, axes = figure_of()
    places, named = np.arange(len(rows)), []
    for shift, (label, values) in zip((0.2, -0.2), _shares(result, rows).items()):
        bars = axes.barh(places - shift, values, 0.38, color=color(int(shift < 0)))
        named.append((label, bars.patches[0]))
    axes.set_yticks(places, [row["quantizer"] for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel(f"share of the codes, over {rows[0]['tokens']:,} vectors")

    def name_bars() -> None:
        for label, bar in named:
            place = (bar.get_width() + 0.01, bar.get_y() + bar.get_height() / 2)
            axes.text(*place, label, va="center", fontsize=8, color=bar.get_facecolor())

    finish(figure, axes, path, f"{_title(result)}\nuse of the codebook", "means over seeds", name_bars)


def _shares(result: TokenizerResult, rows: list[dict[str, Any]]) -> dict[str, list[float]]:
    codes = {name: cells[0].codebook_size for name, cells in result.cells.items()}
    return {
        "used at all": [row["utilization"] for row in rows],
        "perplexity": [row["perplexity"] / codes[row["quantizer"]] for row in rows],
    }


def _title(result: TokenizerResult) -> str:
    config = result.config
    seeds = "1 seed" if config["seeds"] == 1 else f"{config['seeds']} seeds"
    return f"{config['data']}: {config['steps']:,} steps, {seeds}"
