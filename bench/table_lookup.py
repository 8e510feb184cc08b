"""Measure look-ups in compressed tables on one thread: rows per second, of single rows and of sums of bags.

Ids follow Zipf's law. Every method is measured twice, as its layer in torch and as its frozen form, which needs no
torch. They are compared with nn.Embedding, nn.EmbeddingBag, and torch's quantized bag of 8-bit rows if this build of
torch has one. All tables are synthetic and say something about speed and bytes only. GB/s counts the bytes of the
table that a look-up touches; "memory" is the rate at which NumPy copies rows of a float32 table of the same size by
the same ids. Tables that cannot be made at the ratio are left out, and named. A method whose final table has the form
of another's is not measured. The script needs the extra train.

    python bench/table_lookup.py [--rows N] [--dim D] [--ratio R] [--method M ...] [--json FILE]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from figures import Figures, machine_line

from annvq import tables
from annvq.errors import BudgetError

IDS, BAG, PASSES = 65_536, 16, 5
FIXED = {"FP16": 2.0, "INT16": 1.8, "INT8": 3.5, "ALPT": 3.5}
SEARCHED_ALIKE = ("OptEmbed", "DNIS", "AutoSrh", "PEP")  # of the forms of AutoDim and DeepLight
MOST_DENSE = 4_000_000  # the most rows for methods that sort all float32 rows to finish


def rows_per_second(call: Callable[[], object], count: int) -> float:
    """Return how many rows the fastest of some calls handles per second; the first call is not counted."""
    call()
    times = []
    for _ in range(PASSES):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return count / min(times)


def quantized_bag(weight: torch.Tensor, ids: torch.Tensor, offsets: torch.Tensor) -> Callable[[], object] | None:
    """Return torch's sum of 8-bit rows, or None if this build has none."""
    try:
        packed = torch.ops.quantized.embedding_bag_byte_prepack(weight)
        torch.ops.quantized.embedding_bag_byte_rowwise_offsets(packed, ids[:2], offsets[:1], mode=0)
    except (RuntimeError, AttributeError):
        return None
    return lambda: torch.ops.quantized.embedding_bag_byte_rowwise_offsets(packed, ids, offsets, mode=0)


def baselines(figures: Figures, n: int, d: int, ids: np.ndarray, offsets: np.ndarray) -> None:
    """Measure what tables are compared with."""
    torch_ids, torch_offsets = torch.from_numpy(ids), torch.from_numpy(offsets)
    weight = torch.randn(n, d)
    full = torch.nn.Embedding.from_pretrained(weight)
    bag = torch.nn.EmbeddingBag.from_pretrained(weight, mode="sum")
    copied, size = weight.numpy(), 4 * n * d
    memory = rows_per_second(lambda: copied[ids], IDS)
    figures.add("memory (NumPy copies rows)", size, 1.0, "", "", memory, "", memory * 4 * d / 1e9)
    rows, pooled = (
        rows_per_second(lambda: full(torch_ids), IDS),
        rows_per_second(lambda: bag(torch_ids, torch_offsets), IDS),
    )
    figures.add("nn.Embedding, nn.EmbeddingBag", size, 1.0, rows, pooled, "", "", rows * 4 * d / 1e9)
    quantized = quantized_bag(weight, torch_ids, torch_offsets)
    if quantized is not None:
        figures.add("torch 8-bit bag", n * (d + 8), 4 * d / (d + 8), "", rows_per_second(quantized, IDS), "", "", "")


@torch.no_grad()
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--ratio", type=float, default=10.0)
    parser.add_argument("--method", action="append")
    parser.add_argument("--json")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    n, d = asked.rows, asked.dim
    rng = np.random.default_rng(0)
    ids = rng.permutation(n)[np.minimum(rng.zipf(1.2, IDS) - 1, n - 1)].astype(np.int64)
    offsets = np.arange(0, IDS, BAG)
    torch_ids, torch_offsets = torch.from_numpy(ids), torch.from_numpy(offsets)
    figures = Figures(
        f"look-ups of {n:,} synthetic rows of {d}, bags of {BAG}, {IDS:,} ids by Zipf's law, one thread",
        [
            "method",
            "bytes",
            "times smaller",
            "torch rows/s",
            "torch pooled/s",
            "frozen rows/s",
            "frozen pooled/s",
            "GB/s",
        ],
    )
    baselines(figures, n, d, ids, offsets)
    for method in asked.method or [name for name in tables.METHODS if name not in SEARCHED_ALIKE]:
        cls = tables.METHODS[method]
        if n > MOST_DENSE and not cls.is_final:
            print(f"left out: {method}, of more than {MOST_DENSE:,} rows")
            continue
        try:
            table = cls(n, d, ratio=FIXED.get(method, asked.ratio)).finish().eval()
        except BudgetError as error:
            print(f"left out: {error}")
            continue
        layer, frozen = table.bag("sum"), table.freeze()
        measured = (
            rows_per_second(lambda table=table: table(torch_ids), IDS),
            rows_per_second(lambda layer=layer: layer(torch_ids, torch_offsets), IDS),
            rows_per_second(lambda frozen=frozen: frozen(ids), IDS),
            rows_per_second(lambda frozen=frozen: frozen.bag(ids, offsets, mode="sum"), IDS),
        )
        figures.add(method, table.nbytes, 4 * n * d / table.nbytes, *measured, measured[2] * table.nbytes / n / 1e9)
    figures.show(machine_line(torch=torch.__version__), ["--json", asked.json] if asked.json else [])


if __name__ == "__main__":
    main()
