"""What fits a GPU, and what kernels could reach at most, from bytes and operations: the tables of docs/howto/gpu.md."""

import math
from dataclasses import dataclass

import numpy as np

import annvq

DIM = 384
_GIGABYTES = (24, 141)  # of a small GPU and of an H200
_SHARE = 0.9  # of the memory; the rest is left for searches
_ORDER = 8  # bytes per row for the order of ids
_SIZED = {
    "`flat`": ("flat", "ip"),
    "`ivf-sq8`": ("ivf-sq8", "ip"),
    "`RaBitQ4` in lists": ("IVF2,RaBitQ4", "ip"),
    "`balanced` under inner product": ("balanced", "ip"),
}
PCIE = 55e9  # bytes per second


@dataclass
class Gpu:
    """What a GPU can do per second at most."""

    name: str = "H200 SXM"
    memory: float = 4.8e12  # bytes
    floats: float = 67e12  # operations on float32
    tensors: float = 990e12  # operations on bfloat16, dense
    bytes: float = 1979e12  # operations on int8, dense
    lookups: float = 132 * 32 * 1.98e9  # multiprocessors x lanes x clock


def sectors(size):
    """Return how many bytes are read of a row of some bytes that lies anywhere: sectors of 32 bytes, whole."""
    return math.ceil(size / 32) * 32


def _row(*cells):
    return f"| {' | '.join(str(cell) for cell in cells)} |".replace("|  |", "| |")


def sizes():
    """Return the rows of the table of what fits."""
    import torch

    from annvq.gpu.codes.kinds import codes_on

    vectors = np.random.default_rng(0).normal(size=(600, DIM)).astype(np.float32)
    for label, (recipe, metric) in _SIZED.items():
        trained = annvq.train(vectors, recipe, metric=metric)
        coded = codes_on(trained, torch.device("cpu")).bytes_per_row() + _ORDER
        refined = trained.layout["refine"].bytes_per_row if trained.refine is not None else 0
        fits = [f"{int(_SHARE * g * 1e9 / size) // 10**6:,} M" for g in _GIGABYTES for size in (coded, coded + refined)]
        yield _row(label, f"{coded:,.0f}", f"{coded + refined:,.0f}" if refined else "", *fits)


def estimates(gpu):
    """Return the rows of the table of what kernels could reach."""
    billion = 1e9
    bits, levels = DIM // 8, 4 + 2  # signs, and products of bytes per dimension: three, of two operations each
    local = sectors(8 + DIM)
    for kernel, needs, unit, reached in (
        ("`scan_rows`, float32, up to 8 queries together", f"{4 * DIM:,} bytes of a row, read once", "rows",
         gpu.memory / (4 * DIM)),
        ("`scan_rows`, SQ8", f"{DIM} bytes of a row", "rows", gpu.memory / DIM),
        ("`propose_rows`, many queries", f"{2 * DIM} operations on tensor cores", "scores", gpu.tensors / (2 * DIM)),
        ("`scan_tables`, 4-bit codes of 96 bytes", "96 look-ups in the cache of a multiprocessor", "scores",
         gpu.lookups / 96),
        ("`scan_rabitq`, few queries", f"{bits} bytes of signs, {bits} popcounts", "bounds",
         min(gpu.memory, gpu.lookups) / bits),
        ("`scan_rabitq_together`, 4 bits, many queries", f"{levels * DIM:,} operations on int8 tensor cores", "scores",
         gpu.bytes / (levels * DIM)),
        ("`rescore_local_rows`, 8 bits", f"{local} bytes from anywhere", "candidates", gpu.memory / local),
        ("the same from host memory over PCIe 5", f"{local} bytes at {PCIE / billion:.0f} GB/s", "candidates",
         PCIE / local),
    ):  # fmt: skip
        digits = float(f"{reached / billion:.3g}")
        yield _row(kernel, needs, f"{digits:,g} billion {unit} per second")


def builds(gpu):
    """Return the rows of the table of what the kernels of builds and of documents could reach."""
    columns, numbers = 20 * (5 + 16), 20 * 2**5 * 16  # of `muvera`'s encoder
    for kernel, needs, unit, reached in (
        ("`propose_labels`, 4,096 centroids", f"{4 * DIM:,} operations on int8 tensor cores per centroid", "vectors",
         gpu.bytes / (4 * DIM * 4096)),
        ("`sum_clusters`", f"{4 * DIM:,} bytes", "vectors", gpu.memory / (4 * DIM)),
        ("`label_sub_vectors`, 256 entries", f"{2 * 256 * DIM:,} operations on floats", "vectors",
         gpu.floats / (2 * 256 * DIM)),
        ("`encode_rabitq`, 2 to 8 bits", f"{18 * 8 * DIM:,} operations on floats", "vectors",
         gpu.floats / (18 * 8 * DIM)),
        ("`multiply_in_order`, encodings of 128 dimensions", f"{2 * 128 * columns:,} operations on floats",
         "vectors of documents", gpu.floats / (2 * 128 * columns)),
        ("`sum_cells`, `muvera`", f"{4 * numbers:,} bytes of an encoding, written once", "documents",
         gpu.memory / (4 * numbers)),
        ("`score_documents`, 128 dimensions", "256 operations on floats", "pairs of vectors", gpu.floats / 256),
        ("`score_coded_documents`, 128 dimensions", "256 operations on int8 tensor cores", "pairs of vectors",
         gpu.bytes / 256),
    ):  # fmt: skip
        digits = int(float(f"{reached / 1e6:.3g}"))
        yield _row(kernel, needs, f"{digits:,} million {unit} per second")


def show():
    """Print the tables as Markdown."""
    gigabytes = [f"{part} in {size} GB" for size in _GIGABYTES for part in ("codes", "all")]
    print(_row("recipe", "bytes per row: codes and order", "with the refine store", *gigabytes))
    print("|---" * 7 + "|", *sizes(), sep="\n", end="\n\n")
    print(_row("kernel", "needs, for one row and one query", "so that, at most"))
    print("|---" * 3 + "|", *estimates(Gpu()), sep="\n", end="\n\n")
    print(_row("kernel", "needs, for one vector, document or pair", "so that, at most"))
    print("|---" * 3 + "|", *builds(Gpu()), sep="\n")
