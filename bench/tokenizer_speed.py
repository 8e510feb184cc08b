"""Time and memory of one training step of a VQ-VAE quantizer, beside vector-quantize-pytorch.

A step is the forward and backward pass of `VectorQuantizer` with moving averages and straight-through gradients, on the
CPU, with the same settings on both sides. Every measurement is a process of its own; memory is the peak of its resident
set above what it was before the quantizer was made. annvq compares all codes ("exact") and, from 2^18 codes on, is also
measured with its default, which is approximate.

    python bench/tokenizer_speed.py [--sizes 1024 16384 262144] [--rows 1024] [--dim 64] [--steps 10] [--threads 1]
                                    [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from figures import Figures, machine_line

import annvq
from annvq.bench.machine import package_version
from annvq.tokenizers import EMA, Learning, VectorQuantizer
from annvq.tokenizers.choosing.nearest import MANY_CODES

PEER = "vector-quantize-pytorch"
OWN, OWN_APPROXIMATE = "annvq, exact", "annvq"
DECAY, COMMITMENT = 0.99, 0.25


def quantizer_of(library: str, dim: int, size: int) -> Callable[[torch.Tensor], Any]:
    """Return a quantizer in training mode."""
    if library != PEER:
        learning = Learning(update=EMA(DECAY), commitment=COMMITMENT, exact=True if library == OWN else None)
        return VectorQuantizer(dim, size, learning)
    from vector_quantize_pytorch import VectorQuantize

    return VectorQuantize(
        dim,
        codebook_size=size,
        decay=DECAY,
        commitment_weight=COMMITMENT,
        rotation_trick=False,
        threshold_ema_dead_code=0,
    )


def step(quantizer: Callable[[torch.Tensor], Any], rows: torch.Tensor) -> float:
    """Return the seconds of one forward and backward pass."""
    z = rows.clone().requires_grad_()
    begin = time.perf_counter()
    z_q, _, loss = quantizer(z)[:3]
    (z_q.square().mean() + loss.sum()).backward()
    return time.perf_counter() - begin


def peak_bytes() -> int:
    """Return the most memory this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(library: str, dim: int, size: int, rows: int, steps: int, threads: int) -> dict[str, float]:
    """Measure one library at one size, in this process."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    step(quantizer_of(library, dim, 64), torch.randn(1, 32, dim))  # loads and compiles what is needed
    if library == OWN_APPROXIMATE and size >= MANY_CODES:
        learning = Learning(exact=False)
        step(VectorQuantizer(dim, 2048, learning), torch.randn(1, 32, dim))
    before = peak_bytes()
    quantizer = quantizer_of(library, dim, size)
    batches = [torch.randn(1, rows, dim) for _ in range(steps + 1)]
    first = step(quantizer, batches[0])
    times = [step(quantizer, batch) for batch in batches[1:]]
    return {"first_s": first, "median_s": statistics.median(times), "peak_bytes": peak_bytes() - before}


def child(*arguments: Any) -> dict[str, float]:
    """Measure in a process of its own."""
    command = [sys.executable, __file__, "--child", json.dumps(arguments)]
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode:
        last = ended.stderr.strip().splitlines()[-1:] or [f"ended by signal {-ended.returncode}"]
        raise RuntimeError(last[0])
    return json.loads(ended.stdout.splitlines()[-1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--child")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1 << 10, 1 << 14, 1 << 18])
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    if asked.child:
        print(json.dumps(measure(*json.loads(asked.child))))
        return
    headings = ["codes", "library", "ms per step", "first step ms", "peak MiB", "times as fast", "share of the memory"]
    name = f"VQ-VAE step with moving averages: {asked.rows} rows of {asked.dim} dimensions, {asked.threads} threads"
    figures = Figures(name, headings)
    for size in asked.sizes:
        libraries = [PEER, OWN, *([OWN_APPROXIMATE] if size >= MANY_CODES else [])]
        peer: dict[str, float] = {}
        for library in libraries:
            try:
                found = child(library, asked.dim, size, asked.rows, asked.steps, asked.threads)
            except RuntimeError as error:
                figures.add(size, f"{library}: {error}", *["-"] * 5)
                continue
            peer = found if library == PEER else peer
            faster = peer["median_s"] / found["median_s"] if peer else "-"
            share = found["peak_bytes"] / peer["peak_bytes"] if peer and peer["peak_bytes"] else "-"
            ms = (1000 * found["median_s"], 1000 * found["first_s"], found["peak_bytes"] / 2**20)
            figures.add(size, library, *ms, faster, share)
    versions = {"annvq": annvq.__version__, "torch": torch.__version__, PEER: package_version(PEER) or "not installed"}
    figures.show(machine_line(**versions), ["--json", str(asked.json)] if asked.json else [])


if __name__ == "__main__":
    main()
