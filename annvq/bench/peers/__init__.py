"""The libraries measured beside annvq, one per file, each imported only when asked for."""

from __future__ import annotations

from importlib import import_module

from annvq.bench.machine import package_version
from annvq.bench.peers.protocol import Params, Peer
from annvq.errors import ParameterError

__all__ = ["ON_GPU", "PEERS", "Params", "Peer", "load_peers", "version_of"]

# What --peers takes -> (distribution, modules of this package)
PEERS = {
    "faiss": ("faiss-cpu", ("faiss_ivfpq", "faiss_ivfflat", "faiss_hnsw")),
    "faiss-ivfpq": ("faiss-cpu", ("faiss_ivfpq",)),  # what compares with codes; large graphs build slowly
    "scann": ("scann", ("scann",)),
    "hnswlib": ("hnswlib", ("hnswlib",)),
    "usearch": ("usearch", ("usearch",)),
    "svs": ("scalable-vs", ("svs",)),
    "symphonyqg": ("rabitqlib", ("symphonyqg",)),
    "rabitqlib": ("rabitqlib", ("rabitqlib_ivf", "rabitqlib_hnsw")),
    "lorann": ("lorann", ("lorann",)),
    "glass": ("pyglass-portable", ("glass",)),
    "vsag": ("pyvsag", ("vsag",)),
    "faiss-gpu": ("faiss-gpu-cuvs", ("faiss_gpu",)),
    "cuvs": ("cuvs-cu13", ("cuvs_ivfflat", "cuvs_ivfpq", "cuvs_cagra", "cuvs_ivfrabitq")),
}
ON_GPU = {"faiss-gpu", "cuvs"}

# Other distributions of the same modules, for other versions of CUDA.
_ALSO = {
    "faiss-gpu-cuvs": ("faiss-gpu", "faiss-gpu-cu12", "faiss-gpu-cu12-cuvs", "faiss-gpu-cu13-cuvs"),
    "cuvs-cu13": ("cuvs-cu12",),
}


def load_peers(name: str, n: int, dim: int, metric: str, device: str = "cuda") -> list[Peer]:
    """Return every index of a library that is to be measured, not built yet.

    Parameters
    ----------
    name
        A key of `PEERS`.
    n, dim, metric
        Number and dimension of the base vectors; "ip" or "l2".
    device
        The GPU of those that search on one (`ON_GPU`).

    Raises
    ------
    ParameterError
        An unknown name.
    MissingExtraError
        The library cannot be imported.
    DeviceError
        It searches on a GPU, and there is none that can be used.

    """
    check_name(name)
    where = (device,) if name in ON_GPU else ()
    return [
        peer
        for module in PEERS[name][1]
        for peer in import_module(f"annvq.bench.peers.{module}").variants(n, dim, metric, *where)
    ]


def check_name(name: str) -> None:
    """Raise ParameterError unless ``name`` is a key of `PEERS`."""
    if name not in PEERS:
        raise ParameterError(f"unknown peer {name!r}: expected some of {', '.join(PEERS)}")


def version_of(name: str) -> str | None:
    """Return the installed version of a peer."""
    check_name(name)
    distribution = PEERS[name][0]
    versions = map(package_version, (distribution, *_ALSO.get(distribution, ())))
    return next((version for version in versions if version is not None), None)
