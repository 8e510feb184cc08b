"""Make fashion-mnist.npz for `annvq bench ann`: ann-benchmarks' fashion-mnist-784-euclidean.

The base has the 60,000 training images, and the queries are the 10,000 test images (or the first N), of 784 pixels
as float32. The metric is squared L2. The file also has the 100 exact neighbours of each query.

    python bench/make_fashion_mnist.py [OUT.npz] [N]
"""

import gzip
import os
import struct
import sys
from pathlib import Path

import numpy as np

from annvq.evaluation import exact_neighbors

DATA = Path(os.environ.get("ANNVQ_DATA", Path(__file__).parents[1] / "../shared/data"))


def images(name: str) -> np.ndarray:
    """Read an IDX file of unsigned bytes as (n, 784) float32."""
    with gzip.open(DATA / "fashion-mnist" / name) as opened:
        magic, count, height, width = struct.unpack(">IIII", opened.read(16))
        if magic != 2051:
            raise SystemExit(f"{name}: not an IDX file of images")
        pixels = np.frombuffer(opened.read(), np.uint8)
    return pixels.reshape(count, height * width).astype(np.float32)


def main(out: Path, limit: int) -> None:
    base, query = images("train-images-idx3-ubyte.gz"), images("t10k-images-idx3-ubyte.gz")[:limit]
    neighbors = exact_neighbors(base, query, 100, "l2")[0].astype(np.int32)
    np.savez(out, base=base, query=query, metric=np.array("l2"), gt=neighbors)
    print(f"{out.name}: base {base.shape}, query {query.shape}, squared L2")


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "bench-out/fashion-mnist.npz")
    target.parent.mkdir(parents=True, exist_ok=True)
    main(target, int(sys.argv[2]) if len(sys.argv) > 2 else 10_000)
