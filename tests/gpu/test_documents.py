"""Documents of several vectors on a device: encodings, candidates and scores are those of the CPU, to the bit."""

import pickle
import weakref

import numpy as np
import pytest
import torch

import annvq
from annvq.codebooks.accelerator import accelerated_by
from annvq.errors import DeviceError, DeviceMemoryError, ParameterError, StateError
from annvq.gpu.accelerator import GpuAccelerator
from annvq.gpu.documents.encodings import encoder_on
from annvq.gpu.documents.tokens import ResidentTokens
from annvq.index import recipe as recipes
from annvq.multivector import FixedDimensionalEncoder, MultiVectorIndex
from annvq.multivector.recipe import EncoderSpec, MultiVectorRecipe
from annvq.multivector.tokens import TokenSpec

DIM = 5


def sets(m, seed=0, most=5):
    """Return documents of 1 to ``most`` vectors, two of which are equal."""
    rng = np.random.default_rng(seed)
    made = [rng.normal(size=(rng.integers(1, most + 1), DIM)).astype(np.float32) for _ in range(m)]
    return [*made[:-1], made[0]] if m > 1 else made


def recipe(tokens, *, by="encoding", index="flat", bits=2):
    return MultiVectorRecipe(
        name="tried",
        summary="",
        encoder=EncoderSpec(repetitions=2, simhash_bits=bits, projection_dim=3),
        index=recipes.load(index),
        tokens=TokenSpec(kind=tokens),
        candidates_by=by,
        candidates=12,
    )


QUERIES = [*sets(2, 5, 4), sets(1, 6)[0], np.random.default_rng(7).normal(size=(33, DIM)).astype(np.float32)]


def assert_same(found, wanted):
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.fixture
def where(device):
    return torch.device("cpu" if device == "interpreter" else device)


@pytest.mark.parametrize(
    "given",
    [
        {"repetitions": 3, "simhash_bits": 3, "projection_dim": 4},
        {"repetitions": 2, "simhash_bits": 0, "projection_dim": None},
        {"repetitions": 2, "simhash_bits": 6, "projection_dim": 3, "final_dim": 37},
        {"repetitions": 2, "simhash_bits": 2, "projection_dim": 5, "fill_empty": False},
    ],
)
def test_encodings_are_those_of_the_cpu(where, given):
    encoder = FixedDimensionalEncoder(9, **given)
    lengths = np.array([3, 1, 0, 7, 2])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    vectors = np.random.default_rng(1).normal(size=(13, 9)).astype(np.float32)
    vectors[4] = 0  # on every hyperplane
    there = encoder_on(encoder, where)
    for of_documents in (True, False):
        found = there.encode(torch.from_numpy(vectors).to(where), offsets, of_documents).cpu().numpy()
        encode = encoder.encode_documents if of_documents else encoder.encode_queries
        np.testing.assert_array_equal(found, encode(vectors, offsets))
    assert there.encode(torch.empty((0, 9), device=where), np.zeros(1, np.int64), True).shape[0] == 0


def test_sums_of_queries_have_the_right_values(where):
    """Without hyperplanes and projections, an encoding is the sum or the mean of the vectors."""
    encoder = FixedDimensionalEncoder(4, repetitions=1, simhash_bits=0, projection_dim=None)
    vectors = np.array([[1, 2, 3, 4], [10, 20, 30, 40], [5, 5, 5, 5]], np.float32)
    there, given = encoder_on(encoder, where), torch.from_numpy(vectors).to(where)
    assert there.encode(given, np.array([0, 2, 3]), False).tolist() == [[11, 22, 33, 44], [5, 5, 5, 5]]
    assert there.encode(given, np.array([0, 2, 3]), True).tolist() == [[5.5, 11, 16.5, 22], [5, 5, 5, 5]]


def test_sets_are_encoded_in_parts(where, monkeypatch):
    encoder = FixedDimensionalEncoder(DIM, repetitions=2, simhash_bits=2, projection_dim=3)
    documents = sets(9)
    wanted = encoder.encode_documents(documents)
    monkeypatch.setattr("annvq.gpu.documents.encodings._NUMBERS", 60)
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in documents])])
    device = "interpreter" if where.type == "cpu" else where
    found = GpuAccelerator(device).encodings(encoder, np.concatenate(documents), offsets, True)
    np.testing.assert_array_equal(found, wanted)


