"""Benchmark results as tables for a terminal."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from annvq.bench.ann import AnnResult
from annvq.bench.compare import SideBySide
from annvq.bench.quality import Quality
from annvq.bench.sweep import TARGETS, Mode, Point, chosen

if TYPE_CHECKING:
    from annvq.bench.tables.grid import TablesResult

_HEADERS = {"ndcg@10": "nDCG@10", "mrr@10": "MRR@10", "map@100": "MAP@100"}
_SHORTER = {"compression": "times smaller"}
_BREAK = re.compile(r" (?=s$|>|exact|smaller)|(?=@|/s$)|(?<=/)(?=v)")
_UNBOUNDED = 10_000  # columns


def print_fitting(console: Console, make: Callable[[bool], Table]) -> None:
    """Print a table, with lines around its cells if there is room for them.

    Parameters
    ----------
    console
        The console to print to.
    make
        Makes the table; its argument says whether the table must be narrow, about 80 columns.

    """
    table = make(False)
    natural = Measurement.get(console, console.options.update(max_width=_UNBOUNDED), table).maximum
    console.print(table if natural <= console.width else make(True))


def megabytes(size: float) -> str:
    """Return bytes as MB, of 1,000,000 bytes."""
    return f"{size / 1e6:,.2f} MB" if size >= 1e5 else f"{size / 1e6:.4f} MB"


def _table(title: str, narrow: bool) -> Table:
    if not narrow:
        return Table(title=title, title_justify="left")
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0, show_edge=False)


def speed_table(result: AnnResult, mode: Mode, narrow: bool = False) -> Table:
    """Return queries per second at three recalls for every index in one mode.

    The setting is chosen on the tuning queries; queries per second and recall are measured on the others. Indexes are
    measured one after another, over a long time: `comparison_table` has the speeds that may be compared.
    """
    gap = "\n" if narrow else " "

    def speed(point: Point) -> str:
        return f"{point.qps:,.0f}{gap}({point.recall:.3f})"

    table = _index_table(result, mode, "queries/s", "(recall)", speed, narrow)
    for name, reason in result.skipped.items():
        lib, _, index = name.partition(" ")
        table.add_row(lib, f"{index} skipped: {reason}".strip(), style="dim")
    return table


def latency_table(result: AnnResult, mode: Mode, narrow: bool = False) -> Table:
    """Return how long a single query takes with the settings of `speed_table`: mean, median and 99th percentile."""
    gap = "\n" if narrow else "  "

    def latency(point: Point) -> str:
        milliseconds = (point.latency_ms_mean, point.latency_ms_p50, point.latency_ms_p99)
        return gap.join(f"{1000.0 * value:,.1f}" for value in milliseconds)

    return _index_table(result, mode, "µs per query", "(mean, p50, p99)", latency, narrow)


def _index_table(
    result: AnnResult, mode: Mode, what: str, how: str, cell: Callable[[Point], str], narrow: bool
) -> Table:
    table = _table(f"{_data(result)}: {what}, {mode} {how}", narrow)
    table.add_column("library", no_wrap=True)
    table.add_column("index", overflow="fold")  # names are broken, never cut
    for name in ("build s", "bytes/vector", *(f"recall >= {target:.2f}" for target in TARGETS)):
        table.add_column(_header(name, narrow), justify="right")
    for (lib, recipe), points in result.by_index(mode).items():
        found = [chosen(points, target) for target in TARGETS]
        cells = ["-" if point is None else cell(point) for point in found]
        first = points[0]
        table.add_row(lib, recipe, f"{first.build_s:.1f}", f"{first.bytes_per_vector:,.0f}", *cells)
    return table


def _data(result: AnnResult) -> str:
    return f"{result.config['data']}, {result.config['n']:,} vectors"


def comparison_table(result: AnnResult, mode: Mode, narrow: bool = False) -> Table:
    """Return annvq's speed beside that of every library's best index, at the recall that this index reached.

    The best index is the one that is fastest beside annvq. The last column is by how much annvq's own speed changed
    from right before to right after the library was measured.
    """
    table = _table(f"{_data(result)}: annvq beside each library's best index, {mode}", narrow)
    table.add_column("library", no_wrap=True)
    table.add_column("index", overflow="fold")
    gap = "\n" if narrow else " "
    own_columns = ("annvq", f"annvq's{gap}bytes", f"annvq's{gap}speed", "change")
    for name in ("recall", "reached", "queries/s", "bytes/vector", *own_columns):
        table.add_column(_header(name, narrow), justify="left" if name == "annvq" else "right", overflow="fold")
    for comparison in _hardest(result, mode):
        point, own, ratio = comparison.point, comparison.own, comparison.ratio
        reached = (f">= {comparison.target:.2f}", f"{point.recall:.3f}")
        shown = (point.lib, point.recipe, *reached, f"{point.qps:,.0f}", f"{point.bytes_per_vector:,.0f}")
        if own is None or ratio is None:
            table.add_row(*shown, "recall not reached")
            continue
        busy = f"{gap}busy" if comparison.use.is_busy else ""
        change = f"{comparison.change:.0%}{busy}"
        table.add_row(*shown, own.recipe, f"{own.bytes_per_vector:,.0f}", f"{ratio:.2f}x", change)
    return table


def _hardest(result: AnnResult, mode: Mode) -> list[SideBySide]:
    """Return for every library and recall the comparison in which annvq does worst, library by library."""
    worst: dict[tuple[str, float], SideBySide] = {}
    for comparison in result.comparisons:
        key = comparison.point.lib, comparison.target
        if comparison.point.mode == mode and (key not in worst or _ratio(comparison) < _ratio(worst[key])):
            worst[key] = comparison
    return list(worst.values())


def _ratio(comparison: SideBySide) -> float:
    return -1.0 if comparison.ratio is None else comparison.ratio  # annvq does not reach that recall: nothing is worse


def _header(name: str, narrow: bool) -> str:
    """Return a header, which in a narrow table is broken where that is allowed."""
    return _BREAK.sub("\n", _SHORTER.get(name, name)) if narrow else name


def tables_table(result: TablesResult, model: str, narrow: bool = False) -> Table:
    """Return sizes and measures (mean and spread over seeds) of every method and ratio with one model.

    ``ratio`` is what was asked for; ``reached`` says how many times smaller than float32 the table really is.
    """
    config = result.config
    title = f"{config['data']}, {model}: {config['rows']:,} rows of {config['dim']}, {config['seeds']} seeds"
    table = _table(title, narrow)
    table.add_column("method")
    for name in ("ratio", "reached", "size", *(_HEADERS.get(name, name) for name in result.measures)):
        table.add_column(name, justify="right")
    for row in result.rows():
        if row["params"]["model"] == model:
            values = [f"{row[name]:.4f}" for name in result.measures]
            if config["seeds"] > 1:
                gap = "\n" if narrow else " "
                spreads = [f"± {row[f'{name}_std']:.4f}" for name in result.measures]
                values = [f"{value}{gap}{spread}" for value, spread in zip(values, spreads, strict=True)]
            sizes = (f"{row['ratio']:g}x", f"{row['reached']:.1f}x", megabytes(row["bytes"]))
            table.add_row(row["method"], *sizes, *values)
    for name in result.refused():
        method, ratio = name.split()
        table.add_row(method, ratio, "", "too small", style="dim")
    return table


def quality_table(qualities: Sequence[Quality], title: str, narrow: bool = False) -> Table:
    """Return ranking measures, size, speed and building time of every recipe."""
    table = _table(title, narrow)
    table.add_column("recipe", overflow="fold")  # names are broken, never cut
    measures = list(dict.fromkeys(name for quality in qualities for name in quality.measures))
    for name in measures:
        table.add_column(_header(_HEADERS.get(name, name), narrow), justify="right")
    for name in ("recall@10 vs exact", "bytes/vector", "compression", "queries/s", "build s"):
        table.add_column(_header(name, narrow), justify="right")
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


def tokenizer_table(rows: Sequence[Mapping[str, Any]], title: str, narrow: bool = False) -> Table:
    """Return rate, distortion and codebook use of every quantizer, as mean and spread over seeds."""
    table = _table(title, narrow)
    table.add_column("quantizer", overflow="fold")
    searched = any("search" in row for row in rows)
    headers = ["bits", "bits/image", "PSNR dB", "utilization", "perplexity", "train s"]
    for name in (*headers, *(("recall@10 by codes", "of latents", "bytes/image") if searched else ())):
        table.add_column(_header(name, narrow), justify="right")
    for row in rows:
        cells = [f"{row['bits']:g}", f"{row['bits_per_image']:,.0f}", _spread(row, "psnr", ".2f")]
        cells += [_spread(row, "utilization", ".1%"), _spread(row, "perplexity", ",.0f"), f"{row['train_s']:,.0f}"]
        if found := row.get("search"):
            cells += [f"{found['recall_codes']:.3f}", f"{found['recall_latents']:.3f}"]
            cells.append(f"{found['bytes_per_image']:,.0f} of {found['latent_bytes']:,}")
        table.add_row(row["quantizer"], *cells)
    return table


def _spread(row: Mapping[str, Any], name: str, form: str) -> str:
    """Return a mean and, if there are several seeds, the standard deviation."""
    deviation = row[f"{name}_spread"]
    return f"{row[name]:{form}}" + ("" if deviation is None else f" ±{deviation:{form}}")
