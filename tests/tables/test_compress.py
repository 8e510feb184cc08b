"""Trained tables in fewer bytes: how near the rows are, whole models, indexes over codes."""

import warnings

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")

import torch
import torch.nn.utils.prune

from annvq import tables
from annvq.errors import BudgetError, NonFiniteError, ParameterError, ShapeError
from annvq.tables.methods.dedup import merged

# Ratio, and the most of the variance that may be lost: what plain averages of rows lose is about 1.
KEPT = {
    "Hash": (4, 1.0), "CompoEmb": (4, 1.0), "ROBE": (4, 0.85), "DHE": (2, 1.0), "Dedup": (4, 0.8), "TTRec": (2, 0.95),
    "PQ": (8, 0.2), "RVQ": (8, 0.2), "RaBitQ": (4, 0.5), "FP16": (2, 1e-6), "DPQ": (8, 0.2), "MGQE": (6, 0.3),
    "MDE": (2, 0.5), "AdaptEmb": (4, 0.9), "DeepLight": (2, 0.35), "ALPT": (3.5, 1e-4),
    "INT8": (3.5, 1e-4), "INT16": (1.8, 1e-8),
}  # fmt: skip


def lost(table, weight, frequencies=None):
    share = np.ones(len(weight)) if frequencies is None else frequencies
    error = np.square(table.decoded() - weight).sum(1)
    return float((share * error).sum() / (share * np.square(weight - weight.mean(0)).sum(1)).sum())


@pytest.mark.parametrize("method", KEPT)
def test_rows_come_near_the_trained_ones(method, embedding, weight):
    ratio, most = KEPT[method]
    table = tables.compress(embedding, method, ratio=ratio)
    assert table.freeze().method == method
    assert table.nbytes <= weight.nbytes / ratio
    assert lost(table, weight) < most
    assert torch.equal(embedding.weight.detach(), torch.from_numpy(weight))
    if method == "DHE":  # takes long
        return
    again = tables.compress(embedding, method, ratio=ratio)
    np.testing.assert_array_equal(again.decoded(), table.decoded())


@pytest.mark.parametrize("method", ["Hash", "CompoEmb", "ROBE", "Dedup", "PQ"])
def test_frequent_rows_come_nearer_where_frequencies_are_given(method, embedding, weight, frequencies):
    plain = tables.compress(embedding, method, ratio=12)
    weighted = tables.compress(embedding, method, ratio=12, frequencies=frequencies)
    assert lost(weighted, weight, frequencies) < lost(plain, weight, frequencies)


def test_merged_blocks_are_no_chain(embedding, weight, frequencies):
    """At small budgets most rows would share one block, were a block merged with what is merged already."""
    table = tables.compress(embedding, "Dedup", ratio=10, frequencies=frequencies)
    assert np.bincount(table.remap.numpy()).max() < 60
    assert lost(table, weight, frequencies) < 0.3


