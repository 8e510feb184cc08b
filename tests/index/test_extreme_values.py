"""Values, shapes and types at the edge of what is accepted: an exact answer or a clear error, never NaN."""

import tracemalloc
import warnings

import numpy as np
import pyarrow as pa
import pytest
from small_indexes import BASE, QUERIES, RECIPES, D, N, _recipe

import annvq
from annvq.errors import DtypeError, NonFiniteError, RecipeError, ShapeError, ZeroVectorError
from annvq.index import build as building

LONGEST = 2.0**61
ALL = {
    **RECIPES,
    "aware": _recipe("pq", M=5, nbits=4, residual=True, score_aware=0.2),
    "graph of bytes": _recipe("graph", nlist=None, nbits=8),
}
HALF = ("fp16", "rvq", "graph")  # keep float16, which ends at 65504
TOO_FINE = ("denormal", "tiny", "far from 0")  # for float16


def with_column(value):
    rows = BASE.copy()
    rows[:, 3] = value
    return rows


def with_rows(value, rows=BASE):
    rows = rows.copy()
    rows[::4] = value
    return rows


CORPORA = {
    "some zero": with_rows(0),
    "all zero": BASE * 0,
    "all equal": np.tile(BASE[:1], (N, 1)),
    "two values": np.tile(BASE[:2], (N // 2, 1)),
    "constant dimension": with_column(7),
    "denormal": BASE * np.float32(1e-42),
    "tiny": BASE * np.float32(1e-25),
    "far from 0": BASE + np.float32(3e4),
    "huge": BASE * np.float32(1e17),
    "as long as may be": BASE / np.linalg.norm(BASE, axis=1, keepdims=True) * np.float32(LONGEST * 0.999),
    "huge and tiny": with_rows(0, BASE * np.float32(1e-17)) + with_rows(0, BASE * np.float32(1e17))[::-1],
}


@pytest.mark.parametrize("corpus", CORPORA)
@pytest.mark.parametrize("kind", ALL)
@pytest.mark.filterwarnings("error")
def test_extreme_numbers_give_finite_scores_and_every_row_once(kind, corpus):
    rows = CORPORA[corpus]
    queries = np.concatenate([rows[:3], QUERIES, QUERIES * 0, QUERIES * np.float32(1e17)])
    for metric in ("ip", "l2"):
        if kind in HALF and np.abs(rows).max() > 65504:
            with pytest.raises(NonFiniteError, match="float16"):
                annvq.build(rows, ALL[kind], metric=metric)
            continue
        if kind in HALF and corpus in TOO_FINE:
            with pytest.raises(RecipeError, match="float16"):
                annvq.build(rows, ALL[kind], metric=metric)
            continue
        index = annvq.build(rows, ALL[kind], metric=metric)
        for k in (20, N):
            hits = index.search(queries, k, nprobe=3)
            assert np.isfinite(hits.scores).all()
            assert all(len(set(ids)) == k and min(ids) >= 0 for ids in hits.ids.tolist())
            tied = np.diff(hits.scores, axis=1) == 0
            assert (np.diff(hits.ids, axis=1)[tied] > 0).all()
        assert np.isfinite(index.range_search(queries, 1.0, nprobe=3).scores).all()
        assert np.isfinite(index.reconstruct(np.arange(N))).all()
        index.add(QUERIES)
        assert np.isfinite(index.search(queries, 20, nprobe=3).scores).all()


@pytest.mark.parametrize("corpus", sorted(CORPORA.keys() - {"some zero", "all zero"}))
@pytest.mark.filterwarnings("error")
def test_cosine_knows_no_lengths(corpus):
    rows = CORPORA[corpus][np.abs(CORPORA[corpus]).max(axis=1) > 0]
    index = annvq.build(rows, "Flat", metric="cosine")
    for factor in (1, 1e3) if corpus == "denormal" else (1, 1e-3, 1e3):  # smaller ones would lose their digits
        np.testing.assert_allclose(index.search(rows[:20] * np.float32(factor), 1).scores, 1, rtol=1e-6)
    longer = annvq.build(BASE * np.float32(3e37), "Flat", metric="cosine")
    assert (longer.search(BASE * np.float32(1e37), 1).ids[:, 0] == np.arange(N)).all()


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_vectors_whose_squares_overflow_are_refused_and_named(metric):
    rows = BASE.copy()
    rows[77] = LONGEST * 1.01 / np.sqrt(D)
    with pytest.raises(NonFiniteError, match=r"vectors: row 77 is .* long"):
        annvq.build(rows, "Flat", metric=metric)
    with pytest.raises(NonFiniteError, match=r"train: row 77 is .* long"):
        annvq.build(BASE, "PQ2x4", metric=metric, train=rows)
    index = annvq.build(BASE, "Flat", metric=metric)
    with pytest.raises(NonFiniteError, match=r"vectors: row 7 is .* long"):
        index.add(rows[70:])
    with pytest.raises(NonFiniteError, match=r"queries: row 0 is .* long"):
        index.search(rows[77])
    with pytest.raises(NonFiniteError, match=r"queries: row 1 is .* long"):
        index.range_search(rows[76:78], 1.0)
    assert len(index) == N
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(NonFiniteError, match="row 2 "):
            index.add(np.where(np.arange(4)[:, None] == 2, np.float32(3e38), BASE[:4]))


@pytest.mark.parametrize("row", [0, 17, 1999, 2900])
@pytest.mark.parametrize("given", ["array", "stream", "sampled"])
@pytest.mark.parametrize(
    ("metric", "value", "error"),
    [("ip", np.nan, NonFiniteError), ("l2", 1e30, NonFiniteError), ("cosine", 0, ZeroVectorError)],
)
def test_the_first_bad_row_is_named_by_its_place_in_the_whole(metric, value, error, given, row, monkeypatch, tmp_path):
    monkeypatch.setattr(building, "_BATCH_BYTES", 4 * D * 100)
    rows = np.tile(BASE, (25, 1))
    rows[row] = value
    rows[2950] = value
    vectors = (rows[start : start + 130] for start in range(0, 3000, 130)) if given == "stream" else rows
    with pytest.raises(error, match=f"row {row} "):
        annvq.build(vectors, "PQ2x4", metric=metric, train=2000 if given == "sampled" else None, path=tmp_path / "i")
    assert not list(tmp_path.glob("i/*.annvq"))


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("words", [False, True], ids=["int", "str"])
def test_a_hundred_equal_vectors_come_in_the_order_of_their_ids(kind, words):
    rows = np.concatenate([np.tile(BASE[:1], (100, 1)), BASE[1:]])
    numbers = np.random.default_rng(5).permutation(len(rows)) * 3 - 40
    numbers[numbers == -1] = 10_000
    ids = [f"{number}" for number in numbers] if words else numbers
    wanted = sorted(ids[:100]) if words else np.sort(ids[:100]).tolist()
    for metric in ("ip", "l2"):
        index = annvq.build(rows[:50], ALL[kind], ids=ids[:50], metric=metric, train=BASE)
        index.add(rows[50:], ids[50:])
        equal = index.search(BASE[0], 100, nprobe=3, rerank=300, filter=ids[:100])
        assert equal.ids[0].tolist() == wanted
        assert len(set(equal.scores[0].tolist())) == 1
        assert index.search(BASE[0], 10, nprobe=3, filter=ids[:100]).ids[0].tolist() == wanted[:10]
        index.compact()
        assert index.search(BASE[0], 100, nprobe=3, rerank=300, filter=ids[:100]).ids[0].tolist() == wanted


@pytest.mark.parametrize("dim", [1, 2, 3, 17, 65])
@pytest.mark.parametrize("kind", ALL)
def test_any_dimension_will_do(kind, dim, tmp_path):
    rows = np.random.default_rng(dim).normal(size=(80, dim)).astype(np.float32)
    recipe = ALL[kind]
    if recipe.codebook.kind == "pq" and recipe.codebook.M > dim:
        with pytest.raises(annvq.errors.RecipeError, match=f"d = {dim}"):
            annvq.build(rows, recipe)
        return
    for metric in ("ip", "l2"):
        index = annvq.build(rows, recipe, metric=metric)
        index.add(rows[:7] * 2)
        index.save(tmp_path / metric)
        with annvq.open(tmp_path / metric) as opened:
            opened.verify()
            before, after = index.search(rows, 9), opened.search(rows, 9)
            assert before.ids.tolist() == after.ids.tolist()
            assert before.scores.tobytes() == after.scores.tobytes()
            assert np.isfinite(after.scores).all()
            assert opened.reconstruct([3, 80]).shape == (2, dim)
        with pytest.raises(ShapeError, match=rf"{dim + 1}.*{dim}"):
            index.search(np.zeros(dim + 1, np.float32))


# Types and layouts


def big_endian(x):
    return x.astype(x.dtype.newbyteorder(">"))


def wider(x):
    return np.repeat(x, 2, axis=1)[:, ::2]


def frozen(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def unaligned(x):
    raw = np.zeros(x.nbytes + 1, np.uint8)
    view = raw[1:].view(x.dtype).reshape(x.shape)
    view[:] = x
    return view


def torch_tensor(x):
    return pytest.importorskip("torch").from_numpy(x.copy())


def torch_transposed(x):
    return pytest.importorskip("torch").from_numpy(x.T.copy()).T


def arrow_lists(x):
    return pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), x.shape[1])


def of_dtype(dtype):
    return lambda x: np.clip(x * 30, 0 if dtype == np.uint8 else -128, 127).astype(dtype)


FORMS = {
    "fortran": np.asfortranarray,
    "every other": lambda x: np.repeat(x, 2, axis=0)[::2],
    "wider rows": wider,
    "backwards": lambda x: x[::-1].copy()[::-1],
    "mirrored": lambda x: x[:, ::-1].copy()[:, ::-1],
    "read-only": frozen,
    "unaligned": unaligned,
    "big-endian": big_endian,
    "float64": lambda x: x.astype(np.float64),
    "big-endian float64": lambda x: big_endian(x.astype(np.float64)),
    "float16": lambda x: x.astype(np.float16),
    "big-endian float16": lambda x: big_endian(x.astype(np.float16)),
    "int8": of_dtype(np.int8),
    "uint8": of_dtype(np.uint8),
    "torch": torch_tensor,
    "torch transposed": torch_transposed,
    "torch bfloat16": lambda x: torch_tensor(x).bfloat16(),
    "torch float16": lambda x: torch_tensor(x).half(),
    "arrow": arrow_lists,
    "lists": lambda x: x.tolist(),
}


def plain(given):
    """Return the float32 C copy of vectors in any form."""
    if isinstance(given, pa.Array):
        return np.array(given.to_pylist(), np.float32)
    if hasattr(given, "float"):
        return given.float().numpy().copy()
    return np.array(given, np.float32, order="C")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["fp32", "pq4", "rabitq"])
