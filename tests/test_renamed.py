"""Former names: each does what the present one does, and says so."""

import inspect
import warnings

import numpy as np
import pytest

import annvq
from annvq import codebooks
from annvq.errors import ParameterError
from annvq.evaluation import BeirDataset
from annvq.renamed import former_keywords

VECTORS = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)


@former_keywords(bits="nbits", old="new")
def doubled(nbits=1, *, new=0):
    return 2 * nbits + new


def test_former_keywords_are_taken_and_warn_at_the_caller():
    with pytest.warns(DeprecationWarning, match="parameter bits is called nbits now") as caught:
        assert doubled(bits=4) == 8
    assert caught[0].filename == __file__
    with pytest.warns(DeprecationWarning, match="old is called new"):
        assert doubled(3, old=1) == 7
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert doubled(4, new=2) == doubled(nbits=4, new=2) == 10
    assert list(inspect.signature(doubled).parameters) == ["nbits", "new"]


def test_a_parameter_given_by_both_names_is_refused():
    with pytest.raises(ParameterError, match="nbits and bits are the same parameter"):
        doubled(nbits=4, bits=4)


def test_codebooks_load_is_open(tmp_path):
    codebooks.save(tmp_path / "codebook", codebooks.ScalarCodebook.train(VECTORS))
    with pytest.warns(DeprecationWarning, match="annvq.codebooks.load is called open now") as caught:
        load = annvq.codebooks.load
    assert caught[0].filename == __file__
    assert type(load(tmp_path / "codebook")) is codebooks.ScalarCodebook
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = codebooks.nothing


def test_data_sets_are_read(tmp_path):
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d", "title": "", "text": "wing"}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "wings"}\n')
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\td\t1\n")
    with pytest.warns(DeprecationWarning, match="BeirDataset.load is called read now") as caught:
        assert BeirDataset.load(tmp_path) == BeirDataset.read(tmp_path)
    assert caught[0].filename == __file__


def test_bits_of_a_codebook_are_nbits():
    now = codebooks.RaBitQCodebook.train(VECTORS, nbits=3)
    with pytest.warns(DeprecationWarning, match="bits is called nbits") as caught:
        trained = codebooks.RaBitQCodebook.train(VECTORS, bits=3)
    assert caught[0].filename == __file__
    with pytest.warns(DeprecationWarning, match="bits is called nbits"):
        made = codebooks.RaBitQCodebook(dim=8, bits=3, signs=now.signs)
    for each in (trained, made):
        assert each.config() == now.config() == {"dim": 8, "bits": 3}  # as files have it
    with pytest.warns(DeprecationWarning, match="RaBitQCodebook.bits is called nbits"):
        assert made.bits == 3


def test_bits_of_a_table_are_nbits():
    pytest.importorskip("torch")
    with pytest.warns(DeprecationWarning, match="bits is called nbits") as caught:
        former = annvq.tables.ALPT(50, 8, bits=16)
    assert caught[0].filename == __file__
    assert former.nbytes == annvq.tables.ALPT(50, 8, nbits=16).nbytes
    assert "nbits" in inspect.signature(annvq.tables.ALPT).parameters


def test_indexes_of_codes_state_their_metric():
    torch = pytest.importorskip("torch")
    from annvq import tokenizers

    tokenizer = tokenizers.FSQ(4, 16)
    codes = tokenizer.encode(torch.zeros(5, 3, 4))
    table = annvq.tables.compress(torch.nn.Embedding.from_pretrained(torch.tensor(VECTORS)), "RaBitQ", ratio=1.2)
    with pytest.warns(DeprecationWarning, match="state the metric: 'l2' will not be its default") as caught:
        assert tokenizers.to_index(tokenizer, codes).metric == "l2"
    assert caught[0].filename == __file__
    with pytest.warns(DeprecationWarning, match="state the metric: 'ip' will not be its default") as caught:
        assert table.to_index().metric == "ip"
    assert caught[0].filename == __file__


def test_methods_of_two_packages_have_names_of_their_own():
    pytest.importorskip("torch")
    from annvq import learn
    from annvq.tables import method, table

    with pytest.warns(DeprecationWarning, match="annvq.learn.METHODS is called LEARNING_METHODS now"):
        assert learn.METHODS is learn.LEARNING_METHODS
    with pytest.warns(DeprecationWarning, match="annvq.tables.method.Method is called TableMethod now"):
        assert method.Method is method.TableMethod
    with pytest.warns(DeprecationWarning, match="array_of is called inference_array now"):
        assert table.array_of is table.inference_array
