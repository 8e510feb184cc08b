"""Print the active instruction set and a digest of every kernel's results on fixed input."""

import hashlib

import numpy as np

from annvq.codebooks import ProductCodebook
from annvq.index.token_bytes import Levels
from annvq.kernels.compile import isa
from annvq.kernels.documents import chamfer
from annvq.kernels.scan import scan4, scan8, topk
from annvq.kernels.scan.lists import blocks_for
from annvq.kernels.vectors import dots


def digest(*arrays):
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()[:16]


def scan(module, ksub):
    rng = np.random.default_rng(1)
    offsets = np.array([0, 100, 133, 400])
    codes = rng.integers(0, ksub, (400, 49)).astype(np.uint8)
    tables = rng.normal(size=(3, 49, ksub)).astype(np.float32)
    bases = rng.normal(size=(3, 3)).astype(np.float32)
    constants = rng.normal(size=400).astype(np.float32)
    keep, keys = 20, np.arange(400)
    scores, rows = np.empty((3, topk.capacity_for(keep)), np.float32), np.empty((3, topk.capacity_for(keep)), np.int64)
    counts = np.zeros(3, np.int64)
    nothing = np.empty(0, np.uint8), *((np.empty(0, np.uint32),) if module is scan4 else ())
    module.scan_lists(
        tables, module.pack(codes, offsets), offsets, blocks_for(np.diff(offsets)),
        np.tile(np.arange(3), (3, 1)), np.full(3, 3), bases, constants, *nothing, 0, 1, 0,
        scores, rows, counts, np.full(3, -np.inf, np.float32), keep, keys,
    )  # fmt: skip
    best, best_rows = np.empty((3, keep), np.float32), np.empty((3, keep), np.int64)
    topk.take_best(scores, rows, counts, keep, keys, best, best_rows)
    return digest(best, best_rows)


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


print(isa.ACTIVE, scan(scan4, 16), scan(scan8, 256), floats(), documents_of_codes())