def test_every_form_of_vectors_gives_what_its_float32_copy_gives(kind, form, tmp_path):
    rows, queries, more = (FORMS[form](x) for x in (BASE, QUERIES, BASE[:9] * np.float32(1.5)))
    before = [plain(x).tobytes() for x in (rows, queries, more)]
    # Of integers, a refine store of 8 bits would learn other steps: it keeps them without loss.
    train = plain(rows) if kind == "pq4" else rows
    index = annvq.build(rows, RECIPES[kind], metric="l2", train=train)
    index.add(more)
    same = annvq.build(plain(rows), RECIPES[kind], metric="l2", train=plain(rows))
    same.add(plain(more))
    hits, wanted = index.search(queries, 12), same.search(plain(queries), 12)
    assert hits.ids.tolist() == wanted.ids.tolist()
    assert hits.scores.tobytes() == wanted.scores.tobytes()
    assert [plain(x).tobytes() for x in (rows, queries, more)] == before


@pytest.mark.parametrize(
    "wrong",
    [
        BASE.astype(np.complex64),
        BASE.astype(np.int64),
        BASE > 0,
        BASE.astype(object),
        BASE.astype(str),
        BASE.astype("datetime64[s]"),
        np.ma.masked_array(BASE, BASE > 1),
        "vectors",
        3.0,
        {"vectors": BASE},
    ],
    ids=lambda wrong: str(getattr(wrong, "dtype", type(wrong).__name__)),
)
def test_other_types_are_refused(wrong):
    index = annvq.build(BASE, "Flat")
    for call in (annvq.build, index.add, index.search):
        with pytest.raises(DtypeError):
            call(wrong)


