"""Compare searches with a filter: annvq, Faiss, hnswlib, usearch and LanceDB, one query per call on one thread.

A column holds a random permutation of the rows' numbers, and a search asks for the 10 nearest rows whose number is
below a bound, for bounds that shares of 1 to 0.00001 of the rows are below. Every index is built without knowing of the
filter. Of each of its series of settings, the first that reaches a recall@10 of 0.95 without a filter is looked for, on
queries that are not reported; the fastest of these is the setting at which it is asked, with and without the filter.
The script prints recall@10 against exact filtered search and queries per second, from the fastest of three calls for
each query, and draws both. It needs the extra bench, and lancedb.

    python bench/filter_peers.py [--n N] [--queries N] [--only LABEL]... [--json FILE] [--out FILE.png]
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from figures import Figures, machine_line
from filter_engines import EF_CONSTRUCTION, Filtering, engines
from filter_speed import D, made

from annvq.bench import plots
from annvq.bench.labels import label_ends
from annvq.bench.machine import describe, package_version
from annvq.bench.peers import Params
from annvq.bench.timing import Search, Timing, time_singles
from annvq.evaluation import recall
from annvq.evaluation.exact import exact_neighbors

K, TARGET, METRIC = 10, 0.95, "l2"
SHARES = (1.0, 0.5, 0.1, 0.01, 0.001, 0.0001, 0.00001)
CELL = 60.0  # seconds that a cell may take; fewer queries are asked if all would take longer
PASSES, WARM, LEAST = 3, 3, 5  # passes over the queries; calls before them; queries at least
PACKAGES = ("faiss-cpu", "hnswlib", "usearch", "lancedb")

Cell = dict[str, Any]


def tuned(engine: Filtering, queries: np.ndarray, truth: np.ndarray) -> tuple[Params, float, float]:
    """Return the fastest setting that is the first of its series to reach `TARGET`, its recall and queries per second.

    If none reaches it, the setting of the highest recall is returned.
    """
    best: tuple[Params, float, float] = {}, 0.0, 0.0
    for series in engine.settings(K):
        for params in series:
            engine.set(params)
            timing = time_singles(lambda query: engine.search(query, K, 1), queries, passes=1)
            reached = recall(timing.ids, truth)
            if best[1] >= TARGET and timing.qps < best[2]:
                break  # more effort takes longer still
            if reached >= TARGET or (best[1] < TARGET and reached > best[1]):
                best = params, reached, timing.qps
            if reached >= TARGET:
                break
    return best


def measured(search: Search, queries: np.ndarray) -> Timing:
    """Time as many of the queries as fit into `CELL`."""
    spent = []
    for q in range(WARM):
        start = time.perf_counter()
        search(queries[q : q + 1])
        spent.append(time.perf_counter() - start)
    affordable = int(CELL / PASSES / min(spent))
    return time_singles(search, queries[: max(LEAST, affordable)], PASSES)


def cell(label: str, share: float | None, search: Search, queries: np.ndarray, truth: np.ndarray, ready: float) -> Cell:
    """Return what one search reaches; ``ready`` are the seconds that were taken to make its filter."""
    timing = measured(search, queries)
    asked = len(timing.ids)
    found = {"recall": recall(timing.ids, truth[:asked]), "qps": timing.qps, "queries": asked}
    return {"label": label, "share": share, **found, "ready_s": ready, "cores_used": timing.cores_used}


def cells_of(engine: Filtering, numbers: np.ndarray, queries: np.ndarray, truths: dict[int, np.ndarray]) -> list[Cell]:
    """Return a cell without a filter, and one or more for every bound."""
    cells = [cell(engine.label, None, lambda query: engine.search(query, K, 1), queries, truths[len(numbers)], 0.0)]
    for below, truth in truths.items():
        ways = engine.filtered(numbers, below, K)
        while True:
            start = time.perf_counter()
            way = next(ways, None)
            if way is None:
                break
            ready = time.perf_counter() - start
            cells.append(cell(way[0], below / len(numbers), way[1], queries, truth, ready))
            print(f"  {below:,} rows pass: {cells[-1]}", file=sys.stderr, flush=True)
    return cells


def show(cells: Sequence[Cell], n: int, queries: int, notes: Sequence[str]) -> None:
    """Print a row for every share, with a cell for every search, and the notes below."""
    labels = list(dict.fromkeys(cell["label"] for cell in cells))
    figures = Figures(
        f"recall@{K} and queries per second with a filter, {n:,} x {D}", ["share", "rows that pass", *labels]
    )
    for share in dict.fromkeys(cell["share"] for cell in cells):
        of = {cell["label"]: cell for cell in cells if cell["share"] == share}
        texts = [_text(of[label], queries) if label in of else "" for label in labels]
        figures.add(*(("no filter", "") if share is None else (f"{share:g}", f"{round(share * n):,}")), *texts)
    figures.show(machine_line(**{name: package_version(name) or "" for name in PACKAGES}), [])
    print(*notes, sep="\n")


def _text(cell: Cell, queries: int) -> str:
    fewer = "" if cell["queries"] == queries else f" ({cell['queries']} queries)"
    return f"{cell['recall']:.3f} {cell['qps']:,.3g}{fewer}" if cell["qps"] < 100 else (
        f"{cell['recall']:.3f} {cell['qps']:,.0f}{fewer}"
    )  # fmt: skip


def draw(cells: Sequence[Cell], n: int, path: Path) -> None:
    """Draw queries per second (left) and recall (right) against the share of rows that pass."""
    figure, (left, right) = plots.figure_of((14, 6), columns=2)
    labels = list(dict.fromkeys(cell["label"] for cell in cells))
    ends: dict[str, list[tuple[float, float]]] = {"qps": [], "recall": []}
    shades, own, other = [], 0, 0
    for label in labels:
        is_own = label.startswith("annvq")
        shade, marker = plots.color(own) if is_own else plots.grey(other), plots.MARKERS[own if is_own else other + 2]
        own, other = own + is_own, other + (not is_own)
        shades.append(shade)
        line = [cell for cell in cells if cell["label"] == label and cell["share"] is not None]
        for axes, name in ((left, "qps"), (right, "recall")):
            axes.plot(
                [cell["share"] for cell in line], [cell[name] for cell in line], marker=marker, color=shade,
                linestyle="-" if is_own else "--", linewidth=2.2 if is_own else 1.2, markersize=5, clip_on=False,
                zorder=4 if is_own else 3,
            )  # fmt: skip
            ends[name].append((line[-1]["share"], line[-1][name]))
    for axes, name in ((left, "queries per second (log scale)"), (right, f"recall@{K} among the rows that pass")):
        axes.set_xscale("log")
        axes.invert_xaxis()
        axes.xaxis.set_major_formatter(lambda share, _: f"{share:g}")
        axes.set_xlabel("share of rows that pass (log scale; fewer to the right)")
        axes.set_ylabel(name)
    left.set_yscale("log")
    plots.label_log_axis(left.yaxis, (1, 3))
    right.set_ylim(0, 1.02)
    right.grid(True, color="0.88", linewidth=0.8)
    right.set_axisbelow(True)
    right.spines[["top", "right"]].set_visible(False)

    def label_both() -> None:
        for axes, name in ((left, "qps"), (right, "recall")):
            label_ends(axes, np.array(ends[name]), labels, shades)

    versions = ", ".join(f"{name} {package_version(name)}" for name in PACKAGES)
    note = f"settings with which each index reaches a recall of {TARGET} without a filter; {versions}"
    title = f"One query per call with a filter on a column, one thread, k = {K}, {n:,} made vectors of {D} dimensions"
    plots.finish(figure, left, path, title, note, label_both)


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--only", action="append", help="a label of an index; may be given again")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    n, count = options.n, options.queries
    base, queries, others = made(n, 2), made(count, 3), made(count, 4)
    numbers = np.random.default_rng(1).permutation(n)
    start = time.perf_counter()
    truths = {}
    for below in [round(share * n) for share in SHARES if round(share * n)]:
        rows = np.flatnonzero(numbers < below)
        truths[below] = rows[exact_neighbors(base[rows], queries, min(K, below), METRIC)[0]]
    unfiltered = exact_neighbors(base, others, K, METRIC)[0]
    notes = [f"exact search took {time.perf_counter() - start:.0f} s; graphs: efConstruction {EF_CONSTRUCTION}"]
    cells: list[Cell] = []
    for engine in engines(n, D, numbers):
        if options.only and engine.label not in options.only:
            continue
        times = [time.perf_counter()]
        engine.build(base, METRIC, os.cpu_count() or 1)
        times.append(time.perf_counter())
        params, reached, _ = tuned(engine, others, unfiltered)
        times.append(time.perf_counter())
        engine.set(params)
        found = cells_of(engine, numbers, queries, truths)
        times.append(time.perf_counter())
        built, chose, asked = np.diff(times)
        ready, cores = max(cell["ready_s"] for cell in found), max(cell["cores_used"] for cell in found)
        notes.append(
            f"{engine.label}: {engine.recipe}, {params}, recall {reached:.3f} on the tuning queries. Filter: "
            f"{engine.how}; making one takes at most {1e3 * ready:.3g} ms. Cores used: at most {cores:.2f}. Seconds: "
            f"build {built:.0f}, tuning {chose:.0f}, searches {asked:.0f}."
        )
        print(notes[-1], file=sys.stderr, flush=True)
        cells += found
    show(cells, n, count, notes)
    if options.json is not None:
        versions = {name: package_version(name) for name in PACKAGES}
        kept = {"n": n, "machine": describe(), "versions": versions, "notes": notes, "cells": cells}
        options.json.write_text(json.dumps(kept, indent=2))
    if options.out is not None:
        draw(cells, n, options.out)


if __name__ == "__main__":
    main()