def test_sets_of_few_numbers_are_sketched_in_parts(where):
    """A grid has at most 65,535 programs along its second axis, one for each set."""
    there = encoder_on(
        FixedDimensionalEncoder(2, repetitions=1, simhash_bits=0, projection_dim=None, final_dim=2), where
    )
    assert there.parts(np.arange(70_001)) == [(0, 65_535), (65_535, 70_000)]


def test_similarities_have_the_right_values(where):
    """The reference is float64; documents that are not in the segment keep their scores."""
    documents = sets(7, 1, 40)
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in documents])]).astype(np.int64)
    tokens = ResidentTokens(DIM, None, None, None, where)
    sections = tokens.upload({"offsets": offsets, "rows": np.concatenate(documents)}, on_host=False)
    begins = np.concatenate([[0], np.cumsum([len(one) for one in QUERIES])]).astype(np.int64)
    asked = tokens.prepare(torch.from_numpy(np.concatenate(QUERIES)).to(where), begins)
    places = torch.tensor([[100, 103, -1, 107], [106, 99, 104, 100], [101, 100, 101, 102], [105, 104, 103, 102]])
    scores = torch.full((4, 4), 7.0, device=where)
    tokens.score(asked, sections, 100, places.to(where), scores)
    for q, query in enumerate(QUERIES):
        for p, place in enumerate(places[q].tolist()):
            wanted = 7.0
            if 100 <= place < 107:
                wanted = (query.astype(np.float64) @ documents[place - 100].T).max(axis=1).sum()
            assert float(scores[q, p]) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    ("tokens", "by"),
    [(kind, "all") for kind in ("fp32", "fp16", "sq8", "pq", "rabitq")] + [("fp32", "encoding"), ("pq", "encoding")],
)
def test_hits_are_those_of_the_cpu(device, tokens, by):
    index = MultiVectorIndex.build(sets(13), recipe(tokens, by=by))
    there = index.to(device)
    assert_same(there.search(QUERIES[1:], k=3), index.search(QUERIES[1:], k=3))
    fewer = {"k": 1, "candidates": 12}  # of which centroids leave half, if there are any
    assert_same(there.search(QUERIES[:2], **fewer), index.search(QUERIES[:2], **fewer))
    assert there.device.startswith(device)
    assert there.stats()["device_bytes"] > 0
    assert there.to("cpu").search(QUERIES, k=1).ids.tolist() == index.search(QUERIES, k=1).ids.tolist()


def test_more_candidates_than_documents_filters_and_changes(device):
    attributes = {"year": list(range(20))}
    index = MultiVectorIndex.build(
        sets(20), recipe("pq", index="IVF2,PQ3x4fsr"), ids=[f"d{i}" for i in range(20)], attributes=attributes
    )
    there = index.to(device)
    assert_same(there.search(QUERIES[:2], k=25), index.search(QUERIES[:2], k=25))
    some = {"filter": "year >= 12", "k": 4, "columns": ["year"]}
    ours, theirs = there.search(QUERIES[:2], **some), index.search(QUERIES[:2], **some)
    assert_same(ours, theirs)
    assert ours.attributes.equals(theirs.attributes)
    assert (there.search(QUERIES[:2], k=3, filter="year > 99").ids == None).all()  # noqa: E711
    there.remove(["d3", "d4"])
    there.add(sets(3, 9), ids=["x", "y", "z"], attributes={"year": [1, 2, 3]})
    assert_same(there.search(QUERIES[:2], k=6), index.search(QUERIES[:2], k=6))
    there.compact()
    assert_same(there.search(QUERIES[:2], k=6), index.search(QUERIES[:2], k=6))
    found, wanted = (one.find_candidates(QUERIES[:2], 5, k=2) for one in (there, index))
    assert [one.tolist() for one in found] == [one.tolist() for one in wanted]
    assert pickle.loads(pickle.dumps(there)).search(QUERIES[:1], k=1).ids == index.search(QUERIES[:1], k=1).ids
    there.close()
    with pytest.raises(StateError, match="the index is closed"):
        there.search(QUERIES)


