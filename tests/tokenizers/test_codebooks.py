"""Tokenizers to and from `annvq.codebooks`, k-means tokens, and shrunk codebooks."""

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from annvq import codebooks
from annvq.codebooks import KMeans, ProductCodebook, ResidualCodebook
from annvq.errors import ParameterError, ShapeError, StateError
from annvq.tokenizers import (
    FSQ,
    IBQ,
    FactorizedVQ,
    Gradient,
    GroupedResidualVQ,
    KMeansTokenizer,
    Learning,
    LowRankVQ,
    ProductVQ,
    ResidualVQ,
    SimVQ,
    VectorQuantizer,
    shrink_codebook,
)


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(0).normal(size=(700, 12)).astype(np.float32)


def test_a_product_codebook_starts_a_tokenizer(vectors, tmp_path):
    codebook = ProductCodebook.train(vectors, M=4, nbits=4, niter=4)
    tokenizer = ProductVQ.from_codebook(codebook).eval()
    codes = tokenizer.encode(torch.from_numpy(vectors))
    np.testing.assert_array_equal(codes.numpy(), codebook.encode(vectors))
    np.testing.assert_array_equal(tokenizer.decode(codes).numpy(), codebook.decode(codebook.encode(vectors)))
    back = tokenizer.to_codebook()
    np.testing.assert_array_equal(back.codebooks, codebook.codebooks)
    codebooks.save(tmp_path / "codebook", back)
    np.testing.assert_array_equal(codebooks.open(tmp_path / "codebook").codebooks, codebook.codebooks)


def test_a_residual_codebook_starts_a_tokenizer(vectors):
    codebook = ResidualCodebook.train(vectors, M=3, nbits=4, niter=4, beam=1)
    tokenizer = ResidualVQ.from_codebook(codebook, Learning(update=Gradient())).eval()
    codes = tokenizer.encode(torch.from_numpy(vectors))
    np.testing.assert_array_equal(codes.numpy(), codebook.encode(vectors))
    decoded = codebook.decode(codebook.encode(vectors))
    np.testing.assert_allclose(tokenizer.decode(codes).detach().numpy(), decoded, atol=1e-6)
    back = tokenizer.to_codebook(beam=3)
    np.testing.assert_array_equal(back.codebooks, codebook.codebooks)
    assert back.beam == 3


@pytest.mark.parametrize(
    "make",
    [
        lambda: ProductVQ(12, 16, 3),
        lambda: ProductVQ(12, 16, 4, shared=True),
        lambda: ProductVQ(12, 256, 2, Learning(cosine=True)),
        lambda: FactorizedVQ(12, 16, 4),
        lambda: ResidualVQ(12, 16, 3),
        lambda: GroupedResidualVQ(12, 16, 2, 3),
        lambda: LowRankVQ(12, 40, 4),
        lambda: IBQ(12, 40),
        lambda: SimVQ(12, 40),
        lambda: VectorQuantizer(12, 40),
        lambda: VectorQuantizer(12, 40, Learning(cosine=True)),
    ],
)
def test_a_trained_tokenizer_is_a_codebook(make, vectors):
    torch.manual_seed(0)
    tokenizer, rows = make(), torch.from_numpy(vectors)
    for _ in range(3):
        tokenizer(rows)
    codes, codebook = tokenizer.eval().encode(rows), tokenizer.to_codebook()
    decoded = codebook.centroids[codes] if isinstance(codebook, KMeans) else codebook.decode(codes.byte().numpy())
    np.testing.assert_allclose(tokenizer.decode(codes).detach().numpy(), decoded, atol=1e-5)
    if isinstance(codebook, KMeans):
        np.testing.assert_array_equal(codebook.assign(vectors)[0], codes.numpy())
    if isinstance(codebook, ResidualCodebook):
        np.testing.assert_array_equal(codebook.encode(vectors), codes.numpy())


def test_centroids_are_chosen_as_they_were(vectors):
    by_product, rows = KMeans.train(vectors, 20, metric="ip"), torch.from_numpy(vectors)
    tokenizer = IBQ.from_codebook(by_product).eval()
    np.testing.assert_array_equal(tokenizer.encode(rows).numpy(), by_product.assign(vectors)[0])
    np.testing.assert_array_equal(tokenizer.to_codebook().centroids, by_product.centroids)
    for kind in (VectorQuantizer, KMeansTokenizer):
        with pytest.raises(ParameterError, match="metric 'ip'"):
            kind.from_codebook(by_product)
    with pytest.raises(ParameterError, match="metric 'ip'"):
        IBQ.from_codebook(KMeans(by_product.centroids))


