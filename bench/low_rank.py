"""Measure lists with low-rank models beside lists of 4-bit product codes, in searches that are otherwise the same.

A list's model turns a query into a few dozen numbers of 8 bits, by a product of bytes with a matrix of its own, and a
code is as many bytes, which are multiplied with these. The matrices are those that lose least of the scores of the
list's residuals with queries near it (reduced-rank regression; Jääsaari et al., "LoRANN: Low-rank matrix factorization
for approximate nearest neighbor search", NeurIPS 2024). Rotation, choice of lists, pools and re-ranking are those of
recipe fast. Settings are chosen on even queries and measured on odd ones, one query at a time, each search in turn,
median CPU time of one thread; AVX-512 only.

    python bench/low_rank.py DATA.npz [--json FILE]
"""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from figures import Figures, machine_line

import annvq
from annvq.evaluation import recall
from annvq.index.index import Index
from annvq.kernels.compile.jit import kernel
from annvq.kernels.compile.scratch import local, local_zeros
from annvq.kernels.registers import simd
from annvq.kernels.registers.tiles import aligned
from annvq.kernels.scan import pipeline, pipeline4, scan4
from annvq.kernels.scan.coarse import fill_probes
from annvq.kernels.scan.lists import PackedCodes, Visits
from annvq.kernels.scan.lookup_tables import fill_lookup_tables
from annvq.kernels.scan.plan import reader_of
from annvq.kernels.scan.topk import Candidates, capacity_for, clear, cut_pools, drop_repeats, take_best, thinned
from annvq.kernels.vectors import bytematrix
from annvq.kernels.vectors.bytematrix import ByteMatrix

K, QUERIES, PASSES, TARGETS = 10, 2000, 15, (0.90, 0.95, 0.99)
PROBES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 56, 80, 112)
RERANKS = (20, 30, 40, 60, 100, 150)
STAGES = ("rotation", "choice of lists", "scan", "cut", "re-ranking", "sorting")
KINDS = (
    ("tables", {}),
    ("tables", {"nlist": 256}),
    ("tables", {"nlist": 128}),
    ("low rank", {}),
    ("low rank", {"nlist": 256}),
    ("low rank", {"nlist": 128}),
    ("low rank", {"nlist": 256, "dims": 128}),
    ("low rank", {"nlist": 128, "dims": 128}),
)
RANK, NEAREST = 32, 5  # numbers per code; the lists for which a vector counts as a query
_ONES = np.full(64, 128, np.uint8)


class Searched(NamedTuple):
    """Everything that a search of one segment reads; a search with tables has no model."""

    tables: pipeline4.Searched4
    shift: np.ndarray  # (width,) float32, subtracted from rotated queries
    model: ByteMatrix  # (width, nlist * RANK): the lists' matrices side by side
    codes: PackedCodes  # blocks of 32 rows; for every four numbers, 4 bytes of rows 0..15, then of rows 16..31
    spilled: PackedCodes


_TABLES = pipeline4.Searched4(pipeline.SEARCHED, pipeline.FLOATS_3D, False, pipeline.CODES, pipeline.CODES)
_WITHOUT = Searched(_TABLES, pipeline.FLOATS, pipeline.MATRIX, pipeline.CODES, pipeline.CODES)
_read = reader_of(_WITHOUT)


@kernel
def _in_signed_bytes(values, signed):
    """Write values (RANK,) float32 as signed bytes; return their step, and 128 times their sum."""
    step = max(bytematrix.largest(values, RANK), np.float32(1e-30)) / np.float32(127.0)
    scale = simd.splat_f32(np.float32(1.0) / step)
    for i in range(0, RANK, 16):
        simd.store_signed(signed, i, simd.nearest(simd.mul(simd.load_f32x16(values, i), scale)))
    return step, simd.hsum_i32(
        simd.dot4_u8i8(simd.zero_i32x16(), simd.load_u8x64(_ONES, 0), simd.load_u8x64(signed, 0))
    )


