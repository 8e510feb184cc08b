"""Search by codes alone gives what comparing all decoded items gives."""

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from all_tokenizers import DIM, MAKERS

import annvq
from annvq.errors import ParameterError, ShapeError
from annvq.tokenizers import FSQ, HierarchicalVQ, LatentQuantizer, ResidualVQ, VectorQuantizer, to_index

SEARCHED = [name for name in MAKERS if name != "one-code"]


def trained(name):
    torch.manual_seed(0)
    quantizer = MAKERS[name]()
    for _ in range(3):
        quantizer(torch.randn(64, DIM))
    return quantizer.eval()


@pytest.mark.parametrize("metric", ["l2", "ip"])
@pytest.mark.parametrize("name", SEARCHED)
def test_hits_are_those_of_brute_force(name, metric):
    quantizer = trained(name)
    z = torch.randn(40, 3, DIM)
    codes = quantizer.encode(z)
    items = quantizer.decode(codes).flatten(1).detach().double().numpy()
    index = to_index(quantizer, codes, metric)
    queries = torch.randn(5, 3, DIM).flatten(1).numpy()
    hits = index.search(queries, k=7)
    if metric == "ip":
        scores = queries.astype(np.float64) @ items.T
    else:
        scores = -np.square(queries[:, None].astype(np.float64) - items).sum(2)
    best = -np.sort(-scores, 1)[:, :7]
    np.testing.assert_allclose(np.take_along_axis(scores, hits.ids, 1), best, rtol=1e-3, atol=2e-3)
    np.testing.assert_allclose(hits.scores, best, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("name", SEARCHED)
def test_tables_add_up_to_vectors(name):
    quantizer = trained(name)
    codes = quantizer.encode(torch.randn(30, DIM))
    columns, tables = quantizer.code_columns(codes), quantizer.column_tables()
    assert columns.shape == (30, len(tables))
    assert max(len(table) for table in tables) <= quantizer.column_size
    total = sum(table[column] for table, column in zip(tables, columns.T))
    torch.testing.assert_close(total, quantizer.decode(codes), rtol=1e-5, atol=1e-5)


def test_codes_are_kept_packed_and_an_index_is_an_index(tmp_path):
    quantizer = VectorQuantizer(DIM, 16).eval()
    codes = quantizer.encode(torch.randn(100, 6, DIM))
    index = to_index(quantizer, codes, "l2", ids=[f"image-{i}" for i in range(100)])
    assert index.stats()["bytes_per_vector"] <= 4  # six codes of four bits, padded to eight
    query = quantizer.decode(codes[17:18]).flatten(1).numpy()
    assert index.search(query, k=1).scores[0, 0] == pytest.approx(0, abs=1e-4)
    index.save(tmp_path / "index")
    with annvq.open(tmp_path / "index") as opened:
        opened.verify()
        np.testing.assert_array_equal(opened.search(query, k=5).ids, index.search(query, k=5).ids)


def test_levels_of_a_grid_are_searched():
    torch.manual_seed(0)
    quantizer = HierarchicalVQ(3, 16, axes=1).eval()
    codes = quantizer.encode(torch.randn(50, 4, 3))
    items = quantizer.decode(codes).flatten(1).numpy()
    hits = to_index(quantizer, codes, "l2").search(items[:5], k=1)
    np.testing.assert_allclose(hits.scores, 0, atol=1e-4)


def test_many_codes_of_independent_digits_are_searched():
    quantizer = FSQ(4, levels=[8, 8, 8, 8])
    codes = quantizer.encode(torch.randn(30, 4))
    index = to_index(quantizer, codes, "l2")
    assert index.stats()["bytes_per_vector"] <= 2
    hits = index.search(quantizer.decode(codes).numpy(), k=1)
    np.testing.assert_allclose(hits.scores, 0, atol=1e-5)


def test_what_cannot_be_searched_says_so():
    quantizer = VectorQuantizer(DIM, 512)
    codes = torch.zeros(4, 3, dtype=torch.int64)
    with pytest.raises(ParameterError, match="512 codes a codebook"):
        to_index(quantizer, codes, "l2")
    with pytest.raises(ParameterError, match="512"):
        to_index(LatentQuantizer(DIM, 512), torch.zeros(4, DIM, dtype=torch.int64), "l2")
    small = VectorQuantizer(DIM, 16)
    with pytest.raises(ParameterError, match="metric"):
        to_index(small, codes, "cosine")
    with pytest.raises(ParameterError, match="-1"):
        to_index(small, codes - 1, "l2")
    with pytest.raises(ShapeError):
        to_index(small, codes[:0], "l2")
    with pytest.raises(ParameterError, match="GiB"):
        to_index(ResidualVQ(64, 256, 4), torch.zeros(2, 65, 4, dtype=torch.int64), "l2")
