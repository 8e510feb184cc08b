"""What txtai's own tests ask of its indexes, asked of annvq's, and the whole of txtai over it."""

import numpy as np
import pytest

pytest.importorskip("txtai")

from txtai import Embeddings
from txtai.ann import ANN, ANNFactory

from annvq.integrations.txtai import Annvq

BACKEND = "annvq.integrations.txtai.Annvq"
N, D = 10_000, 240
rng = np.random.default_rng(0)


def normalized(n, d=D):
    rows = rng.random((n, d), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def embed(texts):
    return np.stack([np.random.default_rng(list(text.encode())).normal(size=64) for text in texts])


QUERY = normalized(1)


def built(n=N, **settings):
    model = ANNFactory.create({"backend": BACKEND, "dimensions": D, BACKEND: settings})
    model.index(normalized(n))
    return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("ann") / "embeddings")
    model = built(recipe="fast")
    model.save(path)
    return model.config, path, model.search(QUERY, 10)


@pytest.fixture
def model(saved):
    config, path, _ = saved
    model = ANNFactory.create(dict(config))
    model.load(path)
    yield model
    model.close()


def test_the_class_path_is_resolved(model):
    assert isinstance(model, Annvq)
    assert isinstance(model, ANN)
    assert model.config["backend"] == BACKEND
    assert model.config["build"]["settings"] == {"recipe": "fast"}
    assert model.config["offset"] == N


def test_what_was_saved_is_loaded(saved, model):
    assert model.count() == N
    assert model.search(QUERY, 10) == saved[2]


def test_a_model_is_closed_and_loaded_again(saved, model):
    model.close()
    assert model.backend is None
    model.close()
    model.load(saved[1])
    assert model.search(QUERY, 1)[0][0][1] > 0


def test_vectors_are_appended(model):
    rows = normalized(500)
    model.append(rows)
    assert model.count() == N + 500
    assert model.config["offset"] == N + 500
    assert "update" in model.config
    assert model.search(rows[7:8], 1)[0][0][0] == N + 7
    model.delete([N + 499])
    model.append(rows[:1])
    assert model.config["offset"] == N + 501
    assert {found for found, _ in model.search(rows[:1], 2)[0]} == {N, N + 500}


def test_vectors_are_deleted(model):
    model.delete([0, 1])
    assert model.count() == N - 2
    model.delete([100_000])
    model.delete([])
    model.delete([-1])
    assert model.count() == N - 2


def test_ids_to_delete_may_be_an_array():
    model = built(10)
    model.delete(np.array([3, 4]))
    assert model.count() == 8
    assert sorted(found for found, _ in model.search(QUERY, 10)[0]) == [0, 1, 2, 5, 6, 7, 8, 9]


def test_scores_are_cosines_in_descending_order():
    rows = normalized(50)
    model = ANNFactory.create({"backend": BACKEND, "dimensions": D})
    model.index(rows)
    (found,) = model.search(QUERY, 100)  # of more than there are, all
    assert len(found) == 50
    ids, scores = zip(*found)
    np.testing.assert_allclose(scores, (rows @ QUERY[0])[list(ids)], rtol=1e-5)
    assert list(scores) == sorted(scores, reverse=True)
    assert all(type(one) is int for one in ids)
    assert all(type(one) is float for one in scores)


def test_loading_changes_no_folder_and_saving_goes_elsewhere(saved, model, tmp_path):
    model.append(normalized(5))
    model.delete([3])
    model.save(str(tmp_path / "other"))
    again = ANNFactory.create(dict(model.config))
    again.load(saved[1])
    assert again.count() == N
    again.load(str(tmp_path / "other"))
    assert again.count() == N + 4
    again.append(normalized(1))
    again.save(str(tmp_path / "other"))  # in its own place
    again.load(str(tmp_path / "other"))
    assert again.count() == N + 5


def test_settings_stand_under_the_class_path():
    wide, narrow = built(recipe="IVF64,Flat", nprobe=64), built(recipe="IVF64,Flat", nprobe=1)
    assert wide.backend.recipe.nlist == 64
    rows = np.stack([row for row in wide.backend.reconstruct(np.arange(N))])
    best = np.argsort(-(rows @ QUERY[0]), kind="stable")[:10]
    assert [found for found, _ in wide.search(QUERY, 10)[0]] == best.tolist()
    assert wide.search(QUERY, 10) != narrow.search(QUERY, 10)


@pytest.mark.parametrize("quantize", [None, True, 1, 4])
def test_answers_are_those_of_txtais_exact_search(quantize):
    found = []
    for backend in (BACKEND, "numpy"):
        texts = Embeddings(method="external", transform=embed, backend=backend, quantize=quantize)
        texts.index([(i, f"text {i}", None) for i in range(500)])
        texts.delete([3])
        found += [[texts.search(f"text {i}", 10) for i in range(20)]]
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose([score for _, score in ours], [score for _, score in theirs], rtol=1e-5)
        last = theirs[-1][1] + 1e-6  # of vectors as close as the last one, either may be left out
        assert {label for label, score in ours if score > last} == {label for label, score in theirs if score > last}


def test_what_is_no_index_is_refused():
    for name in ("annvq.integrations.txtai.no", "annvq.build"):
        with pytest.raises(ImportError):
            ANNFactory.create({"backend": name})


# The whole of txtai


@pytest.mark.parametrize("name", ["folder", "archive.tar.gz", "archive.zip"])
@pytest.mark.parametrize("content", [False, True])
def test_texts_are_indexed_searched_changed_and_kept(tmp_path, name, content):
    texts = Embeddings(method="external", transform=embed, backend=BACKEND, content=content)

    def best(text):
        (found,) = texts.search(text, 1)
        return int(found["id"] if content else found[0])

    texts.index([(i, f"text {i}", None) for i in range(300)])
    assert best("text 7") == 7
    texts.upsert([(300, "text new", None), (5, "five", None)])
    texts.delete([7])
    assert texts.count() == 300
    assert best("text new") == 300
    assert best("five") == 5
    assert best("text 7") != 7
    if content:
        texts.config.pop("transform")  # which a configuration on disk cannot hold
    texts.save(str(tmp_path / name))
    texts = Embeddings().load(str(tmp_path / name), config={"transform": embed})
    assert texts.count() == 300
    assert best("five") == 5
    texts.upsert([(301, "later", None)])
    assert best("later") == 301
    texts.save(str(tmp_path / name))
    texts = Embeddings().load(str(tmp_path / name), config={"transform": embed})
    assert (texts.count(), best("later")) == (301, 301)
