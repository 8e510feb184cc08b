"""Pictures of benchmark results. matplotlib (extra "plot") is imported only here.

The colours are those of Okabe and Ito, which readers with any colour vision can tell apart; lines and points are
labelled in place.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from annvq.bench import machine
from annvq.bench.labels import label_ends, label_points
from annvq.bench.quality import AGREEMENT, Quality
from annvq.bench.sweep import Point, pareto
from annvq.errors import MissingExtraError

_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D1F", "#882255")
MARKERS = "osD^vP*Xh"
_DASHES = ("--", ":", "-.")  # of another library's first, second and third index
_LEAST_RECALL = 0.8  # lower recalls are of little use, and would squeeze the rest
_RECALLS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 1.0)
_FLOOR = 5e-4  # of 1 - recall, so that a recall of 1 has a place on the axis, too
_RESAMPLES = 1000
_FAMILIES = {  # of embedding tables
    "hashing and composition": ("Hash", "CompoEmb", "ROBE", "DHE", "Dedup", "TTRec"),
    "codebooks": ("PQ", "RVQ", "DPQ", "MGQE", "RaBitQ"),
    "mixed and searched dimensions": ("uniform", "MDE", "AdaptEmb", "AutoDim", "OptEmbed", "DNIS", "AutoSrh"),
    "pruning": ("DeepLight", "PEP"),
    "low precision": ("FP16", "INT16", "INT8", "ALPT"),
}
_SAME = 0.012  # of the axes: points closer than this are drawn as rings around each other


def recall_against_speed(groups: Sequence[Sequence[Point]], path: Path, title: str) -> None:
    """Draw each index's best settings: recall, stretched towards 1, on x and queries per second (log) on y.

    Parameters
    ----------
    groups
        The points of one index each; annvq's are drawn in colours, others in grey and dashed, with one marker per
        library, which is empty for all its indexes but the first.
    path
        The PNG to write; an SVG is written beside it.
    title
        What is compared.

    """
    figure, axes = figure_of((10, 6))
    fronts = [[point for point in pareto(points) if point.recall >= _LEAST_RECALL] for points in groups]
    ends, texts, colors = [], [], []
    libraries: dict[str, int] = {}  # how many of its indexes were drawn
    for points, front in zip(groups, fronts):
        lib = points[0].lib
        is_own = lib == "annvq"
        nth = libraries[lib] = libraries.get(lib, -1) + 1
        number = nth if is_own else [name for name in libraries if name != "annvq"].index(lib)
        shade = color(number) if is_own else grey(number)
        if not front:
            continue
        axes.plot(
            [point.recall for point in front], [point.qps for point in front],
            marker=MARKERS[number % len(MARKERS)], markersize=5 if is_own else 4,
            markerfacecolor="white" if nth and not is_own else shade, linewidth=2.2 if is_own else 1.2,
            linestyle="-" if is_own else _DASHES[nth % len(_DASHES)], clip_on=False, color=shade,
            zorder=4 if is_own else 3,
        )  # fmt: skip
        ends.append((front[-1].recall, front[-1].qps))
        name = points[0].recipe
        texts.append(name if is_own or name.lower().startswith(points[0].lib) else f"{points[0].lib} {name}")
        colors.append(shade)
    axes.set_yscale("log")
    label_log_axis(axes.yaxis, (1, 2, 5))
    _open_towards_one(axes, "x", [point.recall for front in fronts for point in front] or [1.0])
    axes.set_xlabel("recall: share of the nearest neighbours found (the axis opens towards 1)")
    axes.set_ylabel("queries per second (log scale)")
    below = [points[0].recipe for points, front in zip(groups, fronts) if not front]
    note = "one run, one index after the other, on half of the queries; settings chosen on the other half" + (
        f"; below a recall of {_LEAST_RECALL}: {', '.join(below)}" if below else ""
    )
    _adorn(axes, title)
    _foot(figure, note)
    if ends:
        label_ends(axes, np.array(ends), texts, colors)
    _save(figure, path)


def quality_against_size(qualities: Sequence[Quality], path: Path, title: str, measure: str = "ndcg@10") -> None:
    """Draw each recipe twice: a ranking measure, and agreement with exact search, against bytes per vector (log).

    Bars are bootstrap intervals over queries: of the difference from exact search if a recipe "flat" was measured,
    otherwise of the value. The dashed line is exact search. Recipes at one place are drawn as rings around each other.
    """
    figure, (left, right) = figure_of((12.5, 5.8), columns=2)
    exact = next((quality for quality in qualities if quality.recipe == "flat"), None)
    sizes = [quality.bytes_per_vector for quality in qualities]
    for axes, name in ((left, measure), (right, AGREEMENT)):
        values = [quality.recall_vs_exact if name == AGREEMENT else quality.measures[name] for quality in qualities]
        bars = [_interval(quality, exact if name == measure else None, name) for quality in qualities]
        axes.set_xscale("log", base=2)
        axes.set_xlim(min(sizes) / 1.9, max(sizes) * 1.9)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel("bytes per vector (log scale)")
        if name == AGREEMENT:
            _open_towards_one(axes, "y", values)
            axes.set_ylabel("recall@10 against exact search (the axis opens towards 1)")
        else:
            _room_for(axes, values, bars)
            axes.set_ylabel(f"{name.replace('ndcg', 'nDCG')} (higher is better)")
            if exact is not None:
                axes.axhline(exact.measures[name], color="0.5", linestyle="--", linewidth=1, zorder=0)
        _adorn(axes, "")
        level = [] if exact is None or name == AGREEMENT else [exact.measures[name]]
        _draw_points(axes, qualities, np.column_stack([sizes, values]), bars, level)
    left.set_title(title, loc="left", fontsize=11)
    what = "the difference from exact search (left) and of the value (right)" if exact is not None else "the value"
    has_bars = any(bar is not None for bar in bars)
    _foot(figure, f"bars: 95% bootstrap intervals over queries of {what}" if has_bars else "")
    _save(figure, path)


def _draw_points(
    axes: Any, qualities: Sequence[Quality], places: np.ndarray, bars: Sequence[Any], level: Sequence[float]
) -> None:
    """Draw a marker, a bar and a name for each recipe; those at one place are rings that share a label.

    ``level`` holds the heights of lines that names keep clear of.
    """
    axes.figure.draw_without_rendering()
    shares = axes.transAxes.inverted().transform(axes.transData.transform(places))
    groups: list[list[int]] = []
    for row, share in enumerate(shares):
        near = next((group for group in groups if np.abs(shares[group[0]] - share).max() < _SAME), None)
        groups.append([row]) if near is None else near.append(row)
    for group in groups:
        for ring, row in enumerate(group):
            x, y = places[row]
            if bars[row] is not None:
                low, high = bars[row]
                axes.vlines(x, low, high, color=color(row), linewidth=1.2, alpha=0.6, zorder=2)
            axes.plot(
                x, y, marker=MARKERS[row % len(MARKERS)] if ring == 0 else "o", markersize=7 + 5 * ring,
                markerfacecolor=color(row) if ring == 0 else "none", markeredgecolor=color(row), markeredgewidth=1.4,
                linestyle="none", zorder=5, clip_on=False,
            )  # fmt: skip
    names = [" = ".join(qualities[row].recipe for row in group) for group in groups]
    lines = [(x, bar[0], x, bar[1]) for (x, _), bar in zip(places, bars) if bar is not None]
    left, right = axes.get_xlim()
    lines += [(left, y, right, y) for y in level]
    label_points(
        axes,
        np.array([places[group[0]] for group in groups]),
        names,
        [color(group[0]) for group in groups],
        lines=lines,
    )


def _interval(quality: Quality, exact: Quality | None, name: str) -> tuple[float, float] | None:
    """Return a 95% bootstrap interval over queries around a value, or None if there are no values per query."""
    values = quality.per_query.get(name)
    if values is None or len(values) < 2:
        return None
    centre = 0.0
    if exact is not None and len(exact.per_query.get(name, ())) == len(values):
        centre, values = exact.measures[name], values - exact.per_query[name]
    rows = np.random.default_rng(0).integers(0, len(values), (_RESAMPLES, len(values)))
    low, high = np.percentile(values[rows].mean(1), (2.5, 97.5))
    return centre + float(low), centre + float(high)


def _room_for(axes: Any, values: Sequence[float], bars: Sequence[tuple[float, float] | None]) -> None:
    """Show at least a tenth of the whole range, so that negligible differences do not look large."""
    most = max([*values, *(bar[1] for bar in bars if bar is not None)])
    least = min([*values, *(bar[0] for bar in bars if bar is not None), 0.92 * most])
    axes.set_ylim(least - 0.01 * most, 1.03 * most or 1.0)


def quality_against_bytes(rows: Sequence[Mapping[str, Any]], path: Path, title: str, measure: str) -> None:
    """Draw the methods of one model, one panel per family: bytes of the table (log) on x, a measure on y.

    Parameters
    ----------
    rows
        Rows of `annvq.bench.tables.grid.TablesResult`; ratio 1 is the dashed line, bars show the spread of seeds.
    path
        The PNG to write; an SVG is written beside it.
    title
        What is compared.
    measure
        Name of the measure.

    """
    methods = list(dict.fromkeys(row["method"] for row in rows if row["ratio"] != 1))
    families = {family: [name for name in methods if name in names] for family, names in _FAMILIES.items()}
    known = {name for names in families.values() for name in names}
    families = {**families, "other": [name for name in methods if name not in known]}
    families = {family: names for family, names in families.items() if names}
    across = min(3, len(families))
    down = -(-len(families) // across)
    figure, panels = figure_of((4.4 * across + 1.6, 3.7 * down + 1.0), rows=down, columns=across, shared=True)
    panels = np.atleast_1d(panels).ravel()
    for panel in panels[len(families) :]:
        panel.set_axis_off()
    seeds = max((len(row.get("params", {}).get("seeds", [])) for row in rows), default=0)
    waiting = []
    for axes, (family, names) in zip(panels, families.items()):
        axes.set_xscale("log", base=10)
        label_log_axis(axes.xaxis, (1, 3), _bytes)
        for row in rows:  # other families in grey, so that panels can be compared
            if row["ratio"] != 1 and row["method"] not in names:
                axes.plot(row["bytes"], row[measure], marker=".", color="0.85", linestyle="none", zorder=0)
            if row["ratio"] == 1:
                axes.axhline(row[measure], color="0.5", linestyle="--", linewidth=1, zorder=0)
        ends = []
        for number, method in enumerate(names):
            own = sorted((row for row in rows if row["method"] == method), key=lambda row: row["bytes"])
            axes.errorbar(
                [row["bytes"] for row in own], [row[measure] for row in own],
                yerr=[row[f"{measure}_std"] for row in own] if seeds != 1 else None,
                marker=MARKERS[number % len(MARKERS)], markersize=5, linewidth=1.3, capsize=2, color=color(number),
            )  # fmt: skip
            ends.append((own[-1]["bytes"], own[-1][measure]))
        _adorn(axes, family)
        waiting.append((axes, np.array(ends), names))
    for number, axes in enumerate(panels[: len(families)]):
        if number + across >= len(families):
            axes.set_xlabel("bytes of the table (log scale)")
            axes.tick_params(labelbottom=True)
        if number % across == 0:
            axes.set_ylabel(f"{measure} (higher is better)")
    figure.suptitle(title, x=0.02, ha="left", fontsize=11)
    bars = "one seed, so no bars" if seeds == 1 else "bars: standard deviation over seeds"
    _foot(figure, f"{bars}; dashed: uncompressed; grey: methods of the other panels")
    for axes, ends, names in waiting:
        label_ends(axes, ends, names, [color(number) for number in range(len(names))], size=8)
    _save(figure, path)


def figure_of(
    size: tuple[float, float] = (11, 5.8), rows: int = 1, columns: int = 1, shared: bool = False
) -> tuple[Any, Any]:
    """Return a figure (width, height in inches) and its axes, an array if there are several."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "plot") from None
    figure = Figure(figsize=size, dpi=130, layout="constrained")
    FigureCanvasAgg(figure)  # no display, no global state
    return figure, figure.subplots(rows, columns, sharex=shared, sharey=shared)


