"""cuVS: inverted lists of RaBitQ codes on a GPU, in versions that have them for Python."""

from __future__ import annotations

from annvq.bench.peers import cuvs_runtime
from annvq.bench.peers.protocol import Peer
from annvq.errors import MissingExtraError

_BITS = (3, 5, 7)  # per dimension; 3 is the library's own choice, more reach a higher recall


def variants(n: int, dim: int, metric: str, device: str = "cuda") -> list[Peer]:
    """Return an index for each number of bits; none if this version of cuVS has no such index."""
    cuvs_runtime.load("neighbors")
    try:
        cuvs_runtime.load("neighbors.ivf_rabitq")
    except MissingExtraError:
        return []
    gpu = cuvs_runtime.OnGpu(device)
    return [cuvs_runtime.Lists("ivf_rabitq", f"RaBitQ{bits}", n, gpu, bits_per_dim=bits) for bits in _BITS]
