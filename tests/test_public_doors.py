"""Whatever is given to a public function, it answers with finite numbers or with one of annvq's errors.

Every argument of every function below is replaced, one at a time, by values of other types, shapes, ranges and sizes.
A function may take them or refuse them; it may not fail with another library's error, return what is not a number,
or change what it was given.
"""

import warnings
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
import pytest

from annvq import codebooks, evaluation, multivector
from annvq.codebooks import (
    KMeans,
    ProductCodebook,
    RaBitQCodebook,
    ResidualCodebook,
    Rotation,
    ScalarCodebook,
)
from annvq.codebooks.anisotropic import eta_from_threshold
from annvq.errors import AnnvqError, NonFiniteError, ParameterError, ShapeError

N, D = 40, 6
rng = np.random.default_rng(0)
X = rng.normal(size=(N, D)).astype(np.float32)
Q = rng.normal(size=(3, D)).astype(np.float32)
PRODUCT4 = ProductCodebook.train(X, M=4, nbits=4, niter=2)
PRODUCT8 = ProductCodebook.train(X, M=3, nbits=8, niter=2)
AWARE = ProductCodebook.train(X, M=3, nbits=4, niter=2, anisotropic_eta=2.0)
RESIDUAL = ResidualCodebook.train(X, M=3, nbits=4, niter=2)
SQ4, SQ8, FP16 = (ScalarCodebook.train(X, kind=kind) for kind in ("sq4", "sq8", "fp16"))
RABITQ1, RABITQ4 = (RaBitQCodebook.train(X, nbits=bits) for bits in (1, 4))
COARSE = KMeans.train(X, 5, niter=2)
TURN = Rotation.random(D, 1)
ENCODED = RABITQ4.encode(X)
ENCODER = multivector.FixedDimensionalEncoder(D, repetitions=2, simhash_bits=2, projection_dim=4)
SETS = [X[:4], X[4:9], X[9:10]]
QRELS = {"q": {"a": 1, "b": 0}, "r": {"c": 2}}
RUN = {"q": {"a": 0.5, "b": 0.25}, "r": {"a": 1.0}}


@dataclass(frozen=True)
class Door:
    """A public function with arguments that it takes."""

    name: str
    call: Any
    arguments: dict[str, Any]


def door(call, _name=None, **arguments):
    return Door(_name or call.__qualname__, call, arguments)


def of(codebook, name, method, **arguments):
    return door(getattr(codebook, method), f"{name}.{method}", **arguments)


