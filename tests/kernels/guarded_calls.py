"""Calls of everything that runs kernels, for `guard_pages`: odd sizes, one thread, deterministic answers."""

from functools import partial

import numpy as np

import annvq
from annvq import multivector
from annvq.codebooks import KMeans, ProductCodebook, RaBitQCodebook, ResidualCodebook, Rotation, ScalarCodebook
from annvq.index import recipe as recipes
from annvq.kernels.scan import topk
from annvq.kernels.vectors.dots import squared_norms
from annvq.kernels.vectors.finite import first_non_finite
from annvq.kernels.vectors.unit import unit_rows
from annvq.multivector import FixedDimensionalEncoder, MultiVectorIndex, Ragged
from annvq.tables.frozen import codes as packed_codes

SIZES = (0, 1, 15, 31, 32, 33, 65)
ONE = {"threads": 1}


def rows(n, d, seed=0):
    """Return rows that nothing has to round: multiples of 1/8."""
    return (np.random.default_rng([seed, n, d]).integers(-40, 41, (n, d)) / 8).astype(np.float32)


def codebook_answers(book, d, metric="l2"):
    made = []
    for n in SIZES:
        codes = book.encode(rows(n, d), **ONE)
        made += [codes, book.decode(codes), book.residual_constants(codes, rows(n, d, 1))]
        made += [book.lookup_tables(rows(n, d, 2), metric, residual=residual) for residual in (False, True)]
    return made


def trained(cls, d, settings):
    return codebook_answers(cls.train(rows(70, d), **settings), d)


def float16(d):
    book = ScalarCodebook.train(rows(9, d), kind="fp16")
    return [book.decode(book.encode(rows(n, d))) for n in SIZES]


def rabitq(d, bits):
    book = RaBitQCodebook.train(rows(5, d), nbits=bits)
    made = []
    for n in SIZES:
        for metric in ("ip", "l2"):
            encoded = book.encode(rows(n, d), centroids=rows(3, d, 1), labels=np.arange(n) % 3, metric=metric, **ONE)
            made += [encoded, book.decode(encoded, metric=metric)]
        prepared = book.prepare(rows(n, d, 2))
        made += [prepared.planes, prepared.high, prepared.low, prepared.factors, prepared.totals]
    return made


def kmeans(d, metric):
    book = KMeans.train(rows(80, d), 17, metric=metric, init="k-means++", balance=0.5, niter=3, **ONE)
    return [book.centroids, *(book.assign(rows(n, d, 1), k, **ONE) for n in SIZES for k in (1, 2, 17))]


def rotations(d):
    turned = [Rotation.random(d, 1)]
    if d > 2:
        turned += [Rotation.pca(rows(60, d), d - 1, dsub=2)]
    return [[turn.inverse(turn.apply(rows(n, d), **ONE), **ONE) for n in SIZES] for turn in turned]


def small_kernels():
    made = []
    for n in SIZES:
        for d in (1, 3, 16, 17):
            x, out = rows(n, d), np.zeros((n, d), np.float32)
            made += [np.array([first_non_finite(x), unit_rows(x, out)]), out, squared_norms(x)]
        pool = topk.empty_pools(1, topk.capacity_for(n + 1))
        made.append(pool.counts)
        for t in (1, 3):
            keys = np.arange(n * t).reshape(n, t)
            made += [topk.best_of_columns(rows(n, t), keys[:, :1].copy(), n), topk.best_of_columns(rows(n, t), keys, n)]
    return made


