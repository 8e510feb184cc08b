"""cuVS: inverted lists of float vectors on a GPU."""

from __future__ import annotations

from annvq.bench.peers import cuvs_runtime
from annvq.bench.peers.protocol import Peer


def variants(n: int, dim: int, metric: str, device: str = "cuda") -> list[Peer]:
    """Return the one index measured."""
    cuvs_runtime.load("neighbors.ivf_flat")
    return [cuvs_runtime.Lists("ivf_flat", "Flat", n, cuvs_runtime.OnGpu(device))]