LABELS = np.arange(N) % 3
TRAINING = {"sample": 30, "seed": 1, "threads": 1}
DOORS = [
    door(KMeans.train, vectors=X, k=4, metric="l2", niter=2, init="random", spherical=True, balance=0.5, **TRAINING),
    door(ScalarCodebook.train, vectors=X, kind="sq8", **TRAINING),
    door(
        ProductCodebook.train,
        vectors=X, M=3, nbits=4, niter=2, anisotropic_eta=2.0, directions=X, **TRAINING,
    ),
    door(ResidualCodebook.train, vectors=X, M=2, nbits=4, niter=2, beam=2, **TRAINING),
    door(RaBitQCodebook.train, vectors=X, nbits=2, seed=1, threads=1),
    door(Rotation.random, d=3, seed=1),
    door(Rotation.opq, vectors=X, M=3, nbits=4, niter=2, **TRAINING),
    door(Rotation.pca, vectors=X, keep=0.9, dsub=2, keep_mean=True, sample=30, seed=1),
    door(KMeans, centroids=X, metric="ip"),
    door(ProductCodebook, codebooks=PRODUCT4.codebooks, dim=D, anisotropic_eta=2.0),
    door(ResidualCodebook, codebooks=RESIDUAL.codebooks, beam=2),
    door(ScalarCodebook, kind="sq8", minimum=SQ8.minimum, step=SQ8.step),
    door(RaBitQCodebook, dim=D, nbits=4, signs=RABITQ4.signs),
    door(Rotation, matrix=TURN.matrix),
    of(COARSE, "KMeans", "assign", vectors=X, n=2, threads=1),
    of(TURN, "Rotation", "apply", vectors=X, threads=1),
    of(TURN, "Rotation", "inverse", vectors=X, threads=1),
    of(AWARE, "ProductCodebook", "encode", vectors=X, directions=X, threads=1),
    of(RABITQ4, "RaBitQCodebook", "encode", vectors=X, centroids=X[:3], labels=LABELS, metric="l2", threads=1),
    of(RABITQ4, "RaBitQCodebook", "decode", encoded=ENCODED, metric="ip"),
    of(RABITQ4, "RaBitQCodebook", "prepare", queries=Q),
    of(RABITQ4, "RaBitQCodebook", "rotate", vectors=X),
    *(
        one
        for name, book in (("PQ4", PRODUCT4), ("PQ8", PRODUCT8), ("RVQ", RESIDUAL), ("SQ4", SQ4), ("SQ8", SQ8))
        for one in (
            of(book, name, "encode", vectors=X, threads=1),
            of(book, name, "decode", codes=book.encode(X)),
            of(book, name, "lookup_tables", queries=Q, metric="l2", residual=True),
            of(book, name, "residual_constants", codes=book.encode(X), centroids=X),
        )
    ),
    of(FP16, "fp16", "encode", vectors=X, threads=1),
    of(FP16, "fp16", "decode", codes=FP16.encode(X)),
    *(
        door(type(book).from_arrays, config=book.config(), arrays=book.arrays())
        for book in (COARSE, SQ8, PRODUCT4, RESIDUAL, RABITQ4, TURN)
    ),
    door(eta_from_threshold, T=0.2, d=30),
    door(evaluation.exact_neighbors, base=X, queries=Q, k=3, metric="l2"),
    door(evaluation.exact_scores, base=X, queries=Q, rows=np.arange(6).reshape(3, 2), metric="cosine"),
    door(evaluation.recall, found=np.arange(6).reshape(3, 2), exact=np.arange(6).reshape(3, 2), k=2),
    door(
        evaluation.recall_with_ties,
        found=np.arange(6).reshape(3, 2), found_scores=-np.arange(6.0).reshape(3, 2),
        exact_scores=-np.arange(6.0).reshape(3, 2), k=2, eps=1e-6,
    ),
    door(evaluation.run_from_ids, query_ids=["q", "r"], found=[["a", "b"], ["c", None]]),
    door(evaluation.evaluate, qrels=QRELS, run=RUN, metrics=["ndcg@10", "mrr@10"], ignore_identical_ids=True),
    door(evaluation.evaluate_per_query, qrels=QRELS, run=RUN, metrics=["map@10"], ignore_identical_ids=False),
    *(
        door(measure, qrels=QRELS, run=RUN, k=5)
        for measure in (evaluation.ndcg, evaluation.mrr, evaluation.mean_average_precision, evaluation.qrel_recall)
    ),
    door(multivector.chamfer, queries=SETS, documents=SETS, threads=1),
    door(
        multivector.chamfer,
        queries=X, documents=X, query_offsets=np.array([0, 3, N]), document_offsets=np.array([0, 0, N]), threads=1,
    ),
    door(multivector.pool_tokens, documents=X, factor=2, offsets=np.array([0, 3, N]), threads=1),
    door(multivector.carve_queries, queries=X, threshold=0.7, offsets=np.array([0, 3, N]), threads=1),
    of(ENCODER, "FDE", "encode_documents", vectors=X, offsets=np.array([0, 3, N]), dtype="float32", threads=1),
    of(ENCODER, "FDE", "encode_queries", vectors=SETS, offsets=None, dtype="float16", threads=1),
    door(
        multivector.FixedDimensionalEncoder,
        dim=D, repetitions=2, simhash_bits=2, projection_dim=4, final_dim=8, fill_empty=True, seed=0,
    ),
    door(multivector.Ragged.of, sets=X, offsets=np.array([0, 3, N]), dim=D),
]  # fmt: skip


def strange():
    """Return values of every kind that is hardly ever meant."""
    return {
        "None": None,
        "object": object(),
        "class": dict,
        "text": "x",
        "empty text": "",
        "bytes": b"\0x",
        "minus one": -1,
        "zero": 0,
        "a half": 2.5,
        "nan": float("nan"),
        "infinite": float("inf"),
        "huge": 10**30,
        "true": True,
        "complex": 1 + 2j,
        "numpy float": np.float64(3),
        "numpy nan": np.array(np.nan),
        "list": [1, 2],
        "ragged": [[1.0], [1.0, 2.0]],
        "texts": ["a", "b"],
        "empty list": [],
        "list of empty": [[]],
        "dict": {},
        "dict of none": {"codes1": None, "metric": None, "q": None},
        "set": {1},
        "generator": (row for row in [1]),
        "no array": np.empty((0, 0)),
        "array": np.array([1, 2]),
        "floats": np.array([0.5]),
    }