def table_kernels():
    """Rows of an embedding table: outputs and codebooks have `SPARE` numbers more, as their callers give them."""
    made = []
    for M, ksub, dsub in ((3, 16, 5), (5, 256, 1), (2, 16, 17)):
        d = M * dsub - (dsub > 2)
        codebooks, bits = rows(M * ksub, dsub).reshape(M, ksub, dsub), 4 if ksub == 16 else 8
        for n in SIZES[1:]:
            codes = np.random.default_rng(n).integers(0, ksub, (n, M)).astype(np.uint8)
            form = packed_codes.ProductCodes(n, d, packed_codes.packed(codes, bits), codebooks)
            ids, ends = np.arange(n)[::-1].copy(), np.array([0, n // 2, n // 2, n])
            made += [form.rows(ids), form.sums(ids, ends, np.empty(0, np.float32)), form.unpacked()]
            whole = rows(M * ksub, d, 1).reshape(M, ksub, d)
            made.append(packed_codes.ResidualCodes(n, d, packed_codes.packed(codes, bits), whole).rows(ids))
    return made


FACTORIES = (
    "Flat",
    "SQfp16",
    "SQ8",
    "SQ4",
    "IVF3,Flat",
    "IVF3,SQfp16",
    "IVF3,SQ8",
    "PQ3x4fs",
    "PQ5x8",
    "IVF3,PQ5x4fs,RFlat",
    "IVF3,PQ5x4fsr,Refine(SQ8)",
    "IVF3,PQ3x8,Refine(SQfp16)",
    "IVF3,RQ3x4",
    "RQ2x8",
    "RaBitQ",
    "IVF3,RaBitQ3",
    "IVF3,RaBitQ1,RFlat",
    "PCA3,IVF3,PQ3x4fs,Refine(SQfp16)",
    "QG32x3",
    "QG32x5SQ8",
    "IVF3,PQ5x4fsr,Refine(LVQ8)",
    "PCA3,IVF3,PQ3x4fs,Refine(LVQ8x8)",
    "IVF3,RaBitQ1,Refine(LVQ8x8)",
    "RaBitQ,Refine(LVQ8)",
)


def spilled():
    made = recipes.load("fast").to_dict() | {"rotation": None, "nlist": 3, "refine": "fp32"}
    del made["dims"]
    made["codebook"] |= {"M": 5}
    return annvq.Recipe.from_dict(made)


def index_answers(recipe, metric, n, d, named):
    ids = [f"é{i}" for i in range(n)] if named else None
    index = annvq.build(rows(n, d), recipe, metric=metric, ids=ids, **ONE)
    queries = rows(3, d, 2)
    made = [index.search(queries, k, nprobe=probes, **ONE) for k in (1, 7, n + 3) for probes in (1, 3)]
    made += [index.search(queries[0], 5, **ONE), index.range_search(queries, -30.0)]
    made.append(index.search(queries, 5, filter=np.arange(n) % 3 == 1, **ONE))
    index.add(rows(33, d, 3), ids=[f"z{i}" for i in range(33)] if named else None)
    index.remove(list(index.search(queries[:1], 2).ids[0]))
    made.append(index.search(queries, 9, **ONE))
    index.compact()
    made += [index.search(queries, 9, **ONE), index.reconstruct(index.search(queries, 3).ids[0])]
    return [list(one) if isinstance(one, tuple) else one for one in made]


def index_calls():
    calls = {}
    for recipe in (*FACTORIES, spilled()):
        for metric, n, d in (("ip", 33, 5), ("l2", 65, 17), ("cosine", 64, 7)):
            name = recipe if isinstance(recipe, str) else "spilled"
            calls[f"{name} {metric} {n} {d}"] = partial(index_answers, recipe, metric, n, d, named=n == 65)
    for recipe in ("SQ8", "IVF3,SQ8"):
        for metric in ("ip", "l2"):  # of as many dimensions as a register has bytes, and of more
            for d in (64, 70):
                calls[f"{recipe} {metric} 33 {d}"] = partial(index_answers, recipe, metric, 33, d, named=False)
    return calls


def sets(seed, d, lengths=(1, 3, 17, 2, 33, 5, 4, 1)):
    return [rows(length, d, seed + place) + np.float32(0.125) for place, length in enumerate(lengths)]


def multivector_functions(d):
    given, asked = sets(10, d), sets(30, d, (1, 5, 16))
    encoder = FixedDimensionalEncoder(d, repetitions=3, simhash_bits=2, projection_dim=3, final_dim=11)
    kinds = [given, [one.astype(np.float16) for one in given], [np.rint(one).astype(np.int8) for one in given]]
    made = [multivector.chamfer(asked, kind, **ONE) for kind in kinds]
    made += [encoder.encode_documents(kind, **ONE) for kind in kinds]
    made += [encoder.encode_queries(asked, **ONE)]
    for some in (multivector.pool_tokens(given, 2, **ONE), multivector.carve_queries(given, 0.5, **ONE)):
        made += [some.vectors, some.offsets]
    return made


def multivector_index(name, d):
    index = MultiVectorIndex.build(Ragged.of(sets(50, d) * 5), name, **ONE)
    found = [index.search(sets(70, d, (2, 7)), k, **ONE) for k in (1, 9)]
    return [list(one) for one in found]


CALLS = {
    **{
        f"{cls.__name__} {settings} {d}": partial(trained, cls, d, settings)
        for cls, settings, d in (
            (ProductCodebook, {"M": 3, "nbits": 4, "niter": 3}, 7),
            (ProductCodebook, {"M": 5, "nbits": 4, "niter": 3, "anisotropic_eta": 2.0}, 17),
            (ProductCodebook, {"M": 1, "nbits": 8, "niter": 3}, 1),
            (ProductCodebook, {"M": 7, "nbits": 8, "niter": 3}, 33),
            (ResidualCodebook, {"M": 3, "nbits": 4, "niter": 3}, 5),
            (ResidualCodebook, {"M": 2, "nbits": 8, "niter": 3, "beam": 3}, 17),
            (ScalarCodebook, {"kind": "sq8"}, 1),
            (ScalarCodebook, {"kind": "sq8"}, 17),
            (ScalarCodebook, {"kind": "sq4"}, 5),
        )
    },
    **{f"float16 {d}": partial(float16, d) for d in (1, 5, 17)},
    **{f"RaBitQ {d} {bits}": partial(rabitq, d, bits) for d in (1, 65, 130) for bits in (1, 3)},
    **{f"KMeans {d} {metric}": partial(kmeans, d, metric) for d in (1, 5, 17) for metric in ("l2", "ip")},
    **{f"Rotation {d}": partial(rotations, d) for d in (1, 5, 33)},
    "small kernels": small_kernels,
    "rows of tables": table_kernels,
    **index_calls(),
    **{f"sets {d}": partial(multivector_functions, d) for d in (1, 5, 17)},
    **{
        f"documents {name} {d}": partial(multivector_index, name, d)
        for name in ("muvera", "muvera-4bit", "centroid-interaction", "chamfer-exact", "single-vector-heuristic")
        for d in (5, 17)
    },
}
