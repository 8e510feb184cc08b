"""Print the active instruction set and a digest of every kernel's results on fixed input."""

import hashlib

import numpy as np

from annvq.codebooks import ProductCodebook, ScalarCodebook
from annvq.codebooks.neighbors import NeighborCodebook
from annvq.index.codes.graph import GraphCodes
from annvq.index.codes.pools import Pools
from annvq.index.codes.probes import Probes
from annvq.index.rows.ids import as_ids
from annvq.index.rows.segment import Segment
from annvq.kernels.compile import isa
from annvq.kernels.documents import chamfer
from annvq.kernels.graph.rows import views_of
from annvq.kernels.scan import scan4, scan8, topk
from annvq.kernels.scan.lists import PackedCodes, Visits, blocks_for
from annvq.kernels.vectors import dots
from annvq.multivector.token_bytes import Levels


def digest(*arrays):
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()[:16]


def scan(module, ksub, M=49, with_constants=True):
    rng = np.random.default_rng(1)
    offsets = np.array([0, 100, 133, 400])
    codes = rng.integers(0, ksub, (400, M)).astype(np.uint8)
    tables = rng.normal(size=(3, M, ksub)).astype(np.float32)
    bases = rng.normal(size=(3, 3)).astype(np.float32)
    constants = rng.normal(size=400 if with_constants else 0).astype(np.float32)
    keep, keys = 20, np.arange(400)
    pools = topk.empty_pools(3, topk.capacity_for(keep))
    packed = PackedCodes(
        module.pack(codes, offsets), offsets, blocks_for(np.diff(offsets)), constants, np.empty(0, np.uint8),
        np.empty(0, np.uint32), 0,
    )  # fmt: skip
    visits = Visits(np.tile(np.arange(3), (3, 1)), np.full(3, 3), 0, 1)
    module.scan_lists(tables, bases, packed, visits, pools, keep, keys)
    return digest(*topk.best(pools, keep, keys))


def floats():
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(37, 45)).astype(np.float32)
    queries = dots.padded(rng.normal(size=(4, 45)).astype(np.float32))
    nothing, parts = np.empty(0, np.float32), []
    for store in (rows, rows.astype(np.float16).view(np.uint16)):
        for l2 in (False, True):
            out = np.empty((4, 37), np.float32)
            dots.score_rows(queries, store.reshape(-1), 45, nothing, nothing, l2, out)
            parts.append(out)
    return digest(*parts)


def graphs():
    rng = np.random.default_rng(6)
    vectors, queries = rng.normal(size=(700, 45)).astype(np.float32), rng.normal(size=(5, 45)).astype(np.float32)
    product = ProductCodebook(rng.normal(size=(13, 16, 2)).astype(np.float32), 25)
    projection = np.linalg.qr(rng.normal(size=(45, 45)))[0][:25].astype(np.float32)
    weights, scalar = np.array([0.8, 0.1], np.float32), ScalarCodebook.train(vectors)
    found = []
    for metric, levels in (("ip", None), ("l2", None), ("ip", scalar), ("l2", scalar)):
        codes = GraphCodes(NeighborCodebook(projection, product, weights, levels), metric, vectors.mean(axis=0))
        offsets, labels = np.array([0, 700]), np.zeros(700, np.int64)
        arrays = codes.pack(codes.encode(vectors, labels, 1), offsets, 1)
        segment = Segment(offsets, arrays, as_ids(None, 700, 0), np.arange(700, dtype=np.uint32))
        _, neighbors, numbers, _ = views_of(arrays[codes.section], 45, 2 if levels is None else 1)
        pools, keys = Pools.empty(5, 20), np.arange(700)
        codes.scan(codes.prepare(queries, Probes.everything(5)), segment, Probes.everything(5), pools, keys)
        found += [neighbors, numbers, *pools.best(20, keys)]
    return digest(*found)


def documents_of_codes():
    rng = np.random.default_rng(4)
    codebook = ProductCodebook(rng.normal(size=(23, 16, 2)).astype(np.float32), 45)
    codes = rng.integers(0, 16, (131, 23)).astype(np.uint8)
    query = Levels.of(codebook).query(rng.normal(size=(6, 45)).astype(np.float32))
    levels = Levels.of(codebook)
    scores = np.empty(3, np.float32)
    chamfer.chamfer_of_codes(
        query.values, query.starts, query.scales, query.biases, levels.levels, levels.components,
        scan4.pack(codes, np.array([0, 131])), rng.integers(0, 5, 131).astype(np.uint32),
        rng.normal(size=(5, 6)).astype(np.float32), np.array([0, 1, 70, 131]), np.arange(3), scores,
    )  # fmt: skip
    return digest(scores)


print(
    isa.ACTIVE,
    scan(scan4, 16),
    *(scan(scan4, 16, M, False) for M in (49, 256, 261)),
    scan(scan8, 256),
    floats(),
    documents_of_codes(),
    graphs(),
)