@pytest.mark.parametrize("kind", ALL)
def test_an_index_shares_no_memory_with_what_goes_in_and_comes_out(kind):
    rows, queries, ids = BASE.copy(), QUERIES.copy(), np.arange(N) * 2
    years = np.arange(N)
    index = annvq.build(rows, ALL[kind], ids=ids, attributes={"year": years}, train=rows)
    wanted = annvq.build(BASE, ALL[kind], ids=np.arange(N) * 2).search(QUERIES, 12)
    for given in (rows, ids, years):
        given[:] = 1
    for _ in range(2):
        hits = index.search(queries, 12)
        assert hits.ids.tolist() == wanted.ids.tolist()
        assert hits.scores.tobytes() == wanted.scores.tobytes()
        near = index.range_search(queries, 0.1)
        vectors = index.reconstruct([2, 4])
        for out in (hits.ids, hits.scores, near.ids, near.scores, near.offsets, vectors):
            out[:] = -7
    more, new_ids = BASE[:5].copy(), np.arange(5) + 1000
    index.add(more, new_ids, {"year": years[:5]})
    kept = index.search(BASE[:5], 3)
    more[:], new_ids[:] = 0, 0
    assert index.search(BASE[:5], 3).ids.tolist() == kept.ids.tolist()


@pytest.mark.parametrize("kind", ["fp32", "pq4", "rabitq"])
def test_a_large_k_takes_no_more_memory_than_its_result(kind):
    index, k = annvq.build(BASE, ALL[kind]), 2_000_000
    wanted = index.search(QUERIES[0], N, nprobe=3)
    tracemalloc.start()
    try:
        hits = index.search(QUERIES[0], k)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.3 * (hits.ids.nbytes + hits.scores.nbytes)
    assert hits.ids[0, :N].tolist() == wanted.ids[0].tolist()
    assert (hits.ids[0, N:] == -1).all()
    assert (hits.scores[0, N:] == -np.inf).all()
