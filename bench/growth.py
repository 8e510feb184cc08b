"""Measure how build time, memory and the cost of a query grow from 10 thousand to 10 million vectors.

Vectors are synthetic (128 dimensions, 4,000 clusters with decaying variances, L2), and are streamed and never held as
a whole. The index has codes alone (32 bytes per vector); two threads build, one searches. A query probes as many
lists as `Index.tune` finds necessary to reach 0.95 of what scanning all lists finds. Each size runs in a process of
its own, whose peak memory is reported. The script writes growth.png beside the JSON. It needs the extra plot.

    python bench/growth.py [--json FILE]
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from figures import Figures, machine_line

import annvq

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
DIM, CLUSTERS, BATCH, QUERIES = 128, 4_000, 50_000, 600
RECIPE = "ivf-pq-fastscan"


def vectors(n: int, seed: int) -> Iterator[np.ndarray]:
    """Yield ``n`` vectors in batches."""
    shape = np.random.default_rng(0)
    spread = (0.97 ** np.arange(DIM)).astype(np.float32)
    centres = shape.standard_normal((CLUSTERS, DIM), np.float32) * spread
    rng = np.random.default_rng(seed)
    for start in range(0, n, BATCH):
        count = min(BATCH, n - start)
        own = rng.standard_normal((count, DIM), np.float32) * spread
        yield centres[rng.integers(0, CLUSTERS, count)] + np.float32(0.6) * own


def measure(n: int, folder: str) -> dict[str, float]:
    """Build and search one size; called in a process of its own."""
    train = np.concatenate(list(vectors(min(n, 500_000), seed=2)))
    start = time.perf_counter()
    index = annvq.build(vectors(n, seed=1), RECIPE, metric="l2", train=train, threads=2, path=folder)
    index.compact()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    queries = next(vectors(QUERIES, seed=3))
    report = index.tune(queries[:100], recall=0.95, threads=2)
    queries = queries[100:]
    index.search(queries, threads=1)
    passes = []
    for _ in range(3):
        start = time.perf_counter()
        for query in queries:
            index.search(query, threads=1)
        passes.append((time.perf_counter() - start) / len(queries))
    return {
        "build s": seconds, "peak GiB": peak, "nlist": index.stats()["nlist"], "nprobe": report.chosen.nprobe,
        "us per query": 1e6 * min(passes), "MB on disk": sum(f.stat().st_size for f in Path(folder).iterdir()) / 1e6,
    }  # fmt: skip


def draw(rows: list[dict[str, float]], target: Path) -> None:
    """Draw build time, memory and cost per query against n, with the exponents from 100 thousand on."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sizes = np.array([row["n"] for row in rows])
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2))
    for axis, what in zip(axes, ("us per query", "build s", "peak GiB"), strict=True):
        values = np.array([row[what] for row in rows])
        exponent = np.polyfit(np.log(sizes[1:]), np.log(values[1:]), 1)[0]
        axis.loglog(sizes, values, "o-")
        axis.set(xlabel="vectors", title=f"{what}: n^{exponent:.2f} from 100,000 on")
        axis.grid(alpha=0.3, which="both")
    figure.suptitle(f"Growth: synthetic, {DIM} dimensions, L2, codes only ({RECIPE})")
    figure.tight_layout()
    figure.savefig(target, dpi=120)


def main() -> None:
    """Measure every size and print."""
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(int(sys.argv[2]), sys.argv[3])))
        return
    rows = []
    for n in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, "--one", str(n), str(Path(folder) / "index")]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            rows.append({"n": n, **json.loads(done.stdout)})
    figures = Figures("growth", list(rows[0]))
    for row in rows:
        figures.add(*row.values())
    figures.show(machine_line(annvq=annvq.__version__), sys.argv[1:])
    if "--json" in sys.argv:
        draw(rows, Path(sys.argv[sys.argv.index("--json") + 1]).with_suffix(".png"))


if __name__ == "__main__":
    main()
