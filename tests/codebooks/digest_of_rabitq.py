"""Print the active instruction set and a digest of RaBitQ's codes, queries, scores and reconstructions."""

import hashlib

import numpy as np

from annvq.codebooks.rabitq import RaBitQCodebook
from annvq.kernels.compile import isa
from annvq.kernels.scan import scanbits, topk
from annvq.kernels.scan.lists import Visits

digest = hashlib.sha256()
rng = np.random.default_rng(0)
for dim, bits in ((40, 1), (100, 3), (250, 8), (300, 4), (600, 2)):
    vectors, queries = rng.normal(size=(150, dim)), rng.normal(size=(2, dim))
    codebook = RaBitQCodebook.train(vectors, nbits=bits, seed=1)
    encoded = codebook.encode(vectors, metric="l2")
    prepared = codebook.prepare(queries)
    distances = np.sqrt((queries**2).sum(axis=1, keepdims=True)).astype(np.float32)
    keep = 20
    scores = np.zeros((2, topk.capacity_for(keep)), np.float32)
    rows = np.zeros(scores.shape, np.int64)
    pools = topk.Candidates(scores, rows, np.zeros(2, np.int64), np.full(2, -np.inf, np.float32))
    codes = scanbits.BitCodes(*encoded.values(), np.array([0, 150]), np.empty(0, np.uint8), 0)
    visits = Visits(np.zeros((2, 1), np.int64), np.ones(2, np.int64), 0, 1)
    scanbits.scan_lists(codes, prepared, -(distances**2), distances, visits, pools, keep, np.arange(150))
    held = np.arange(scores.shape[1]) < pools.counts[:, None]  # what lies behind them is left over
    results = (*encoded.values(), *prepared, scores[held], rows[held], codebook.decode(encoded, metric="l2"))
    for array in results:
        digest.update(np.ascontiguousarray(array).tobytes())
print(isa.ACTIVE, digest.hexdigest())