def distorted(array):
    """Return arrays that differ from one in shape, dtype, range or what they hold."""
    first, numbers = array[:1], array.dtype.kind == "f"
    found = {
        "row": array[0],
        "column": array[..., :1],
        "fewer columns": array[..., :-1],
        "more columns": np.concatenate([array, array], axis=-1),
        "fewer rows": array[:-1],
        "more axes": array[None],
        "no rows": array[:0],
        "no columns": array[..., :0],
        "complex": array.astype(complex),
        "object": array.astype(object),
        "text": array.astype(str),
        "bytes": array.astype("S3"),
        "bool": array.astype(bool),
        "dates": np.zeros(array.shape, "M8[s]"),
        "records": np.zeros(array.shape, [("a", "f4")]),
        "int64": array.astype(np.int64),
        "uint64": np.full(array.shape, 2**64 - 1, np.uint64),
        "int32": np.full(array.shape, -1, np.int32),
        "all 255": np.full(array.shape, 255, np.uint8),
        "all 16": np.full(array.shape, 16, np.uint8),
        "masked": np.ma.masked_array(array, np.arange(array.size).reshape(array.shape) % 3 == 0),
        "strided": np.repeat(array, 2, axis=0)[::2],
        "backwards": array[::-1],
        "fortran": np.asfortranarray(array),
        "big endian": array.astype(array.dtype.newbyteorder(">")),
        "longdouble": array.astype(np.longdouble),
        "float16": array.astype(np.float16),
        "many": np.broadcast_to(first, (70, *array.shape[1:])),
    }
    if numbers:
        for value in (np.nan, np.inf, -np.inf):
            found[str(value)] = np.where(
                np.arange(array.size).reshape(array.shape) == 1, array.dtype.type(value), array
            )
        for scale in (1e-45, 1e-30, 1e15, 1e18, 1e25, 3e38):
            found[f"times {scale}"] = np.full_like(array, scale) * np.sign(array + 1e-3)
        found["beyond float32"] = np.full(array.shape, 1e300)
        found["constant"] = np.ones_like(array)
    return found


def replacements(value):
    found = strange()
    if isinstance(value, np.ndarray):
        found |= {f"array: {name}": array for name, array in distorted(value).items()}
    if isinstance(value, dict):
        for key, one in value.items():
            inside = distorted(one) if isinstance(one, np.ndarray) else {}
            found |= {f"{key}: {name}": {**value, key: other} for name, other in (strange() | inside).items()}
            found[f"without {key}"] = {other: kept for other, kept in value.items() if other != key}
    if isinstance(value, list):
        for name, other in strange().items():
            found[f"first: {name}"] = [other, *value[1:]]
    return found


def numbers_of(result):
    """Return the floating-point arrays of whatever a function returned."""
    if isinstance(result, np.ndarray):
        return [result] if result.dtype.kind == "f" else []
    if isinstance(result, float):
        return [np.array(result)]
    if is_dataclass(result) and not isinstance(result, type):
        return [array for field in fields(result) for array in numbers_of(getattr(result, field.name))]
    if isinstance(result, dict):
        result = list(result.values())
    return [array for one in result for array in numbers_of(one)] if isinstance(result, list | tuple) else []


def copies(value):
    return value.copy() if isinstance(value, np.ndarray) else value


CASES = [(place, name) for place, one in enumerate(DOORS) for name in one.arguments]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("place", "name"), CASES, ids=[f"{DOORS[place].name}-{name}-{place}" for place, name in CASES])
def test_a_strange_argument_is_taken_or_refused(place, name):
    made = DOORS[place]
    made.call(**made.arguments)
    for kind, value in replacements(made.arguments[name]).items():
        before = copies(value)
        try:
            result = made.call(**{**made.arguments, name: value})
        except AnnvqError:
            continue
        except Exception as error:
            raise AssertionError(f"{name} = {kind}: {error!r}") from error
        for array in numbers_of(result):
            assert not np.isnan(array).any(), kind
        if isinstance(value, np.ndarray):
            assert value.tobytes() == before.tobytes(), f"{kind} was changed"


VECTORS = [(place, name) for place, name in CASES if name in ("vectors", "queries", "centroids", "directions")]
VECTORS = [
    (place, name)
    for place, name in VECTORS
    if isinstance(DOORS[place].arguments[name], np.ndarray) and "Codebook" not in type(DOORS[place].call).__name__
]


