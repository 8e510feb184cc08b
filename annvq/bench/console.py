"""Benchmark results as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from annvq.bench.ann import TARGETS, AnnResult
from annvq.bench.quality import Quality
from annvq.bench.sweep import Point, chosen

_HEADERS = {"ndcg@10": "nDCG@10", "mrr@10": "MRR@10", "map@100": "MAP@100"}


def speed_table(result: AnnResult) -> Table:
    """Return queries a second at three recalls for every index, and how annvq's best compares.

    The setting is chosen on the tuning queries; queries a second and recall are of the others.
    """
    mode = result.config["mode"]
    table = Table(
        title=f"{result.config['data']}: queries/s, {mode}, threads {result.config['threads']} "
        "(recall; annvq's best / this)",
        title_justify="left",
    )
    table.add_column("library")
    table.add_column("index")
    table.add_column("build s", justify="right")
    table.add_column("bytes/vector", justify="right")
    for target in TARGETS:
        table.add_column(f"recall >= {target:.2f}", justify="right")
    own = {target: _best_own(result.points, target) for target in TARGETS}
    for (lib, recipe), points in result.by_index().items():
        cells = [_speed(chosen(points, target), own[target]) for target in TARGETS]
        first = points[0]
        table.add_row(lib, recipe, f"{first.build_s:.1f}", f"{first.bytes_per_vector:,.0f}", *cells)
    for name, reason in result.skipped.items():
        table.add_row(name, f"skipped: {reason}", style="dim")
    return table


def _best_own(points: Sequence[Point], target: float) -> Point | None:
    return chosen([point for point in points if point.lib == "annvq"], target)


def _speed(point: Point | None, own: Point | None) -> str:
    if point is None:
        return "-"
    ratio = f"; {own.qps / point.qps:.2f}x" if own is not None and point.lib != "annvq" else ""
    return f"{point.qps:,.0f} ({point.recall:.3f}{ratio})"


def quality_table(qualities: Sequence[Quality], title: str) -> Table:
    """Return ranking measures, size, speed and building time of every recipe."""
    table = Table(title=title, title_justify="left")
    table.add_column("recipe")
    measures = list(dict.fromkeys(name for quality in qualities for name in quality.measures))
    for name in measures:
        table.add_column(_HEADERS.get(name, name), justify="right")
    for name in ("recall@10 vs exact", "bytes/vector", "compression", "queries/s", "build s"):
        table.add_column(name, justify="right")
    for quality in qualities:
        table.add_row(
            quality.recipe,
            *(f"{quality.measures[name]:.4f}" for name in measures),
            f"{quality.recall_vs_exact:.4f}",
            f"{quality.bytes_per_vector:,.0f}",
            f"{quality.compression:.1f}x",
            f"{quality.qps:,.0f}",
            f"{quality.build_s:.2f}",
        )
    return table
