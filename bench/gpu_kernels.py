"""What each GPU kernel moves and computes, the least time in which a GPU could do that, and the time that it takes.

Searches run as users run them; every launch is noted with its arguments, from which follow the bytes that it has to
read at least once, the look-ups, and the operations on floats and on tensor cores. The least time is the largest of
these divided by what the GPU can do per second (the roofline); the figures of an H200 SXM are from NVIDIA's data sheet,
and look-ups are counted at one per lane and clock. Without a GPU, the script prints the estimates alone.

    python bench/gpu_kernels.py DATA.npz [--recipe fast ...] [--batch 1 --batch 10000] [--device cuda] [--json FILE]
    TRITON_INTERPRET=1 python bench/gpu_kernels.py DATA.npz --device interpreter --n 500 --batch 2
    python bench/gpu_kernels.py --estimates           what fits, and what is possible at most, without data or a GPU
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from figures import Figures
from gpu_estimates import Gpu, sectors, show
from gpu_options import parser_of, read, shown

import annvq

RECIPES = ("flat", "ivf-flat", "IVF1024,SQ8", "IVF1024,PQ48", "IVF1024,RaBitQ4", "fast", "balanced")


@dataclass
class Cost:
    """What a launch needs at least."""

    memory: float = 0.0
    floats: float = 0.0
    tensors: float = 0.0
    bytes: float = 0.0
    lookups: float = 0.0

    def seconds(self, gpu: Gpu) -> dict[str, float]:
        """Return the least time by resource."""
        return {name: getattr(self, name) / getattr(gpu, name) for name in vars(self)}


def pairs_of(of):
    """Return how many (row, query) pairs the programs of a scan score."""
    rows = (of["ends"] - of["begins"]).double()
    queries = (of["visit_ends"] - of["visits"]).double() if "visit_ends" in of else 1.0
    return float((rows * queries).sum()), float(rows.sum())


def of_scan_rows(of, constants):
    pairs, rows = pairs_of(of)
    size = of["rows"].element_size()
    return Cost(memory=rows * of["d"] * size, floats=(3 if constants["L2"] else 2) * pairs * of["d"])


def of_propose_rows(of, constants):
    pairs, _ = pairs_of(of)
    every = of["rows"].numel() * of["rows"].element_size()
    return Cost(memory=every, tensors=2 * pairs * of["d"])


def of_scan_tables(of, constants):
    pairs, rows = pairs_of(of)
    return Cost(memory=4 * rows * of["words"], lookups=4 * pairs * of["words"])


def of_scan_rabitq(of, constants):
    pairs, rows = pairs_of(of)
    return Cost(memory=rows * (4 * of["words"] + 12), lookups=4 * pairs * of["words"])  # a popcount as a look-up


def of_scan_rabitq_together(of, constants):
    pairs, _ = pairs_of(of)
    every = of["planes"].numel() * 4 + of["factors"].numel() * 4
    return Cost(memory=every, bytes=6 * pairs * 32 * of["words"])


def of_candidates(of, constants):
    """Return the cost of scoring candidates, whose rows lie anywhere: sectors of 32 bytes are read whole."""
    held = float((of["places"] >= 0).sum())
    if "stride" in of:
        size, numbers = of["stride"], of["d"]
    elif "words" in of:
        return Cost(memory=held * 32 * of["words"], lookups=4 * held * of["words"])
    else:
        size, numbers = of["d"] * of["rows"].element_size(), of["d"]
    return Cost(memory=held * sectors(size), floats=3 * held * numbers)


COSTS = {
    "scan_rows": of_scan_rows,
    "propose_rows": of_propose_rows,
    "scan_tables": of_scan_tables,
    "scan_rabitq": of_scan_rabitq,
    "scan_rabitq_together": of_scan_rabitq_together,
    "rescore_rows": of_candidates,
    "rescore_tables": of_candidates,
    "rescore_rabitq": of_candidates,
    "propose_local_rows": of_candidates,
    "rescore_local_rows": of_candidates,
}


class Launches:
    """Notes what every launch costs, and how long it takes."""

    def __init__(self, gpu):
        from annvq.gpu import launch

        self.gpu, self.module, self.run = gpu, launch, launch.run
        self.counts, self.least, self.bound = defaultdict(int), defaultdict(float), {}
        self.events = defaultdict(list)

    def __enter__(self):
        self.module.run = self.noted
        return self

    def __exit__(self, *exc):
        self.module.run = self.run

    def noted(self, kernel, grid, arguments, warps, constants):
        """Run a kernel between two events."""
        import torch

        name = kernel.fn.__name__
        self.counts[name] += 1
        if name in COSTS:
            of = dict(zip(kernel.arg_names, arguments, strict=False))
            seconds = COSTS[name](of, constants).seconds(self.gpu)
            self.bound[name] = max(seconds, key=seconds.__getitem__)
            self.least[name] += max(seconds.values())
        if not torch.cuda.is_available():
            self.run(kernel, grid, arguments, warps, constants)
            return
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        self.run(kernel, grid, arguments, warps, constants)
        end.record()
        self.events[name].append((start, end))

    def seconds(self, name):
        """Return how long all launches of a kernel took, or None without a GPU."""
        return sum(a.elapsed_time(b) for a, b in self.events[name]) / 1000 if self.events[name] else None


def main():
    parser = parser_of(__doc__, nargs="?")
    parser.add_argument("--batch", type=int, action="append")
    parser.add_argument("--estimates", action="store_true", help="print what fits, and what is possible at most")
    options = parser.parse_args()
    if options.estimates:
        show()
        return
    if options.data is None:
        parser.error("DATA.npz, or --estimates, is missing")
    data, vectors = read(options)
    headings = ["recipe", "batch", "kernel", "launches", "least us", "bound by", "us", "share of the least"]
    figures, gpu = Figures("bench/gpu_kernels.py", headings), Gpu()
    for recipe in options.recipe or RECIPES:
        index = annvq.build(vectors, recipe, metric=data.metric).to(options.device)
        for batch in options.batch or (1, 10_000):
            queries = np.resize(data.query, (batch, vectors.shape[1]))
            index.search(queries, 10)  # compiles
            with Launches(gpu) as launches:
                index.search(queries, 10)
            for name, count in launches.counts.items():
                least, taken = launches.least.get(name), launches.seconds(name)
                share = f"{least / taken:.0%}" if least and taken else ""
                micro = ["" if one is None else 1e6 * one for one in (least, taken)]
                figures.add(recipe, batch, name, count, micro[0], launches.bound.get(name, ""), micro[1], share)
    subtitle = f"{len(vectors):,} x {vectors.shape[1]}, {data.metric}; least times of an {gpu.name}"
    shown(figures, options, subtitle)


if __name__ == "__main__":
    main()