def same(a, b):
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.tobytes() == b.tobytes()
    if is_dataclass(a):
        return all(same(getattr(a, field.name), getattr(b, field.name)) for field in fields(a))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize(
    ("place", "name"), VECTORS, ids=[f"{DOORS[place].name}-{name}-{place}" for place, name in VECTORS]
)
def test_the_same_numbers_give_the_same_result_in_whatever_they_come(place, name, tmp_path):
    made = DOORS[place]
    rounded = made.arguments[name].astype(np.float16).astype(np.float32)  # which every form below holds
    wanted = made.call(**{**made.arguments, name: rounded})
    mapped = np.memmap(tmp_path / "rows", np.float32, "w+", shape=rounded.shape)
    mapped[:] = rounded
    frozen = rounded.copy()
    frozen.flags.writeable = False
    twice = np.repeat(rounded, 2, axis=1)
    forms = {
        "float64": rounded.astype(np.float64),
        "float16": rounded.astype(np.float16),
        "big endian": rounded.astype(">f4"),
        "fortran": np.asfortranarray(rounded),
        "strided": twice[:, ::2],
        "read-only": frozen,
        "memmap": mapped,
        "unaligned": np.frombuffer(b"\0" + rounded.tobytes(), np.uint8)[1:].view(np.float32).reshape(rounded.shape),
    }
    if made.call.__name__ != "KMeans":
        forms["list"] = rounded.tolist()
    for kind, given in forms.items():
        assert same(made.call(**{**made.arguments, name: given}), wanted), kind


# The faults that were found, one by one


def test_codes_that_no_centroid_has_are_refused():
    for book, bad in ((PRODUCT4, 255), (RESIDUAL, 16), (SQ4, 16)):
        codes = book.encode(X)
        codes[3, 1] = bad
        with pytest.raises(ParameterError, match="row 3"):
            book.decode(codes)
        with pytest.raises(ParameterError, match="row 3"):
            book.residual_constants(codes)
        with pytest.raises(ShapeError, match=r"\(n, "):
            book.decode(book.encode(X)[:, :2])


def test_queries_of_another_dimension_are_refused():
    for book in (PRODUCT4, PRODUCT8, RESIDUAL, SQ8):
        with pytest.raises(ShapeError, match="dimension 7"):
            book.lookup_tables(np.zeros((2, 7), np.float32), "ip")


def test_nan_is_not_encoded():
    rows = X.copy()
    rows[5, 2] = np.nan
    for call in (PRODUCT4.encode, RESIDUAL.encode, SQ8.encode, FP16.encode, RABITQ1.encode, COARSE.assign, TURN.apply):
        with pytest.raises(NonFiniteError, match="row 5"):
            call(rows)


def test_what_overflows_is_an_error_and_not_a_score():
    huge = ResidualCodebook(np.full((3, 16, D), 3e38, np.float32))
    zeros = np.zeros((2, 3), np.uint8)
    for call in (lambda: huge.decode(zeros), lambda: huge.lookup_tables(Q * 1e10, "ip")):
        with pytest.raises(NonFiniteError, match="overflow"):
            call()
    product = ProductCodebook(np.full((3, 16, 2), 1e30, np.float32), D)
    with pytest.raises(NonFiniteError, match="overflow"):
        product.lookup_tables(Q, "l2")
    with pytest.raises(NonFiniteError, match="overflow"):
        product.residual_constants(zeros)
    factors = ENCODED["factors"].copy()
    factors[:, 1] = 3e38
    with pytest.raises(NonFiniteError, match="overflow"):
        RABITQ4.decode({**ENCODED, "factors": factors})
    with pytest.raises(NonFiniteError, match="largest code"):
        ScalarCodebook("sq8", np.zeros(2, np.float32), np.full(2, 1e38, np.float32))


def test_only_codebooks_are_saved(tmp_path):
    for thing in (object(), None, 5, {"codebook": X}, ProductCodebook, X):
        with pytest.raises(ParameterError, match="ProductCodebook"):
            codebooks.save(tmp_path / "codebook", thing)
    for path in (None, 3, b"x", "a\0b", object()):
        with pytest.raises(ParameterError, match="path"):
            codebooks.save(path, PRODUCT4)
        with pytest.raises(ParameterError, match="path"):
            codebooks.open(path)
    assert not list(tmp_path.iterdir())


def test_what_a_codebook_is_made_of_cannot_be_changed_through_it():
    for book in (COARSE, PRODUCT4, RESIDUAL, SQ8, RABITQ4, TURN, KMeans(X.copy())):
        for array in book.arrays().values():
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0


def test_no_warning_comes_instead_of_an_error():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for call in (PRODUCT4.encode, RESIDUAL.encode, SQ8.encode, COARSE.assign):
            with pytest.raises(NonFiniteError, match="float32"):
                call(np.full((2, D), 1e300))


@pytest.mark.parametrize("heard", [1, "x", True, [], {}, np.float32(1)])
def test_progress_that_is_no_function_is_refused(heard):
    for train, arguments in ((KMeans.train, (X, 4)), (Rotation.opq, (X, 3))):
        with pytest.raises(ParameterError, match="progress must be a function"):
            train(*arguments, niter=2, progress=heard)