def test_rabitq_codes_are_scored_in_parts_and_in_two_segments(device, monkeypatch):
    monkeypatch.setattr("annvq.gpu.documents.rabitq_tokens._PAIRS", 40)
    index = MultiVectorIndex.build(sets(9), recipe("rabitq"))
    index.add(sets(4, 3))
    assert_same(index.to(device).search(QUERIES[:2], k=5), index.search(QUERIES[:2], k=5))


def test_tuning_measures_what_is_there(device):
    index = MultiVectorIndex.build(sets(12), recipe("fp32", bits=1))
    there = index.to(device)
    report = there.tune(QUERIES[:2], k=2, recall=0.5)
    assert report.chosen.recall >= 0.5
    assert_same(there.search(QUERIES[:1], k=2), index.search(QUERIES[:1], k=2))


def test_an_index_is_opened_there_with_its_vectors_on_the_host(device, tmp_path):
    index = MultiVectorIndex.build(sets(30), recipe("fp32"))
    index.save(tmp_path / "index")
    budget = 30 * (4 * 24 + 8 + 4) + 100  # for encodings only
    with MultiVectorIndex.open(tmp_path / "index", device=device, device_bytes=budget) as there:
        assert_same(there.search(QUERIES[:2], k=3), index.search(QUERIES[:2], k=3))
    with pytest.raises(DeviceMemoryError, match=r"the codes of 30 rows take [0-9,]+ bytes, device_bytes=99"):
        MultiVectorIndex.open(tmp_path / "index", device=device, device_bytes=99)


def test_what_does_not_fit_any_more_is_added_and_can_be_changed(device):
    """Only searches need the device."""
    index = MultiVectorIndex.build(sets(4), recipe("fp32", bits=1))
    there = index.to(device, device_bytes=4 * (4 * 12 + 8) + 400)
    there.add(sets(40, 3))
    assert len(there) == len(index) == 44
    assert "device=" in repr(there)
    with pytest.raises(DeviceMemoryError, match="the codes of 44 rows"):
        there.search(QUERIES[:1])
    there.remove(list(range(4, 44)))
    there.compact()
    assert_same(there.search(QUERIES[:1], k=2), index.search(QUERIES[:1], k=2))


def test_what_is_not_needed_is_released_before_documents_are_moved_again(device, monkeypatch):
    index = MultiVectorIndex.build(sets(6), recipe("fp32"))
    there = index.to(device)
    earlier = weakref.ref(there._documents.sections[0]["rows"])
    upload, seen = ResidentTokens.upload, []

    def noted(*given, **named):
        seen.append(earlier())
        return upload(*given, **named)

    monkeypatch.setattr(ResidentTokens, "upload", noted)
    there.remove([0])
    there.compact()
    assert_same(there.search(QUERIES[:1], k=2), index.search(QUERIES[:1], k=2))
    assert seen == [None]


def test_documents_that_no_device_holds_are_refused_before_anything_is_learned(device, monkeypatch):
    monkeypatch.setattr("annvq.multivector.build.train", None)
    with (
        accelerated_by(GpuAccelerator(device)),
        pytest.raises(DeviceError, match="codes of kind 'graph' are searched on the CPU only"),
    ):
        MultiVectorIndex.build(sets(20), recipe("fp32", index="graph"))


def test_what_cannot_be_there_says_so(device):
    documents = sets(20)
    by_tokens = MultiVectorIndex.build(documents, recipe("fp32", by="tokens"))
    with pytest.raises(DeviceError, match="recipe 'tried': candidates by tokens are found on the CPU only; recipes of"):
        by_tokens.to(device)
    index = MultiVectorIndex.build(documents, recipe("fp32"))
    with pytest.raises(ParameterError, match="device_bytes=5 is for GPUs"):
        index.to("cpu", device_bytes=5)
    with pytest.raises(ParameterError, match="device: 'tpu'"):
        index.to("tpu")
    with pytest.raises(annvq.errors.ShapeError):
        index.to(device).search([np.ones((2, 3), np.float32)])
