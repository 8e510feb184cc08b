"""Whether a GPU gives the CPU's hits: digests of ids and scores of many queries, by recipe, and what moving takes.

python bench/gpu_hits.py DATA.npz [--recipe fast ...] [--queries 10000] [--device cuda] [--json FILE]
TRITON_INTERPRET=1 python bench/gpu_hits.py DATA.npz --device interpreter --n 500 --queries 3
"""

import hashlib
import sys
from time import perf_counter

import numpy as np
from figures import Figures
from gpu_options import parser_of, read, shown

import annvq

RECIPES = ("flat", "ivf-flat", "ivf-sq8", "IVF1024,PQ48", "IVF1024,RaBitQ4", "fast", "balanced")


def digest(hits):
    """Return the first half of the SHA-256 of ids and scores."""
    return hashlib.sha256(hits.ids.tobytes() + hits.scores.tobytes()).hexdigest()[:32]


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--queries", type=int, default=10_000)
    options = parser.parse_args()
    data, vectors = read(options)
    queries = np.resize(data.query, (options.queries, vectors.shape[1]))
    headings = ["recipe", "digest on the CPU", "digest there", "equal", "MB there", "seconds to move", "build seconds"]
    figures, are_equal = Figures("bench/gpu_hits.py", headings), True
    for recipe in options.recipe or RECIPES:
        start = perf_counter()
        index = annvq.build(vectors, recipe, metric=data.metric)
        built = perf_counter()
        there = index.to(options.device)
        moved = perf_counter()
        here, found = digest(index.search(queries, 10)), digest(there.search(queries, 10))
        are_equal &= here == found
        size = sum(there.stats()["device_bytes"]) / 1e6
        figures.add(recipe, here, found, here == found, size, moved - built, built - start)
    subtitle = f"{len(vectors):,} x {vectors.shape[1]}, {data.metric}, {options.queries:,} queries, on {options.device}"
    shown(figures, options, subtitle)
    sys.exit(not are_equal)


if __name__ == "__main__":
    main()
