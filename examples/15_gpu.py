"""The same index on a GPU, with the same hits; without a GPU, the example says what is missing."""

from time import perf_counter

import numpy as np

import annvq
from annvq.errors import DeviceError, MissingExtraError

rng = np.random.default_rng(0)
centres = rng.normal(size=(200, 64))
vectors = (centres[rng.integers(0, 200, 20_000)] + rng.normal(size=(20_000, 64))).astype(np.float32)
queries = (centres[rng.integers(0, 200, 2_000)] + rng.normal(size=(2_000, 64))).astype(np.float32)

index = annvq.build(vectors, recipe="balanced", metric="l2")
hits = index.search(queries, k=10)
try:
    there = annvq.build(vectors, recipe="balanced", metric="l2", device="cuda")  # or index.to("cuda")
except (DeviceError, MissingExtraError) as error:
    print(f"no GPU: {error}")
else:
    found = there.search(queries, k=10)  # compiles kernels once
    assert (found.ids == hits.ids).all()
    assert (found.scores == hits.scores).all()
    for name, one in (("CPU", index), (there.device, there)):
        start = perf_counter()
        one.search(queries, k=10)
        print(f"{name}: {len(queries) / (perf_counter() - start):,.0f} queries per second")
    print(there.stats()["device_bytes"], "bytes on the GPU")
