"""Paths that users give: ``~`` is the home folder, what looks like a URL makes no local folder of that name."""

import ast
import os
from pathlib import Path

import numpy as np
import pytest

import annvq
from annvq import cli, codebooks, io
from annvq.arguments import as_path
from annvq.cli.__main__ import main
from annvq.errors import ParameterError, RecipeError
from annvq.evaluation import beir, embeddings, tokens
from annvq.index import recipe as recipes
from annvq.multivector import MultiVectorIndex
from annvq.multivector import recipe as multivector_recipes
from annvq.storage import read_container, write_container

ROWS = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
URLS = [
    "s3://bucket/x", "gs://b/x", "http://host/x", "https://h:80/x", "file:///x", "memory://x", "az://b/x", "S3://B/x",
    "git+ssh://host/x", "s3:/bucket/x",
]  # fmt: skip


def tokenizer_doors():
    torch = pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    import annvq.tables
    from annvq.tokenizers import weights
    from annvq.tokenizers.codes import arrow

    module = torch.nn.Linear(2, 2)
    return {
        "table": annvq.tables.INT8(5, 4).export,
        "table read": annvq.tables.open,
        "weights": lambda path: weights.save_weights(path, module),
        "weights read": lambda path: weights.load_weights(path, module),
        "codes": lambda path: arrow.write_codes(path, [torch.zeros(3, 2, dtype=torch.int64)], 8),
        "codes read": lambda path: list(arrow.read_codes(path)),
    }


DOORS = {
    "save": lambda path: annvq.build(ROWS, "Flat").save(path),
    "build": lambda path: annvq.build(ROWS, "Flat", path=path),
    "open": annvq.open,
    "documents": lambda path: MultiVectorIndex.build([ROWS], path=path),
    "documents read": MultiVectorIndex.open,
    "vectors": lambda path: io.write(f"{path}.npy", ROWS),
    "vectors read": lambda path: io.read(f"{path}.npy"),
    "ann dataset": lambda path: io.read_ann_dataset(f"{path}.npz"),
    "codebook": lambda path: codebooks.save(path, codebooks.ScalarCodebook.train(ROWS)),
    "codebook read": codebooks.open,
    "container": lambda path: write_container(path, "x", {}),
    "container read": read_container,
    "recipe": lambda path: recipes.load(f"{path}.toml"),
    "multi-vector recipe": lambda path: multivector_recipes.load(f"{path}.toml"),
    "texts": lambda path: beir.BeirDataset.read(path, "test"),
    "embeddings": lambda path: embeddings.cached_embeddings(path, "no model", {"a": "b"}, "query"),
    "tokens": lambda path: tokens.cached_tokens(path, "no model", {"a": "b"}, "query"),
}


@pytest.mark.parametrize("form", [str, Path])
@pytest.mark.parametrize("name", DOORS)
def test_no_door_takes_a_url(tmp_path, monkeypatch, name, form):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(embeddings, "load_model", lambda name: pytest.fail("the folder is looked at first"))
    given = form("s3://bucket/x")
    with pytest.raises((ParameterError, RecipeError), match="looks like a URL"):
        DOORS[name](given)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("url", URLS)
def test_doors_of_tables_and_tokenizers_take_no_url(tmp_path, monkeypatch, url):
    monkeypatch.chdir(tmp_path)
    for door in tokenizer_doors().values():
        with pytest.raises(ParameterError, match="looks like a URL"):
            door(url)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("url", URLS)
def test_urls_of_every_kind_are_known(url):
    for given in (url, Path(url)):
        with pytest.raises(ParameterError, match="local files only"):
            as_path(given)


def test_what_only_resembles_a_url_is_a_path(tmp_path):
    for given in ("a:b", "x/s3://y", "./s3:x", "C:/index", "1:/x", str(tmp_path / "s3:" / "x"), "host:folder/x"):
        assert as_path(given) == Path(given)


def test_the_home_folder_is_meant_by_a_tilde(tmp_path, monkeypatch):
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    assert as_path("~") == as_path(Path("~")) == home
    assert as_path(Path("~/a/b")) == home / "a" / "b"
    assert as_path("a/~") == Path("a/~")
    assert as_path("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x"), "as shells do"
    annvq.build(ROWS, "Flat").save("~/index")
    with annvq.open("~/index") as index:
        assert index.stats()["path"] == str(home / "index")
    io.write("~/x.npy", ROWS)
    (home / "r.toml").write_text(recipes.load("SQ8").to_toml())
    assert recipes.load("~/r.toml") == recipes.load(home / "r.toml")
    assert sorted(os.listdir(home)) == ["index", "r.toml", "x.npy"]
    assert os.listdir(here) == []


def test_an_empty_path_is_not_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for use in (as_path, annvq.build(ROWS, "Flat").save, annvq.open):
        with pytest.raises(ParameterError, match="must not be empty"):
            use("")
    assert os.listdir(tmp_path) == []


def test_a_home_that_is_not_known_is_said_to_be_so(monkeypatch):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    for given in ("~", "~/x"):
        with pytest.raises(ParameterError, match="home folder"):
            as_path(given)


# The command line


def test_every_path_of_the_command_line_goes_through_the_door():
    parsed = 0
    for source in Path(cli.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Annotated":
                kind, option = node.slice.elts
                if "Path" in ast.unparse(kind):
                    given = {keyword.arg: ast.unparse(keyword.value) for keyword in option.keywords}
                    assert given.get("parser") == "local_path", f"{source.name}, line {node.lineno}"
                    parsed += 1
    assert parsed >= 17


@pytest.mark.parametrize(
    "line",
    [
        "build s3://b/x.npy -o out",
        "build x.npy -o s3://b/x",
        "search s3://b/x q.npy",
        "search x q.npy -o s3://b/x.parquet",
        "info s3://b/x",
        "bench ann x.hdf5 --json gs://b/x.json",
        "bench beir x --model m --out gs://b/x",
        "demo --out http://x/y",
    ],
)
def test_the_command_line_refuses_urls(tmp_path, monkeypatch, capsys, line):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    assert ended.value.code == 2
    assert "URL" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_the_command_line_knows_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", ROWS)
    with pytest.raises(SystemExit) as ended:
        main(["build", "~/x.npy", "--out=~/index", "--recipe", "Flat"])
    assert not ended.value.code
    assert sorted(os.listdir(tmp_path)) == ["index", "x.npy"]