@kernel
def _scan(codes, l, signed, step, base, buffer, pools, keep, keys):
    """Scan list l into the pool of a query."""
    packed, offsets, block_offsets, constants, _, mapping, _ = codes
    scores, rows, counts, thresholds = pools
    count, threshold = counts[0], thresholds[0]
    unit, added = simd.splat_f32(step), simd.splat_f32(base)
    at = block_offsets[l] * (RANK * 32)
    for first in range(offsets[l], offsets[l + 1], 32):
        low, high = simd.zero_i32x16(), simd.zero_i32x16()
        for g in range(0, RANK, 4):
            level = simd.repeat_u8x4(signed, g)
            low = simd.dot4_u8i8(low, simd.load_u8x64(packed, at), level)
            high = simd.dot4_u8i8(high, simd.load_u8x64(packed, at + 64), level)
            at += 128
        low_scores = simd.add(simd.fma(simd.to_f32(low), unit, added), simd.load_f32x16(constants, first))
        high_scores = simd.add(simd.fma(simd.to_f32(high), unit, added), simd.load_f32x16(constants, first + 16))
        mask = simd.ge_mask(low_scores, threshold) | (simd.ge_mask(high_scores, threshold) << np.uint32(16))
        left = offsets[l + 1] - first
        if left < 32:
            mask &= (np.uint32(1) << np.uint32(left)) - np.uint32(1)
        if mask == 0:
            continue
        if mapping.size > 0 and first + 32 > mapping.size:
            count += scan4._append_each(codes, first, low_scores, high_scores, mask, buffer, scores[0], rows[0], count)
        else:
            count += scan4._append_all(codes, first, low_scores, high_scores, mask, buffer, scores[0], rows[0], count)
        if count > scores.shape[1] - 32:
            count, threshold = thinned(scores[0], rows[0], count, keep, keys)
    counts[0], thresholds[0] = count, threshold


