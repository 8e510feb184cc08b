"""Methods x ratios x seeds on a folder's data; every finished cell is kept, so that an ended run can be continued."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from annvq.arguments import as_count, as_number
from annvq.bench.tables.tasks import Task, models_of, tasks_of
from annvq.bench.tables.training import UNCOMPRESSED, UNIFORM, Runs
from annvq.errors import BudgetError, DataFormatError, ParameterError
from annvq.io.replacing import replacing
from annvq.progress import Progress
from annvq.tables.budget import FLOAT
from annvq.tables.registry import METHODS, table_method

RATIOS = (2.0, 10.0, 50.0)
_KEY = ("data", "model", "method", "ratio", "seed", "epochs")
PROTOCOL = 3  # raised whenever the meaning of a cell changes: cells kept under another number are measured again


@dataclass(frozen=True)
class TablesBench:
    """What to measure.

    Parameters
    ----------
    methods
        Names of METHODS, or "uniform": one dimension for all rows. The uncompressed table is always measured, too.
    ratios
        How many times smaller than float32.
    models
        Names; if empty, all models that fit the data.
    seeds
        The number of seeds, from 0.
    epochs
        The largest number of epochs in every stage; if None, the task's own.

    """

    methods: tuple[str, ...] = ()
    ratios: tuple[float, ...] = RATIOS
    models: tuple[str, ...] = ()
    seeds: int = 5
    epochs: int | None = None

    def __post_init__(self) -> None:
        for method in self.methods:
            if method != UNIFORM:
                table_method(method)
        for ratio in self.ratios:
            as_number("ratio", ratio, above=0.0)
        as_count("seeds", self.seeds)
        if self.epochs is not None:
            as_count("epochs", self.epochs)


@dataclass(frozen=True)
class TablesResult:
    """The request and every cell: settings, bytes and measures, or why the budget cannot be met."""

    config: dict[str, Any]
    cells: list[dict[str, Any]]

    def groups(self) -> list[list[dict[str, Any]]]:
        """Return the cells of each model, method and ratio."""
        found: dict[tuple, list[dict[str, Any]]] = {}
        for cell in self.cells:
            found.setdefault(tuple(cell[name] for name in _KEY[1:4]), []).append(cell)
        return list(found.values())

    @property
    def measures(self) -> list[str]:
        """Names of the measures."""
        names = (name for cell in self.cells for name in cell.get("measures", {}))
        return list(dict.fromkeys(names))

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per model, method and ratio: means of measures over seeds, and as ``*_std`` their spread.

        ``reached`` is how many times smaller than float32 the table is, at least the ``ratio`` that was asked for.
        """
        rows = []
        for cells in self.groups():
            first, row = cells[0], {name: cells[0][name] for name in ("method", "ratio")}
            if "refused" in first:
                continue
            row["bytes"] = max(cell["bytes"] for cell in cells)  # what a search leaves depends on the seed
            row["reached"] = FLOAT * self.config["rows"] * self.config["dim"] / row["bytes"]
            for name in first["measures"]:
                values = np.array([cell["measures"][name] for cell in cells])
                row[name] = float(values.mean())
                row[f"{name}_std"] = float(values.std(ddof=1)) if len(values) > 1 else 0.0
            row["params"] = {
                "model": first["model"],
                "epochs": first["epochs"],
                "seeds": [cell["seed"] for cell in cells],
                "seconds": float(sum(cell["seconds"] for cell in cells)),
            }
            rows.append(row)
        return rows

    def refused(self) -> dict[str, str]:
        """Return why methods could not meet a ratio, by "method ratio"."""
        cells = (cells[0] for cells in self.groups())
        return {f"{cell['method']} {cell['ratio']:g}x": cell["refused"] for cell in cells if "refused" in cell}


def run(
    folder: Path, bench: TablesBench, kept: Path, progress: Progress, keep: Callable[[TablesResult], None] | None = None
) -> TablesResult:
    """Measure all cells that ``kept``, a file of JSON lines, does not have yet.

    Parameters
    ----------
    folder, bench
        Data, and what to measure on them.
    kept
        It grows by one line per cell; its folder is made if it does not exist.
    progress
        It is told of every cell that is measured.
    keep
        It is called with all results so far after every model and seed.

    Raises
    ------
    DataFormatError, ParameterError, MissingExtraError
        The data are not known; a model does not fit them; torch is not installed.

    """
    own = models_of(folder)
    for model in bench.models:
        if model not in own:
            raise ParameterError(f"model {model!r} is not for these data: expected {', '.join(own)}")
    tasks = tasks_of(folder, bench.models or own)
    methods = bench.methods or (*METHODS, UNIFORM)
    done = _read(kept)
    plan = [(UNCOMPRESSED, 1.0), *((method, float(ratio)) for method in methods for ratio in bench.ratios)]
    count = len(plan) * len(tasks) * bench.seeds
    cells: list[dict[str, Any]] = []
    config = {
        "data": tasks[0].data.name, "rows": tasks[0].rows, "dim": tasks[0].dim, "methods": list(methods),
        "ratios": list(bench.ratios), "models": [task.model for task in tasks], "seeds": bench.seeds,
        "epochs": {task.model: bench.epochs or task.epochs for task in tasks},
    }  # fmt: skip
    kept.parent.mkdir(parents=True, exist_ok=True)
    for task in tasks:
        runs = Runs(task, bench.epochs or task.epochs)
        for seed in range(bench.seeds):
            for method, ratio in plan:
                key = (task.data.name, task.model, method, ratio, seed, runs.epochs)
                if key not in done:
                    progress.begin(f"{task.model} {method} {ratio:g}x seed {seed}", count)
                    progress.at(len(cells))
                    done[key] = _measured(task, runs, key)
                    _append(kept, done[key])
                cells.append(done[key])
            if keep is not None:
                keep(TablesResult(config, list(cells)))
    return TablesResult(config, cells)


def _measured(task: Task, runs: Runs, key: tuple) -> dict[str, Any]:
    cell = {**dict(zip(_KEY, key)), "protocol": PROTOCOL}
    start = time.perf_counter()
    try:
        found = runs.run(cell["method"], cell["ratio"], cell["seed"])
    except BudgetError as error:
        return {**cell, "refused": str(error)}
    seconds = time.perf_counter() - start
    return {**cell, "bytes": int(found.pop("bytes")), "measures": found, "seconds": seconds}


def _read(kept: Path) -> dict[tuple, dict[str, Any]]:
    """Return the cells of a file; a last line that was cut off is left out, and its cell is measured again."""
    if not kept.exists():
        return {}
    lines = kept.read_text(encoding="utf-8").splitlines(keepends=True)
    done = {}
    for number, line in enumerate(lines):
        try:
            cell = json.loads(line)
            key = tuple(cell[name] for name in _KEY)
            if cell.get("protocol") == PROTOCOL:
                done[key] = cell
        except (ValueError, TypeError, KeyError) as error:
            if number == len(lines) - 1 and not line.endswith("\n"):
                with replacing(kept) as partial:
                    partial.write_text("".join(lines[:-1]), encoding="utf-8")
                break
            raise DataFormatError(f"{kept}: line {number + 1} is no finished cell: {error!r}") from error
    return done


def _append(kept: Path, cell: dict[str, Any]) -> None:
    with open(kept, "a", encoding="utf-8") as file:
        file.write(json.dumps(cell, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
