"""Pictures of benchmark results. matplotlib (extra "plot") is imported only here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from annvq.bench.quality import Quality
from annvq.bench.sweep import Point, pareto
from annvq.errors import MissingExtraError

_MARKERS = "osD^vP*Xp<>h"
_LEAST_RECALL = 0.8  # what lies below is of little use, and would squeeze the rest


def recall_against_speed(groups: Sequence[Sequence[Point]], path: Path, title: str) -> None:
    """Draw each index's best settings: recall to the right, queries a second (log) upwards.

    Parameters
    ----------
    groups
        The points of one index each; annvq's are drawn solid and thick, others dashed.
    path
        PNG to write.
    title
        What is compared.

    """
    figure, axes = figure_of()
    for number, points in enumerate(groups):
        front = [point for point in pareto(points) if point.recall >= _LEAST_RECALL]
        is_own = points[0].lib == "annvq"
        axes.plot(
            [point.recall for point in front],
            [point.qps for point in front],
            marker=_MARKERS[number % len(_MARKERS)],
            markersize=6 if is_own else 4,
            linewidth=2.2 if is_own else 1.2,
            linestyle="-" if is_own else "--",
            color=color(number),
            label=f"{points[0].lib}  {points[0].recipe}" + ("" if front else f"  (below {_LEAST_RECALL})"),
        )
    axes.set_yscale("log")
    _label_log_axis(axes.yaxis, (1, 2, 5))
    axes.set_xlabel("recall (share of the k nearest neighbours found)")
    axes.set_ylabel("queries per second (log scale)")
    finish(figure, axes, path, title)


def quality_against_size(qualities: Sequence[Quality], path: Path, title: str, measure: str = "ndcg@10") -> None:
    """Draw each recipe: bytes a vector (log) to the right, a ranking measure upwards.

    The dashed line is exact search, where a recipe "flat" was measured.
    """
    figure, axes = figure_of()
    for number, quality in enumerate(qualities):
        axes.plot(
            quality.bytes_per_vector,
            quality.measures[measure],
            marker=_MARKERS[number % len(_MARKERS)],
            markersize=12 - 5 * number / len(qualities),  # recipes at the same place do not hide each other
            markeredgecolor="white",
            linestyle="none",
            color=color(number),
            label=f"{quality.recipe}  ({quality.compression:.0f}x)",
        )
    for quality in qualities:
        if quality.recipe == "flat":
            exact = quality.measures[measure]
            axes.axhline(exact, color="0.5", linestyle="--", linewidth=1, zorder=0, label="exact search")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("bytes per vector (log scale)")
    axes.set_ylabel(f"{measure.replace('ndcg', 'nDCG')} (higher is better)")
    values = [quality.measures[measure] for quality in qualities]
    # At least a tenth of the whole is shown: differences of no weight should not look large.
    axes.set_ylim(min(*values, 0.92 * max(values)) - 0.01 * max(values), 1.02 * max(values) or 1.0)
    finish(figure, axes, path, title)


def quality_against_bytes(rows: Sequence[Mapping[str, Any]], path: Path, title: str, measure: str) -> None:
    """Draw methods of one model: bytes of the table (log) to the right, a measure with its spread upwards.

    Parameters
    ----------
    rows
        Of `annvq.bench.tables.grid.TablesResult`; the one at ratio 1 is the dashed line.
    path
        PNG to write.
    title
        What is compared.
    measure
        Name of the measure.

    """
    figure, axes = figure_of()
    for number, method in enumerate(dict.fromkeys(row["method"] for row in rows if row["ratio"] != 1)):
        own = sorted((row for row in rows if row["method"] == method), key=lambda row: row["bytes"])
        axes.errorbar(
            [row["bytes"] for row in own],
            [row[measure] for row in own],
            yerr=[row[f"{measure}_std"] for row in own],
            marker=_MARKERS[number % len(_MARKERS)],
            linewidth=1.2,
            capsize=2,
            color=color(number),
            label=method,
        )
    for row in rows:
        if row["ratio"] == 1:
            axes.axhline(row[measure], color="0.5", linestyle="--", linewidth=1, zorder=0, label=row["method"])
    axes.set_xscale("log", base=10)
    axes.set_xlabel("bytes of the table (log scale)")
    full = rows[0]["bytes"] * rows[0]["reached"]

    def other(value: np.ndarray) -> np.ndarray:  # bytes to times smaller, and back; matplotlib also asks of 0
        return full / np.maximum(value, 1e-9)

    above = axes.secondary_xaxis("top", functions=(other, other))
    above.set_xlabel("times smaller than float32, as reached")
    _label_log_axis(above.xaxis, (1, 2, 5))
    axes.set_ylabel(f"{measure} (higher is better)")
    finish(figure, axes, path, title)


def figure_of(size: tuple[float, float] = (11, 5.8), rows: int = 1) -> tuple[Any, Any]:
    """Return a figure (width, height in inches) and its axes, an array of these where there are several rows."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "plot") from None
    figure = Figure(figsize=size, dpi=130, layout="constrained")
    FigureCanvasAgg(figure)  # no display, no global state
    return figure, figure.subplots(rows)


def _label_log_axis(axis: Any, digits: tuple[int, ...]) -> None:
    """Write plain numbers at these leading digits of each decade, not powers of ten alone."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=digits))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.set_minor_formatter(NullFormatter())


def color(number: int) -> tuple[float, float, float]:
    """Return the colour of the so-manieth line."""
    from matplotlib import colormaps

    palette = colormaps["tab10"] if number < 10 else colormaps["Dark2"]
    return palette(number % 10 % palette.N)[:3]


def finish(figure: Any, axes: Any, path: Path, title: str) -> None:
    """Give a figure title, grid and legend, and write it."""
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(True, which="major", color="0.85", linewidth=0.8)
    axes.grid(True, which="minor", color="0.93", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
