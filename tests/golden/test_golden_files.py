"""Every version reads the files of every kind that any version wrote, and answers as it did."""

import shutil

import golden_files as golden
import numpy as np
import pytest

import annvq
from annvq import codebooks
from annvq.multivector import MultiVectorIndex
from annvq.tables.frozen.kinds import KINDS
from annvq.tables.registry import METHODS

VERSIONS = sorted(path.name for path in golden.FOLDER.iterdir() if (path / "indexes").is_dir())


@pytest.fixture(params=VERSIONS)
def version(request):
    return golden.FOLDER / request.param


def answered(folder):
    """Return what the version that wrote a kind's files answered, by name."""
    found: dict[str, dict[str, np.ndarray]] = {}
    with np.load(folder / "answers.npz") as stored:
        for path in stored.files:
            name, _, key = path.partition("/")
            found.setdefault(name, {})[key] = stored[path]
    return found


def check(found, expected, name):
    """Compare answers: whole numbers and text are the same, floats to the last digits of float32."""
    assert found.keys() == expected.keys(), name
    for key, value in expected.items():
        if value.dtype.kind == "f":
            np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-5, err_msg=f"{name} {key}")
        else:
            np.testing.assert_array_equal(found[key], value, err_msg=f"{name} {key}")


@pytest.mark.parametrize("name", golden.INDEXES)
def test_indexes(version, name, tmp_path):
    expected = answered(version / "indexes")[name]
    with annvq.open(version / "indexes" / name) as opened:
        opened.verify()
        assert len(opened) == golden.N - 20
        check(golden.hits_of(opened), expected, name)
    copy = tmp_path / "copy"
    shutil.copytree(version / "indexes" / name, copy)
    with annvq.open(copy, mode="rw") as opened:  # what goes through the writers stays what it was
        opened.compact()
        opened.verify()
    with annvq.open(copy) as opened:
        check(golden.hits_of(opened), expected, name)


@pytest.mark.parametrize("name", golden.MULTIVECTOR)
def test_multivector_indexes(version, name):
    with MultiVectorIndex.open(version / "multivector" / name) as opened:
        opened.verify()
        check(golden.multivector_hits(opened), answered(version / "multivector")[name], name)


def test_codebooks(version):
    expected = answered(version / "codebooks")
    for name, answers in expected.items():
        check(golden.codebook_answers(codebooks.open(version / "codebooks" / f"{name}.annvq")), answers, name)
    classes = {type(codebooks.open(path)) for path in (version / "codebooks").glob("*.annvq")}
    assert classes == set(codebooks.persistence.CLASSES.values())


def test_tables(version):
    pytest.importorskip("safetensors")
    from annvq import tables

    kinds = set()
    for name, answers in answered(version / "tables").items():
        opened = tables.open(version / "tables" / f"{name}.table")
        assert (opened.method, opened.padding_idx) == (name, 3)
        check({"rows": opened(np.arange(golden.ROWS))}, answers, name)
        kinds.add(opened.form.kind)
    assert kinds == set(KINDS)


@pytest.mark.parametrize("method", METHODS)
def test_states_of_tables(version, method):
    pytest.importorskip("torch")
    load_file = pytest.importorskip("safetensors.torch").load_file
    table = golden.made_table(method)
    table.load_state_dict(load_file(version / "tables" / f"{method}.state"))
    check({"rows": table.freeze()(np.arange(golden.ROWS))}, answered(version / "tables")[method], method)


def test_tokenizers(version):
    pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    from annvq.tokenizers import load_weights, read_codes

    makers = golden.tokenizer_makers()
    for name, answers in answered(version / "tokenizers").items():
        tokenizer = makers[name]()
        if name == "k-means":
            tokenizer.fit(np.random.default_rng(1).normal(size=(200, golden.WIDTH)))
        load_weights(version / "tokenizers" / f"{name}.safetensors", tokenizer)
        check(golden.token_answers(tokenizer.eval()), answers, name)
    for name, masked in (("plain", True), ("packed", False)):
        batches = list(read_codes(version / "tokenizers" / f"codes-{name}.arrow"))
        assert len(batches) == 2
        for batch in batches:
            np.testing.assert_array_equal(batch.numpy(), golden.some_codes(300, masked).numpy())


def test_this_version_has_its_files():
    assert annvq.__version__ in VERSIONS, "run: python tests/golden/golden_files.py"
    for version in VERSIONS:
        for kind in golden.KINDS:
            assert (golden.FOLDER / version / kind / "answers.npz").exists()
        size = sum(path.stat().st_size for path in (golden.FOLDER / version).rglob("*") if path.is_file())
        assert size < 800_000