def _open_towards_one(axes: Any, which: str, recalls: Sequence[float]) -> None:
    """Give an axis of recalls a scale that separates 0.97, 0.99 and 1: the logarithm of 1 - recall."""
    from matplotlib.ticker import FixedLocator, NullLocator

    def forward(recall: np.ndarray) -> np.ndarray:
        return -np.log10(np.maximum(1.0 - np.asarray(recall, float), 0.0) + _FLOOR)

    def back(place: np.ndarray) -> np.ndarray:
        return 1.0 + _FLOOR - 10.0 ** -np.asarray(place, float)

    axis = getattr(axes, f"{which}axis")
    getattr(axes, f"set_{which}scale")("function", functions=(forward, back))
    least = max([tick for tick in _RECALLS if tick < min(recalls)], default=0.0)
    low, high = forward(np.array([least, 1.0]))
    getattr(axes, f"set_{which}lim")(*back(np.array([low - 0.03 * (high - low), high + 1e-9])))
    axis.set_major_locator(FixedLocator([tick for tick in _RECALLS if tick >= least]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: f"{value:g}")


def _bytes(size: float) -> str:
    return f"{size / 1e6:g} MB" if size >= 1e6 else f"{size / 1e3:g} kB"


def _plain(value: float) -> str:
    return f"{value:,.0f}"


def label_log_axis(axis: Any, digits: tuple[int, ...], shown: Callable[[float], str] = _plain) -> None:
    """Write plain numbers at these leading digits of each decade, not only powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=digits))
    axis.set_major_formatter(FuncFormatter(lambda value, _: shown(value)))
    axis.set_minor_formatter(NullFormatter())


def color(number: int) -> str:
    """Return the colour of the line with this number."""
    return _COLORS[number % len(_COLORS)]


def grey(number: int) -> str:
    """Return the grey of another library's line with this number."""
    return ("0.2", "0.4", "0.52")[number % 3]


def finish(figure: Any, axes: Any, path: Path, title: str, note: str, label: Callable[[], None]) -> None:
    """Give a figure its title, grid, footer and labels (by calling ``label``), and write it as PNG and SVG."""
    _adorn(axes, title)
    _foot(figure, note)
    label()
    _save(figure, path)


def _adorn(axes: Any, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(True, which="major", color="0.88", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _foot(figure: Any, note: str) -> None:
    """Write below a figure what was measured, on which machine, when, and with which command."""
    about = machine.describe()
    place = f"{about['cpu']} ({about['isa']}), {about['cores']} cores, annvq {about['annvq']}, {date.today()}"
    figure.get_layout_engine().set(rect=(0, 0.075, 1, 0.925))
    lines = [line for line in (note, f"{place}: {_command()}") if line]
    figure.text(0.01, 0.012, "\n".join(lines), fontsize=7.5, color="0.35", va="bottom", wrap=True)


def _command() -> str:
    """Return the command line of this process, with paths cut to their last part."""
    words = [Path(word).name if "/" in word else word for word in sys.argv[1:]]
    return shlex.join([Path(sys.argv[0]).name.replace("__main__.py", "annvq"), *words])


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    figure.savefig(path.with_suffix(".svg"))
