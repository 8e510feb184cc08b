"""Make fashion-mnist-mirrored.npz for `annvq bench ann --n`: how search times grow with the number of real vectors.

The images of Fashion-MNIST are reduced to 14 x 14 pixels by means of 2 x 2. The base has the 60,000 training images and
their mirror images (left to right, top to bottom, and both), 240,000 in random order, so that the first N or evenly
spaced ones are like all. The queries are the first 2,000 test images. The metric is squared L2. The file also has the
100 exact neighbours of each query.

    python bench/make_fashion_mnist_mirrored.py [OUT.npz]
"""

import sys
from pathlib import Path

import numpy as np
from make_fashion_mnist import images

from annvq.evaluation import exact_neighbors

QUERIES = 2_000


def reduced(name: str) -> np.ndarray:
    """Return the images of a file as (n, 14, 14) float32."""
    return images(name).reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4))


def main(out: Path) -> None:
    once = reduced("train-images-idx3-ubyte.gz")
    every = np.concatenate([once, once[:, :, ::-1], once[:, ::-1], once[:, ::-1, ::-1]]).reshape(-1, 196)
    base = every[np.random.default_rng(0).permutation(len(every))]
    query = reduced("t10k-images-idx3-ubyte.gz")[:QUERIES].reshape(-1, 196)
    neighbors = exact_neighbors(base, query, 100, "l2")[0].astype(np.int32)
    np.savez(out, base=base, query=query, metric=np.array("l2"), gt=neighbors)
    print(f"{out.name}: base {base.shape}, query {query.shape}, squared L2")


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "bench-out/fashion-mnist-mirrored.npz")
    target.parent.mkdir(parents=True, exist_ok=True)
    main(target)
