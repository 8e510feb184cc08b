"""Builds on a GPU beside the CPU's, encodings of documents (MUVERA), and steps of learning codes (JPQ).

Indexes are built of a data set, or of random vectors in clusters (``--synthetic N D``), on the device and, unless
``--alone``, on the CPU in the same run; the digests of what was learned and of all codes have to be equal. Then
documents of 80 random vectors of 128 dimensions are encoded by the encoder of the recipe "muvera", and JPQ's codes of
48 bytes are learned from random queries: a step is the difference between trainings of many and of few steps.

    python bench/gpu_builds.py DATA.npz [--recipe fast ...] [--device cuda] [--alone] [--json FILE]
    python bench/gpu_builds.py --synthetic 10000000 128 --recipe fast --recipe IVF4096,RaBitQ4 --alone
    TRITON_INTERPRET=1 python bench/gpu_builds.py --synthetic 60 8 --recipe flat --device interpreter \\
        --documents 2 --steps 0
"""

import hashlib
import sys
from time import perf_counter

import numpy as np
from figures import Figures
from gpu_options import parser_of, read, shown

import annvq
from annvq.codebooks.accelerator import accelerated_by
from annvq.gpu.device import resolve
from annvq.index.build import accelerator_of
from annvq.learn import JPQ
from annvq.multivector import FixedDimensionalEncoder, Ragged

RECIPES = ("ivf-flat", "fast", "balanced", "IVF1024,RaBitQ4", "IVF1024,PQ48")
TOKENS, TOKEN_DIM = 80, 128
FEW = 10  # steps of the shorter training


def digest(index):
    """Return the first half of the SHA-256 of what was learned and of all sections."""
    made = hashlib.sha256()
    for arrays in (index.rows.current.trained.sections(), *(s.arrays for s in index.rows.current.snapshot.segments)):
        for name in sorted(arrays):
            made.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    return made.hexdigest()[:32]


def clustered(n, d):
    """Return random vectors in clusters, made a part at a time."""
    rng = np.random.default_rng(0)
    centres, rows = rng.normal(size=(1_000, d)).astype(np.float32), np.empty((n, d), np.float32)
    for start in range(0, n, 1 << 18):
        part = rows[start : start + (1 << 18)]
        part[:] = centres[rng.integers(0, 1_000, len(part))] + rng.standard_normal(part.shape, dtype=np.float32)
    return rows


def built(vectors, recipe, metric, device):
    """Return an index and the seconds that it took, with moving it to the device."""
    start = perf_counter()
    index = annvq.build(vectors, recipe, metric=metric, device=device)
    return index, perf_counter() - start


def measure_builds(options, vectors, metric):
    """Return whether all digests are equal."""
    headings = ["recipe", "seconds there", "vectors/s there", "seconds on the CPU", "ratio", "equal"]
    figures, are_equal = Figures("bench/gpu_builds.py: builds", headings), True
    for recipe in options.recipe or RECIPES:
        built(vectors[:2_000], recipe, metric, options.device)  # compiles kernels
        there, seconds = built(vectors, recipe, metric, options.device)
        if options.alone:
            figures.add(recipe, seconds, len(vectors) / seconds, "-", "-", "-")
            continue
        here, needed = built(vectors, recipe, metric, "cpu")
        is_equal = digest(there) == digest(here)
        are_equal &= is_equal
        figures.add(recipe, seconds, len(vectors) / seconds, needed, needed / seconds, is_equal)
    shown(figures, options, f"{len(vectors):,} x {vectors.shape[1]}, {metric}, on {options.device}")
    return are_equal


def measure_encodings(options):
    """Return whether encodings are equal."""
    rng, encoder = np.random.default_rng(1), FixedDimensionalEncoder(TOKEN_DIM)
    flat = rng.standard_normal((TOKENS * options.documents, TOKEN_DIM), dtype=np.float32)
    documents = Ragged(flat, np.arange(options.documents + 1) * TOKENS)
    made = {}
    figures = Figures("bench/gpu_builds.py: encodings", ["where", "seconds", "documents/s"])
    for device in (options.device, "cpu"):
        with accelerated_by(accelerator_of(device)):
            encoder.encode_documents(documents[: min(8, options.documents)])
            start = perf_counter()
            made[device] = encoder.encode_documents(documents)
        seconds = perf_counter() - start
        figures.add(device, seconds, options.documents / seconds)
    is_equal = np.array_equal(*made.values())
    size = f"{TOKENS} vectors, {encoder.output_dim:,} numbers each"
    figures.show(f"{options.documents:,} documents of {size}; {is_equal=}", [])
    return is_equal


def measure_steps(options, vectors):
    """Print the time of a step of JPQ on the device that training takes, which is a GPU where there is one."""
    rng = np.random.default_rng(2)
    asked = rng.integers(0, len(vectors), 4_096)
    queries = vectors[asked] + rng.standard_normal((4_096, vectors.shape[1]), dtype=np.float32)
    relevant = np.stack([np.arange(4_096), asked], axis=1)
    M = min(48, vectors.shape[1])
    spent = []
    for steps in (FEW, FEW, FEW + options.steps):  # the first loads libraries
        method = JPQ(recipe=f"OPQ{M},PQ{M}", most_steps=steps, measure_every=10**6)
        start = perf_counter()
        method.fit(vectors, queries, relevance=relevant)
        spent.append(perf_counter() - start)
    figures = Figures("bench/gpu_builds.py: JPQ", ["documents", "bytes", "milliseconds a step"])
    figures.add(len(vectors), M, 1e3 * (spent[2] - spent[1]) / options.steps)
    figures.show("32 queries a step; queries' vectors are given", [])


def main():
    parser = parser_of(__doc__, nargs="?")
    parser.add_argument("--synthetic", type=int, nargs=2, metavar=("N", "D"))
    parser.add_argument("--alone", action="store_true", help="build on the device only")
    parser.add_argument("--documents", type=int, default=100_000, help="0 encodes none")
    parser.add_argument("--steps", type=int, default=200, help="0 learns nothing")
    options = parser.parse_args()
    if (options.data is None) == (options.synthetic is None):
        parser.error("give DATA or --synthetic N D")
    resolve(options.device)
    if options.synthetic:
        vectors, metric = clustered(*options.synthetic), "l2"
    else:
        data, vectors = read(options)
        metric = data.metric
    are_equal = measure_builds(options, vectors, metric)
    if options.documents:
        are_equal &= measure_encodings(options)
    if options.steps:
        measure_steps(options, vectors)
    sys.exit(not are_equal)


if __name__ == "__main__":
    main()