@kernel
def _scan_low_rank(rotated, tree, lists, counts, bases, pools, keep, keys):
    """Scan the lists of a query by their models."""
    shift, model, twice = tree.shift, tree.model, tree.spilled.mapping.size > 0
    panels, offsets, steps, adds = model
    width = shift.size
    levels, moved = local((width + 15) // 16 * 16, np.uint8), local((width + 15) // 16 * 16, np.float32)
    sums, signed, buffer = local(RANK, np.float32), local_zeros(64, np.uint8), local(32, np.float32)
    for i in range(width):
        moved[i] = rotated[0, i] - shift[i]
    step = bytematrix.to_levels(moved, width, levels)
    size = (width + 7) // 8 * 8 * RANK
    for i in range(counts[0]):
        l = lists[0, i]
        a, b = l * RANK, (l + 1) * RANK
        part = ByteMatrix(panels[l * size : (l + 1) * size], offsets[a:b], steps[a:b], adds[a:b])
        bytematrix._fill_products(levels, step, width, part, sums)
        unit, total = _in_signed_bytes(sums, signed)
        base = bases[0, l] - unit * np.float32(total)
        _scan(tree.codes, l, signed, unit, base, buffer, pools, keep, keys)
        if twice:
            _scan(tree.spilled, l, signed, unit, base, buffer, pools, keep, keys)


@kernel
def _scan_tables(rotated, tree, lists, counts, bases, pools, keep, keys):
    """Scan the lists of a query by tables, as `annvq.kernels.scan.pipeline4.search_block` does."""
    searched, transposed, _, codes, spilled = tree
    M, dsub, ksub = transposed.shape
    factor = np.float32(2.0 if searched.l2 else 1.0)
    sub_vectors = local_zeros((1, M * dsub), np.float32)
    for i in range(rotated.shape[1]):
        sub_vectors[0, i] = rotated[0, i] * factor
    tables = local((1, M, ksub), np.float32)
    fill_lookup_tables(sub_vectors, transposed, False, tables)
    visits = Visits(lists, counts, 0, 1)
    scan4.scan_lists(tables, bases, codes, visits, pools, keep, keys)
    if spilled.mapping.size > 0:
        scan4.scan_lists(tables, bases, spilled, visits, pools, keep, keys)


@kernel
def _search(queries, tree, k, keep, capacity, nprobe, stages, scores, rows):
    """Search for one query; stop after so many stages."""
    searched = tree.tables.searched
    keys, nlist, width = searched.keys, searched.coarse.keys.size, searched.coarse.exact.shift.size
    rotated = local((1, width), np.float32)
    pipeline.turn(queries, searched.rotation, rotated)
    if stages == 1:
        return
    lists, counts, bases = local((1, nlist), np.int64), local(1, np.int64), local((1, nlist), np.float32)
    fill_probes(rotated, searched.coarse, searched.searchable, nprobe, keep, lists, counts, bases)
    if stages == 2:
        return
    pools = Candidates(
        local((1, capacity), np.float32), local((1, capacity), np.int64), local(1, np.int64), local(1, np.float32)
    )
    clear(pools)
    twice = tree.tables.spilled.mapping.size > 0
    reach = 2 * keep if twice else keep
    if tree.model.panels.size > 0:
        _scan_low_rank(rotated, tree, lists, counts, bases, pools, reach, keys)
    else:
        _scan_tables(rotated, tree.tables, lists, counts, bases, pools, reach, keys)
    if stages == 3:
        return
    if twice:
        drop_repeats(pools)
    cut_pools(pools, keep, keys)
    if stages == 4:
        return
    pipeline.rescore(queries, searched, k, pools)
    if stages == 5:
        return
    take_best(pools, k, keys, scores, rows)


@kernel
def search_all(queries, planned, rotation_like, store_like, k, keep, capacity, nprobe, stages, scores, rows):
    """Search for queries one by one."""
    tree = _read(planned, (rotation_like, store_like))
    for q in range(queries.shape[0]):
        some = slice(q, q + 1)
        _search(queries[some], tree, k, keep, capacity, nprobe, stages, scores[some], rows[some])


def low_rank(index: Index, base: np.ndarray) -> Searched:
    """Return what a search by low-rank models of an index's lists reads; ``base`` (n, d) are its vectors."""
    version = index.rows.current
    trained, tables, keys = version.trained, version.view.fused.search.alive, version.snapshot.keys
    centroids, l2, shift = trained.centroids, trained.l2, trained.coarse.bytes.shift
    rows, mean = trained.rotate(base[keys]), base.mean(axis=0)  # ids are positions in base
    lost = np.square(base[keys] - mean).sum(axis=1) - np.square(rows - trained.rotate(mean[None])).sum(axis=1)
    nlist, width = centroids.shape
    copies = [(tables.codes, np.arange(len(rows)))]
    if tables.spilled.mapping.size > 0:
        copies.append((tables.spilled, tables.spilled.mapping.astype(np.int64)))
    products = rows @ centroids.T
    nearness = 2 * products - np.square(centroids).sum(axis=1) if l2 else products
    near = np.argpartition(-nearness, NEAREST, axis=1)[:, :NEAREST]
    usual = np.cov(rows.T, bias=True)
    matrix, adds = np.zeros((width, nlist, RANK), np.float32), np.zeros((nlist, RANK), np.float32)
    packed = [aligned(int(codes.block_offsets[-1]) * 32 * RANK, np.dtype(np.uint8)) for codes, _ in copies]
    constants = [np.zeros(len(rows) + 32, np.float32) for _ in copies]
    for l in range(nlist):
        own = [members[codes.offsets[l] : codes.offsets[l + 1]] for codes, members in copies]
        residuals = rows[np.concatenate(own)].astype(np.float64) - centroids[l]
        asking = rows[(near == l).any(axis=1)]
        middle, codes_of, asked = model_of(residuals, asking, usual, centroids[l])
        matrix[:, l] = asked * (2 if l2 else 1)
        adds[l] = (shift - middle) @ matrix[:, l]
        fixed = residuals @ middle
        if l2:
            fixed = (
                2 * (fixed - residuals @ centroids[l]) - np.square(residuals).sum(axis=1) - lost[np.concatenate(own)]
            )
        ends = np.cumsum([len(some) for some in own])[:-1]
        parts = zip(copies, packed, constants, np.split(codes_of, ends), np.split(fixed, ends), strict=True)
        for (codes, _), blocks, numbers, part, fixed_part in parts:
            begin, end = codes.block_offsets[l] * 32 * RANK, codes.block_offsets[l + 1] * 32 * RANK
            padded = np.zeros(((end - begin) // RANK, RANK), np.uint8)
            padded[: len(part)] = part
            by_row = padded.reshape(-1, 2, 16, RANK // 4, 4)
            blocks[begin:end] = by_row.transpose(0, 3, 1, 2, 4).reshape(-1)
            numbers[codes.offsets[l] : codes.offsets[l + 1]] = fixed_part
    model = bytematrix.pack(matrix.reshape(width, -1), adds.reshape(-1))
    made = [old._replace(packed=a, constants=b) for (old, _), a, b in zip(copies, packed, constants, strict=True)]
    return Searched(tables, shift, model, made[0], made[-1])


def model_of(
    residuals: np.ndarray, queries: np.ndarray, usual: np.ndarray, centroid: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a list's model: the mean of its queries, codes (n, RANK) uint8 whose zero is 128, and its matrix.

    ``usual`` is the covariance of all queries, by which that of a list with few of them is filled up.
    """
    width, count = len(usual), max(1, len(queries))
    middle = queries.mean(axis=0) if len(queries) else centroid
    spread = np.cov(queries.T, bias=True) if len(queries) else 0.0
    L = np.linalg.cholesky(spread + usual * (8 / count) + 1e-4 * np.trace(usual) / width * np.eye(width))
    U = np.linalg.eigh(L.T @ (residuals.T @ residuals) @ L)[1][:, ::-1][:, :RANK]
    numbers = residuals @ L @ U
    unit = np.maximum(np.abs(numbers).max(axis=0, initial=0), 1e-30) / 127
    return middle, np.rint(numbers / unit + 128).astype(np.uint8), np.linalg.solve(L.T, U) * unit


class System:
    """One way of searching, and the fastest settings that reach the targets on some queries."""

    def __init__(self, name: str, index: Index, searched: Searched) -> None:
        self.name, self.searched = name, searched
        self._index = index  # keeps alive what the plan points to
        self._plan = pipeline.plan(searched.tables.searched, searched)
        self.settings: dict[float, tuple[int, int]] = {}

    def runs(self, queries: np.ndarray, nprobe: int, rerank: int, stages: int = 6) -> Callable[[], np.ndarray]:
        """Return what searches for all queries and returns ids (nq, K)."""
        scores, rows = np.empty((len(queries), K), np.float32), np.zeros((len(queries), K), np.int64)
        searched = self.searched.tables.searched
        copies = 2 if self.searched.tables.spilled.mapping.size > 0 else 1

        def run() -> np.ndarray:
            search_all(queries, *self._plan, K, rerank, capacity_for(copies * rerank), nprobe, stages, scores, rows)
            return searched.keys[rows]

        return run

    def choose(self, queries: np.ndarray, exact: np.ndarray) -> None:
        """Find the settings."""
        points = []
        for rerank in RERANKS:
            for nprobe in (probes for probes in PROBES if probes <= self.searched.tables.searched.coarse.keys.size):
                run = self.runs(queries, nprobe, rerank)
                points.append((recall(run(), exact), seconds([run], 2)[0], (nprobe, rerank), run))
                if points[-1][0] > TARGETS[-1] + 0.003:
                    break
        for target in TARGETS:
            few = sorted((point for point in points if point[0] >= target), key=lambda point: point[1])[:4]
            if few:
                self.settings[target] = few[int(np.argmin(seconds([point[3] for point in few])))][2]


def seconds(calls: list[Callable[[], object]], passes: int = PASSES) -> list[float]:
    """Return the median CPU seconds of each call; they are made in turn."""
    spent = np.empty((passes, len(calls)))
    for i in range(passes):
        for j, call in enumerate(calls):
            start = time.thread_time()
            call()
            spent[i, j] = time.thread_time() - start
    return np.median(spent, axis=0).tolist()


def main() -> None:
    """Measure and print."""
    data = np.load(sys.argv[1])
    base, metric = np.ascontiguousarray(data["base"], np.float32), str(data["metric"])
    queries, exact = data["query"][:QUERIES].astype(np.float32), data["gt"][:QUERIES, :K]
    even, odd = (np.ascontiguousarray(queries[half::2]) for half in (0, 1))
    recipe, systems = annvq.recipes.load("fast"), []
    for name, changes in KINDS:
        index = annvq.build(base, replace(recipe, **changes), metric=metric)
        tables = index.rows.current.view.fused.search.alive
        searched = low_rank(index, base) if name == "low rank" else _WITHOUT._replace(tables=tables)
        coarse = tables.searched.coarse
        title = f"{name}, {coarse.keys.size} lists, {coarse.exact.shift.size} dimensions"
        systems.append(System(title, index, searched))
        systems[-1].choose(even, exact[::2])
    figures = Figures(
        "tables and low rank",
        ["at least", "codes", "nprobe", "rerank", "recall", "us per query", "times fastest tables", *STAGES],
    )
    for target in TARGETS:
        able = [system for system in systems if target in system.settings]
        calls = [system.runs(odd, *system.settings[target], i + 1) for system in able for i in range(6)]
        spent = 1e6 / len(odd) * np.reshape(seconds(calls), (-1, 6))
        of_tables = [times[-1] for system, times in zip(able, spent) if system.name.startswith("tables")]
        fastest = float(min(of_tables, default=np.nan))
        for system, times in zip(able, spent):
            setting = system.settings[target]
            reached = recall(system.runs(odd, *setting)(), exact[1::2])
            parts = np.diff(times, prepend=0.0).tolist()
            figures.add(target, system.name, *setting, reached, float(times[-1]), fastest / float(times[-1]), *parts)
    figures.show(machine_line(annvq=annvq.__version__), sys.argv[2:])


if __name__ == "__main__":
    main()
