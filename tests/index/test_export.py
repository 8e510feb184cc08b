"""Rows of an index as Arrow record batches."""

import numpy as np
import pyarrow.compute as pc
import pytest

import annvq
from annvq.errors import StateError


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("recipe", ["flat", "IVF4,SQ8"])
def test_rows_come_out_as_they_went_in(recipe, rng):
    vectors = rng.normal(size=(100, 8)).astype(np.float32)
    index = annvq.build(vectors, recipe, ids=[f"d{i}" for i in range(100)], attributes={"x": list(range(100))})
    index.add(vectors[:3] + 1, ids=["a", "b", "c"], attributes={"y": ["new"] * 3})
    index.remove(["d3", "b"])
    table = index.to_arrow().read_all()
    ids = [f"d{i}" for i in range(100) if i != 3] + ["a", "c"]
    assert table.column_names == ["id", "vector", "x", "y"]
    assert table["id"].to_pylist() == ids
    assert np.array_equal(np.array(table["vector"].to_pylist(), np.float32), index.reconstruct(ids))
    assert table["x"].to_pylist()[-3:] == [99, None, None]
    assert table["y"].to_pylist()[-3:] == [None, "new", "new"]
    few = index.to_arrow(filter=pc.field("x") >= 98, vectors=False).read_all()
    assert few.to_pylist() == [{"id": "d98", "x": 98, "y": None}, {"id": "d99", "x": 99, "y": None}]


def test_rows_are_those_of_when_they_were_asked_for(rng):
    index = annvq.build(rng.normal(size=(10, 8)).astype(np.float32), "flat")
    rows = index.to_arrow(vectors=False)
    index.remove([0, 1])
    assert rows.read_all()["id"].to_pylist() == list(range(10))


def test_no_rows_are_a_table_without_rows(rng):
    index = annvq.build(rng.normal(size=(2, 8)).astype(np.float32), "flat")
    index.remove([0, 1])
    assert index.to_arrow().read_all().num_rows == 0


def test_attributes_with_names_of_other_columns_are_refused(rng):
    index = annvq.build(rng.normal(size=(2, 8)).astype(np.float32), "flat", attributes={"vector": [1, 2]})
    with pytest.raises(StateError, match="attribute 'vector'"):
        index.to_arrow()
    assert index.to_arrow(vectors=False).read_all()["vector"].to_pylist() == [1, 2]
