"""Measure how long a new process takes to import annvq, open an index and answer one query.

Kernels are compiled and cached beforehand by a first process, whose time is also shown; if the cache is empty, that
is the time of the first compile. Before that, a process builds an index of random vectors and searches it for one
query and for several. It runs once with an empty cache and once with the cache that it left, and its CPU seconds are
shown.

    python bench/start_time.py [BASE.npz] [--json FILE]
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from figures import Figures, machine_line

import annvq

RECIPE = "fast"
SEARCH = """
import sys, time
start = time.perf_counter()
import annvq
imported = time.perf_counter()
import numpy as np
index = annvq.open(sys.argv[1])
opened = time.perf_counter()
index.search(np.load(sys.argv[2]), 10)
done = time.perf_counter()
print(imported - start, opened - imported, done - opened)
"""

BUILD = """
import numpy as np, annvq
rows = np.random.default_rng(0).normal(size=(20_000, 64)).astype(np.float32)
index = annvq.build(rows, "balanced", threads=1)
index.search(rows[0], threads=1)
index.search(rows[:100], threads=1)
"""


def built(cache: str) -> float:
    """Return the CPU seconds of a process that builds and searches a small index."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", BUILD], env=os.environ | {"NUMBA_CACHE_DIR": cache}, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def run(*arguments: str, cache: str | None = None) -> tuple[float, list[float]]:
    """Run a search in a new process; return the seconds in all, and of import, open and first search."""
    environment = os.environ | ({} if cache is None else {"NUMBA_CACHE_DIR": cache})
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # with it, Python compiles all modules again in every process
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", SEARCH, *arguments], capture_output=True, text=True, check=True, env=environment
    )
    return time.perf_counter() - start, [float(value) for value in done.stdout.split()]


def main() -> None:
    """Measure and print."""
    figures = Figures("build and search, 20,000 x 64, balanced, one thread", ["process", "CPU s"])
    with tempfile.TemporaryDirectory() as cache:
        for name in ("first ever", "as always"):
            figures.add(name, built(cache))
    files = [argument for argument in sys.argv[1:] if argument.endswith(".npz")]
    options = [argument for argument in sys.argv[1:] if argument not in files]
    if not files:
        figures.show(machine_line(annvq=annvq.__version__), options)
        return
    figures.show(machine_line(annvq=annvq.__version__), [])
    data = np.load(files[0])
    metric = str(data["metric"])
    base, query = data["base"].astype(np.float32), data["query"][:1].astype(np.float32)
    figures = Figures(f"start, {len(base):,} x {base.shape[1]}", ["process", "all s", "import s", "open s", "search s"])
    with tempfile.TemporaryDirectory() as folder:
        path, asked = str(Path(folder) / "index"), str(Path(folder) / "query.npy")
        annvq.build(base, RECIPE, metric=metric).save(path)
        np.save(asked, query)
        for name, cache in (("first ever", str(Path(folder) / "cache")), ("as always", None)):
            run(path, asked) if cache is None else None
            times = [run(path, asked, cache=cache) for _ in range(1 if cache else 5)]
            total, parts = min(times)
            figures.add(name, total, *parts)
    figures.show(machine_line(annvq=annvq.__version__), options)


if __name__ == "__main__":
    main()