@pytest.mark.parametrize("method", ["Hash", "CompoEmb", "ROBE", "Dedup", "MDE"])
def test_only_proportions_of_frequencies_count(method, embedding, frequencies):
    counted = tables.compress(embedding, method, ratio=12, frequencies=frequencies).decoded()
    for factor in (1e-12, 1e300):
        again = tables.compress(embedding, method, ratio=12, frequencies=frequencies * factor)
        np.testing.assert_allclose(again.decoded(), counted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", ["CompoEmb", "TTRec", "PQ", "RVQ"])
def test_fine_tuning_brings_rows_nearer(method, embedding, weight):
    before = tables.compress(embedding, method, ratio=10)
    after = tables.compress(embedding, method, ratio=10, finetune_steps=200)
    assert lost(after, weight) < lost(before, weight)


def test_least_squares_of_hashing_and_robe(weight):
    """No other values of the shared floats come nearer: the gradient of the error is zero there."""
    for cls in (tables.Hash, tables.ROBE):
        table = cls(*weight.shape, ratio=5)
        table.approximate(weight)
        (table(torch.arange(len(weight))) - torch.from_numpy(weight)).square().sum().backward()
        (parameter,) = table.parameters()
        assert parameter.grad.abs().max() < 1e-2


def test_tensor_train_of_full_rank_is_exact(weight):
    table = tables.TTRec(*weight.shape, bytes=1 << 30)
    table.approximate(weight)
    np.testing.assert_allclose(table.decoded(), weight, atol=2e-4)


def test_a_padding_row_of_zeros_stays_and_another_is_kept(weight):
    layer = torch.nn.Embedding(*weight.shape, padding_idx=0)
    table = tables.compress(layer, "PQ", ratio=8)
    assert table.padding_idx == 0
    assert not table(torch.tensor([0])).any()
    kept = torch.nn.Embedding.from_pretrained(torch.from_numpy(weight), padding_idx=0)
    table = tables.compress(kept, "FP16")
    assert table.padding_idx is None
    np.testing.assert_allclose(table(torch.tensor([0])).detach().numpy()[0], weight[0], rtol=1e-3)
    assert not any(p.requires_grad for p in table.parameters())


@pytest.mark.parametrize(("method", "is_sparse"), [("MDE", True), ("DeepLight", True), ("DHE", False), ("PQ", False)])
def test_sparse_gradients_stay_so_where_the_method_has_them(method, is_sparse):
    table = tables.compress(torch.nn.Embedding(300, 8, sparse=True), method, ratio=0.1, finetune_steps=2)
    assert table.sparse is is_sparse
    table(torch.tensor([1, 2])).sum().backward()
    assert any(p.grad is not None and p.grad.is_sparse for p in table.parameters()) is is_sparse


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.words = torch.nn.Embedding(1000, 32)
        self.same = self.words
        self.bags = torch.nn.ModuleDict({"tags": torch.nn.EmbeddingBag(600, 32, mode="max", include_last_offset=True)})
        self.small = torch.nn.Embedding(4, 32)
        self.out = torch.nn.Linear(32, 1)

    def forward(self, ids):
        return self.out(self.words(ids) + self.same(ids) + self.bags["tags"](ids, torch.arange(len(ids) + 1)))


def test_a_models_tables_are_found_and_replaced():
    model = Model()
    compressed = tables.compress(model, "INT8", ratio=3)
    assert type(model.words) is torch.nn.Embedding
    assert type(compressed.words) is tables.INT8
    assert compressed.same is compressed.words
    bag = compressed.bags["tags"]
    assert (type(bag), bag.mode, bag.include_last_offset) == (tables.TableBag, "max", True)
    assert type(compressed.small) is torch.nn.Embedding
    ids = torch.arange(30)
    torch.testing.assert_close(compressed(ids), model(ids), atol=0.05, rtol=0.05)
    half = tables.compress(model, "FP16", bytes=2 * 1600 * 32)
    assert half.words.nbytes + half.bags["tags"].nbytes == 2 * 1600 * 32
    everything = tables.compress(model, "FP16", ratio=2, min_bytes=0)
    assert type(everything.small) is tables.FP16
    hot = tables.compress(model, "PQ", ratio=2, frequencies={"words": np.arange(1000)})
    assert hot.words.nbytes <= 2000 * 32


class Scaled(torch.nn.Embedding):
    def forward(self, ids):
        return 8.0 * super().forward(ids)


def test_embeddings_that_do_more_than_look_up_are_left_and_it_says_so(caplog):
    model = torch.nn.ModuleDict({
        "plain": torch.nn.Embedding(1000, 32),
        "scaled": Scaled(1000, 32),
        "hooked": torch.nn.Embedding(1000, 32),
        "parametrized": torch.nn.utils.parametrizations.spectral_norm(torch.nn.Embedding(1000, 32)),
        "pruned": torch.nn.Embedding(1000, 32),
        "patched": torch.nn.Embedding(1000, 32),
        "clipped": torch.nn.Embedding(1000, 32, max_norm=1.0),
        "by_count": torch.nn.EmbeddingBag(1000, 32, scale_grad_by_freq=True),
        "small": torch.nn.Embedding(10, 32),
        "unwanted": torch.nn.Embedding(1000, 32),
    })  # fmt: skip
    with torch.no_grad():
        torch.nn.utils.prune.random_unstructured(model["pruned"], "weight", 0.5)
    model["hooked"].register_forward_hook(lambda *given: 2 * given[2])
    model["patched"].forward = lambda ids: torch.zeros(len(ids), 32)
    model["gradients"] = torch.nn.Embedding(1000, 32)
    model["gradients"].weight.register_hook(lambda slope: 0 * slope)
    compressed = tables.compress(model, "INT8", ratio=3, filter=lambda name, module: name != "unwanted")
    changed = {name for name in model if type(compressed[name]) is not type(model[name])}
    assert changed == {"plain"}
    told = "\n".join(caplog.messages)
    assert "plain, Embedding of 1000 x 32: INT8, 36,000 bytes of 128,000" in told
    for name, reason in (
        ("scaled", "Scaled is a class of its own"),
        ("parametrized", "ParametrizedEmbedding is a class of its own"),
        ("hooked", "it has forward hooks, which would be lost"),
        ("pruned", "it has forward pre hooks"),
        ("patched", "its forward was replaced"),
        ("clipped", "max_norm has no meaning"),
        ("by_count", "scale_grad_by_freq has no meaning"),
        ("gradients", "its weight has hooks"),
        ("small", "smaller than 65536 bytes"),
    ):
        assert f"left as they are: {name} ({reason}" in told
        if name != "small":
            with pytest.raises(ParameterError, match=f"cannot be compressed: {reason}"):
                tables.compress(model[name], "INT8", ratio=3)
            with pytest.raises(ParameterError, match=f"cannot be compressed: {reason}"):
                tables.recommend(model[name], 3)
    assert "unwanted" not in told
    with pytest.raises(ParameterError, match=r"to compress .scaled: Scaled is a class of its own"):
        tables.compress(torch.nn.ModuleDict({"scaled": Scaled(1000, 32)}), "INT8", ratio=3)
    with pytest.raises(ParameterError, match="filter must be a function of name and module, not 'plain'"):
        tables.compress(model, "INT8", ratio=3, filter="plain")


def test_embeddings_that_share_a_weight_share_a_table_and_a_tied_output_keeps_it(caplog):
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.words = torch.nn.Embedding(1000, 32, padding_idx=1)
            self.targets = torch.nn.Embedding(1000, 32, padding_idx=1)
            self.bags = torch.nn.EmbeddingBag(1000, 32, mode="sum", padding_idx=1)
            self.other = torch.nn.Embedding(1000, 32)
            self.head = torch.nn.Linear(32, 1000, bias=False)
            self.targets.weight = self.bags.weight = self.other.weight = self.head.weight = self.words.weight

    model = Tied()
    compressed = tables.compress(model, "INT8", bytes=40_000, frequencies={"targets": np.ones(1000)})
    assert compressed.words is compressed.targets is compressed.bags.table
    assert (compressed.words.padding_idx, compressed.other.padding_idx) == (1, None)
    assert compressed.words.nbytes <= 40_000
    assert torch.equal(compressed.head.weight, model.head.weight)
    assert caplog.messages[0].endswith("; head shares its weight and keeps it")


def test_a_model_whose_embeddings_are_scaled_and_positional_answers_as_before():
    transformers = pytest.importorskip("transformers")
    config = transformers.BartConfig(
        vocab_size=900, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=600,
        scale_embedding=True,
    )  # fmt: skip
    torch.manual_seed(0)
    model = torch.nn.ModuleDict({"text": transformers.BartModel(config), "tags": torch.nn.Embedding(900, 32)}).eval()
    compressed = tables.compress(model, "INT8", ratio=3)
    assert type(compressed["tags"]) is tables.INT8
    ids = torch.arange(3, 40)[None]
    expected = model["text"](input_ids=ids).last_hidden_state
    assert torch.equal(compressed["text"](input_ids=ids).last_hidden_state, expected)
    with pytest.raises(ParameterError, match=r"has no .* to compress .*ScaledWordEmbedding is a class of its own"):
        tables.compress(model["text"], "INT8", ratio=3)


def test_what_cannot_be_compressed(embedding):
    with pytest.raises(ParameterError, match="method must be one of Hash"):
        tables.compress(embedding, "Gzip", ratio=2)
    with pytest.raises(ParameterError, match=r"expected nn\.Embedding"):
        tables.compress([1, 2], "PQ", ratio=2)
    with pytest.raises(ParameterError, match=r"has no nn\.Embedding"):
        tables.compress(torch.nn.Linear(2, 2), "PQ", ratio=2)
    with pytest.raises(BudgetError, match="table 'words': PQ of 1000 rows of 32"):
        tables.compress(Model(), "PQ", ratio=1e4)
    with pytest.raises(ParameterError, match="by the names of its tables: words"):
        tables.compress(Model(), "PQ", ratio=2, frequencies=np.ones(1000))
    with pytest.raises(ShapeError, match="one of each of 2000 rows"):
        tables.compress(embedding, "PQ", ratio=2, frequencies=np.ones(3))
    with pytest.raises(ParameterError, match="not negative"):
        tables.compress(embedding, "PQ", ratio=2, frequencies=-np.ones(2000))
    with pytest.raises(ParameterError, match="min_bytes"):
        tables.compress(embedding, "PQ", ratio=2, min_bytes="all")
    with pytest.raises(ParameterError, match="ratio must be a finite number above 0, not -1"):
        tables.compress(embedding, "PQ", ratio=-1)
    with pytest.raises(ParameterError, match="max_norm"):
        tables.compress(torch.nn.Embedding(2000, 8, max_norm=1.0), "PQ", ratio=2)
    with torch.no_grad():
        embedding.weight[7, 3] = float("nan")
    with pytest.raises(NonFiniteError, match="row 7"):
        tables.compress(embedding, "PQ", ratio=2)


@pytest.mark.parametrize(("method", "metric"), [
    ("PQ", "ip"), ("PQ", "l2"), ("RVQ", "ip"), ("RVQ", "l2"), ("RaBitQ", "ip"),
])  # fmt: skip
def test_a_table_is_an_index_of_its_rows(method, metric, embedding, weight):
    table = tables.compress(embedding, method, ratio=4)
    index = table.to_index(metric)
    assert (len(index), index.dim, index.metric) == (*weight.shape, metric)
    queries = weight[::50] + 0.01
    hits = index.search(queries, k=10)
    decoded = table.decoded()
    scores = queries @ decoded.T if metric == "ip" else -np.square(queries[:, None] - decoded).sum(2)
    taken = np.take_along_axis(scores, hits.ids, 1)
    if method == "RaBitQ":  # it estimates the scores of the rows that were coded, without bias
        original = np.take_along_axis(queries @ weight.T, hits.ids, 1)
        assert np.median(hits.scores / original) == pytest.approx(1.1, abs=0.2)
    else:
        np.testing.assert_allclose(hits.scores, taken, rtol=1e-4, atol=2e-3)
        best = -np.sort(-scores, axis=1)[:, :10]
        np.testing.assert_allclose(taken, best, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(index.reconstruct([0, 1999]), decoded[[0, 1999]], atol=1e-5)


def test_tables_without_codes_are_no_index(embedding):
    with pytest.raises(ParameterError, match="Hash keeps no codes"):
        tables.compress(embedding, "Hash", ratio=4).to_index("ip")
    with pytest.raises(ParameterError, match="metric"):
        tables.compress(embedding, "PQ", ratio=4).to_index("cosine")


def test_methods_are_proposed_by_the_error_that_they_make(embedding, weight, frequencies):
    proposals = tables.recommend(embedding, 3, frequencies=frequencies)
    errors = [proposal.error for proposal in proposals]
    assert errors == sorted(errors)
    assert proposals[0].method in ("INT8", "ALPT")
    refused = {proposal.method for proposal in proposals if proposal.refused}
    assert {"FP16", "INT16"} <= refused
    (hashed,) = tables.recommend(embedding, bytes=weight.nbytes // 4, methods=["Hash"])
    table = tables.compress(embedding, "Hash", ratio=4)
    assert hashed.error == pytest.approx(lost(table, weight), rel=1e-3)
    assert hashed.nbytes == table.nbytes
    with pytest.raises(ParameterError, match="one of them"):
        tables.recommend(embedding)
    with pytest.raises(ParameterError, match=r"expected nn\.Embedding or nn\.EmbeddingBag, not Linear"):
        tables.recommend(torch.nn.Linear(2, 2), 2)


def test_rows_that_are_all_alike_and_frequencies_of_zero():
    alike = torch.nn.Embedding.from_pretrained(torch.full((300, 16), 3.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for proposal in tables.recommend(alike, 3, frequencies=np.zeros(300)):
            assert proposal.refused or np.isfinite(proposal.error)
            if proposal.method not in ("ROBE", "DeepLight", "TTRec", "MDE") and not proposal.refused:  # signs; zeros
                assert proposal.error * 1e-9 < 1e-4, proposal.method


def test_large_tables_are_sampled():
    torch.manual_seed(0)
    (proposal,) = tables.recommend(torch.nn.Embedding(50_500, 4), 2, methods=["FP16"], frequencies=np.ones(50_500))
    assert proposal.nbytes == 50_000 * 8


def test_residual_codes_of_a_hundred_stages_are_not_tried_and_it_says_so(embedding, weight):
    wide = torch.nn.Embedding(20_000, 384)
    (proposal,) = tables.recommend(wide, 10, methods=["RVQ"])
    assert proposal.refused == "RVQ of 88 stages of 4 bits takes too long for a quick look"
    assert proposal.error == np.inf
    (tried,) = tables.recommend(embedding, 8, methods=["RVQ"])
    assert not tried.refused


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_blocks_whose_differences_overflow_are_merged_too():
    blocks = np.full((8, 4), 3e38, np.float32) * np.where(np.arange(8) % 2, -1, 1)[:, None].astype(np.float32)
    blocks[::4, 1] *= -1
    means, owner = merged(blocks, np.ones((8, 4)), 3, 0)
    assert len(means) == 3
    assert set(owner) == {0, 1, 2}


def test_a_former_name_warns():
    with pytest.warns(DeprecationWarning, match="called Trial now"):
        assert tables.Proposal is tables.Trial
