"""Measure how long recipes take to build an index of a data set, beside other libraries.

DATA.npz has ``base`` (n, d) and ``metric``, as the scripts ``bench/make_*.py`` write it. Every index is built as often
as ``--passes`` says, the libraries in turn, and the fewest seconds are printed: CPU seconds of the process, which
depend less on what else the machine does, and seconds of the clock. What is compiled was compiled before:

    python bench/build_speed.py fashion-mnist.npz --recipe fast --recipe balanced --threads 1 --threads 2 --peers lorann
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from figures import Figures, machine_line

import annvq
from annvq.bench.peers import lorann

PEERS = {"lorann": lorann}
FEW = 2_000  # vectors of the builds that compile


def seconds_of(build: Callable[[], object]) -> tuple[float, float]:
    """Return the CPU seconds and the seconds of one build."""
    start, cpu = time.perf_counter(), time.process_time()
    build()
    return time.process_time() - cpu, time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipe", action="append", help="fast and balanced by default")
    parser.add_argument("--threads", action="append", type=int, help="1 by default")
    parser.add_argument("--peers", action="append", choices=sorted(PEERS), default=[])
    parser.add_argument("--passes", type=int, default=3)
    given, rest = parser.parse_known_args()
    with np.load(given.data) as held:
        base, metric = np.ascontiguousarray(held["base"], np.float32), str(held["metric"])
    builds: dict[tuple[str, int], Callable[[], object]] = {}
    for threads in given.threads or [1]:
        for recipe in given.recipe or ["fast", "balanced"]:
            annvq.build(base[:FEW], recipe, metric=metric, threads=threads)
            builds[f"annvq {recipe}", threads] = lambda recipe=recipe, threads=threads: annvq.build(
                base, recipe, metric=metric, threads=threads
            )
        for name in given.peers:
            for peer in PEERS[name].variants(*base.shape, metric):
                builds[f"{name}, {peer.recipe}", threads] = lambda peer=peer, threads=threads: peer.build(
                    base, metric, threads
                )
    fewest = dict.fromkeys(builds, (np.inf, np.inf))
    for _ in range(given.passes):
        for name, build in builds.items():
            cpu, clock = seconds_of(build)
            fewest[name] = min(fewest[name][0], cpu), min(fewest[name][1], clock)
    figures = Figures(f"build, {given.data.stem}, {len(base):,} x {base.shape[1]}", ["index", "threads", "CPU s", "s"])
    for (name, threads), (cpu, clock) in fewest.items():
        figures.add(name, threads, float(cpu), float(clock))
    figures.show(machine_line(), rest)


if __name__ == "__main__":
    main()
