"""Pictures of benchmark results. matplotlib (extra "plot") is imported only here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
    figure, axes = _figure()
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
            color=_color(number),
            label=f"{points[0].lib}  {points[0].recipe}" + ("" if front else f"  (below {_LEAST_RECALL})"),
        )
    axes.set_yscale("log")
    _label_log_axis(axes.yaxis, (1, 2, 5))
    axes.set_xlabel("recall (share of the k nearest neighbours found)")
    axes.set_ylabel("queries per second (log scale)")
    _finish(figure, axes, path, title)


def quality_against_size(qualities: Sequence[Quality], path: Path, title: str, measure: str = "ndcg@10") -> None:
    """Draw each recipe: bytes a vector (log) to the right, a ranking measure upwards.

    The dashed line is exact search, where a recipe "flat" was measured.
    """
    figure, axes = _figure()
    for number, quality in enumerate(qualities):
        axes.plot(
            quality.bytes_per_vector,
            quality.measures[measure],
            marker=_MARKERS[number % len(_MARKERS)],
            markersize=12 - 5 * number / len(qualities),  # recipes at the same place do not hide each other
            markeredgecolor="white",
            linestyle="none",
            color=_color(number),
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
    _finish(figure, axes, path, title)


def _figure() -> tuple[Any, Any]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "plot") from None
    figure = Figure(figsize=(11, 5.8), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)  # no display, no global state
    return figure, figure.add_subplot()


def _label_log_axis(axis: Any, digits: tuple[int, ...]) -> None:
    """Write plain numbers at these leading digits of each decade, not powers of ten alone."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=digits))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.set_minor_formatter(NullFormatter())


def _color(number: int) -> tuple[float, float, float]:
    from matplotlib import colormaps

    palette = colormaps["tab10"] if number < 10 else colormaps["Dark2"]
    return palette(number % 10 % palette.N)[:3]


def _finish(figure: Any, axes: Any, path: Path, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(True, which="major", color="0.85", linewidth=0.8)
    axes.grid(True, which="minor", color="0.93", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