def test_what_has_no_codebook_says_so():
    with pytest.raises(ParameterError, match="16 or 256"):
        ProductVQ(12, 32, 3).to_codebook()
    with pytest.raises(ParameterError, match="16 or 256"):
        ResidualVQ(12, 32, 3).to_codebook()
    with pytest.raises(ParameterError, match="projection"):
        ResidualVQ(12, 16, 3, code_dim=2).to_codebook()
    with pytest.raises(ParameterError, match="projection"):
        GroupedResidualVQ(12, 16, 2, 3, code_dim=2).to_codebook()
    with pytest.raises(ParameterError, match="beam"):
        ResidualVQ(12, 16, 3).to_codebook(beam=17)
    assert type(GroupedResidualVQ(12, 16, 2, 3).to_codebook(beam=np.int64(4)).beam) is int
    padded = ProductCodebook.train(np.eye(20, 11, dtype=np.float32), M=4, nbits=4)
    with pytest.raises(ParameterError, match="dimension 11"):
        ProductVQ.from_codebook(padded)


def test_k_means_tokens_are_k_means(vectors):
    tokenizer = KMeansTokenizer(12, 20)
    with pytest.raises(StateError, match="fit"):
        tokenizer(torch.from_numpy(vectors))
    with pytest.raises(ShapeError):
        tokenizer.fit(vectors[:, :5])
    with pytest.raises(ParameterError):
        tokenizer.fit(vectors[:5])
    tokenizer.fit(vectors, niter=5, seed=2)
    codebook = KMeans.train(vectors, 20, niter=5, seed=2)
    found = tokenizer(torch.from_numpy(vectors))
    np.testing.assert_array_equal(found.codes.numpy(), codebook.assign(vectors)[0])
    np.testing.assert_array_equal(found.z_q.numpy(), codebook.centroids[found.codes])
    again = KMeansTokenizer.from_codebook(tokenizer.to_codebook())
    assert torch.equal(again.encode(torch.from_numpy(vectors)), found.codes)
    loaded = KMeansTokenizer(12, 20)
    loaded.load_state_dict(tokenizer.state_dict())
    assert torch.equal(loaded.encode(torch.from_numpy(vectors)), found.codes)


def test_clusters_of_codes_become_one_code():
    rng = np.random.default_rng(0)
    centres = np.array([[10.0, 0.0], [-10.0, 0.0], [0.0, 10.0]])
    codes = (np.repeat(centres, 20, 0) + 0.1 * rng.normal(size=(60, 2))).astype(np.float32)
    large = VectorQuantizer(2, 60)
    large.set_codes(codes)
    small = shrink_codebook(large, 3)
    assert small.quantizer.codebook_size == 3
    assert small.mapping.shape == (60,)
    assert (small.mapping.reshape(3, 20) == small.mapping.reshape(3, 20)[:, :1]).all()
    means = codes.reshape(3, 20, 2).mean(1)
    np.testing.assert_allclose(small.quantizer.codebook[small.mapping[::20]].numpy(), means, rtol=1e-5)
    rows = torch.from_numpy(codes)
    assert torch.equal(small.quantizer.eval().encode(rows), small.mapping[large.eval().encode(rows)])


def test_codes_weigh_what_they_are_used():
    large = VectorQuantizer(1, 3)
    large.set_codes(np.array([[0.0], [1.0], [100.0]], np.float32))
    small = shrink_codebook(large, 2, counts=torch.tensor([9, 1, 5])).quantizer
    assert sorted(small.codebook[:, 0].tolist()) == pytest.approx([0.1, 100.0])
    unused = shrink_codebook(large, 1, counts=[3, 0, 0])
    assert unused.quantizer.codebook.tolist() == [[0.0]]
    assert unused.mapping.tolist() == [0, 0, 0]


def test_the_rate_is_traded_for_error(vectors):
    large, rows = KMeansTokenizer(12, 128).fit(vectors), torch.from_numpy(vectors)
    errors = []
    for size in (128, 32, 8, 2):
        small = shrink_codebook(large, size).quantizer.eval()
        errors.append((small(rows).z_q - rows).square().mean().item())
        assert small.bits_per_vector == np.log2(size)
    assert errors == sorted(errors)


def test_projections_stay():
    large = VectorQuantizer(12, 30, Learning(update=Gradient()), code_dim=3)
    small = shrink_codebook(large, 30).quantizer.eval()
    z = torch.randn(50, 12)
    torch.testing.assert_close(small(z).z_q, large.eval()(z).z_q)


def test_bad_shrinking_is_refused():
    large = VectorQuantizer(2, 6)
    with pytest.raises(ParameterError, match="FSQ"):
        shrink_codebook(FSQ(2, 8), 2)
    with pytest.raises(ParameterError):
        shrink_codebook(large, 7)
    for counts in ([1, 2], "many", [[1], [2, 3]], [torch.nan] * 6):
        with pytest.raises(ParameterError, match="counts"):
            shrink_codebook(large, 2, counts=counts)
    with pytest.raises(ParameterError, match="only 1 codes are used"):
        shrink_codebook(large, 2, counts=[1, 0, 0, 0, 0, 0])
    with pytest.raises(StateError):
        shrink_codebook(KMeansTokenizer(2, 6), 2)
