"""Rows whose codes products on tensor cores propose: all that count, and hits and scores are those of the CPU."""

import numpy as np
import pytest
import torch
from alike import same, same_search

import annvq
from annvq.gpu import search
from annvq.gpu.codes import tables
from annvq.gpu.codes.kind import ResidentProbes, SlabVisits
from annvq.gpu.kernels.order import NOTHING, candidates_of, scores_of
from annvq.gpu.kernels.propose_tables import OF_ADDED, propose_tables
from annvq.gpu.kernels.scan_tables import decide_tables, rescore_sums
from annvq.gpu.launch import launch, programs_for
from annvq.gpu.pool import Pool
from annvq.index.recipe import CodebookSpec, Recipe
from annvq.index.search.view import View

N, D, NQ = 200, 37, 6
SPILLED = Recipe(nlist=5, codebook=CodebookSpec(kind="pq", M=9, nbits=4, residual=True), refine=None, spill=True)
FORMS = [
    ("PQ9x4fs", "l2"), ("IVF4,PQ9x4fsr", "l2"), ("IVF4,PQ9x4fs", "cosine"), ("IVF4,PQ5", "ip"), ("IVF3,SQ4", "l2"),
    (SPILLED, "ip"),
]  # fmt: skip


@pytest.fixture(scope="module")
def vectors():
    made = np.random.default_rng(1).normal(size=(N, D)).astype(np.float32)
    made[7] = made[3]  # equal scores
    made[50] = 0.0
    return made


@pytest.fixture
def queries(vectors):
    made = vectors[:NQ] + np.float32(0.1)
    made[:3] = vectors[:3]
    return made


@pytest.fixture
def launched(monkeypatch):
    """Make pools small, so that several slabs are scanned; return the kernels that were launched."""
    kernels = []
    launch = tables.launch

    def noting(kernel, *arguments, **options):
        kernels.append(kernel)
        launch(kernel, *arguments, **options)

    monkeypatch.setattr(tables, "launch", noting)
    monkeypatch.setattr(search, "SPARE", 8)
    monkeypatch.setattr(tables, "_MANY", 1)
    monkeypatch.setattr(tables, "_ROWS", 64)  # fewer rows that are masked, which the interpreter computes as well
    return kernels


@pytest.mark.parametrize(("recipe", "metric"), FORMS, ids=str)
def test_hits_are_those_of_the_cpu(device, recipe, metric, vectors, queries, launched):
    index = annvq.build(vectors, recipe, metric=metric, **({"zero": "score-0"} if metric == "cosine" else {}))
    same_search(index.to(device), index, queries, 1, nprobe=4)
    if "IVF" in str(recipe) or recipe is SPILLED:
        assert decide_tables in launched


@pytest.mark.parametrize("recipe", ["IVF4,PQ9x4fsr", SPILLED], ids=str)
def test_filters(device, recipe, vectors, queries, launched, monkeypatch):
    index = annvq.build(vectors, recipe, metric="ip")
    monkeypatch.setattr(View, "few", None)
    given = np.arange(N) % 4 != 0
    found = index.to(device).search(queries, 1, nprobe=4, filter=given)
    same(found, index.search(queries, 1, nprobe=4, filter=given))
    assert decide_tables in launched


def test_too_many_proposals(device, vectors, queries, launched, monkeypatch):
    monkeypatch.setattr(tables, "_PROPOSED", 0)
    index = annvq.build(vectors, "IVF4,PQ9x4fsr", metric="l2")
    same_search(index.to(device), index, queries, 1, nprobe=4)
    assert propose_tables in launched
    assert decide_tables not in launched


def scored(index, device, asked):
    """Return codes, segment, what is prepared, lists and all scores of the scan of an index on a device."""
    part = index.to(device)._on_devices(index.rows.current)[0][0]
    segment, nlist = part.segments[0], len(part.segments[0].offsets) - 1
    asked = torch.from_numpy(index.rows.current.trained.turn(asked)).to(part.device)
    centroid_scores = torch.linspace(-30, 20, nlist).expand(len(asked), -1).contiguous().to(part.device)
    lists = torch.arange(nlist).expand(len(asked), -1).contiguous().to(part.device)
    prepared = part.codes.prepare(asked, ResidentProbes(lists, centroid_scores))
    places = torch.arange(segment.n).expand(len(asked), -1).contiguous().to(part.device)
    scores = torch.zeros(places.shape, device=part.device)
    held = segment.sections
    launch(
        rescore_sums, programs_for(places, 32), held["codes.words"], segment.n, part.codes._words,
        held.get("constants", held["codes.words"]), prepared.quantized, prepared.steps, prepared.biases,
        torch.gather(prepared.bases, 1, segment.lists_of(places)), places, segment.n, segment.base, scores,
        FUSED=part.codes.codes.nbits == 4, CONSTANTS=part.codes.codes.with_constants, ROWS=32,
    )  # fmt: skip
    return part.codes, segment, prepared, lists, scores


@pytest.mark.parametrize(
    ("recipe", "metric", "scale"),
    [("PQ9x4fs", "ip", 1.0), ("PQ9x4fs", "l2", 1e5), ("IVF4,PQ5", "l2", 1.0), ("SQ4", "l2", 1e-12), ("SQ4", "ip", 1.0)],
)
def test_what_reaches_a_threshold_is_proposed(device, recipe, metric, scale, vectors):
    some = vectors[:130] * np.float32(scale)
    index = annvq.build(some, recipe, metric=metric)
    queries = np.vstack([some[:5] * np.float32(1.5), np.zeros((1, D), np.float32), -some[:1]])
    codes, segment, prepared, lists, scores = scored(index, device, queries)
    pool = Pool.empty(len(queries), 8, 200, scores.device)
    ordered = torch.sort(candidates_of(scores, segment.ranks.expand_as(scores)), dim=1, descending=True).values
    pool.thresholds = ordered[:, 7].contiguous()  # eight rows reach it
    proposed = []

    def noting(kernel, *arguments, **options):
        launch(kernel, *arguments, **options)
        if kernel is propose_tables:
            proposed.append(arguments[-3].clone())

    launch = tables.launch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "launch", noting)
        words = segment.sections["codes.words"]
        assert codes._scan_together(prepared, segment, words, False, SlabVisits(lists, False), pool)
    assert pool.counts.tolist() == [8] * len(queries)
    found = torch.sort(pool.entries, dim=1, descending=True).values[:, :9]
    assert found[:, :8].equal(ordered[:, :8])
    assert (found[:, 8] == NOTHING).all()
    assert scores_of(found[:, :8]).equal(torch.sort(scores, dim=1, descending=True).values[:, :8])
    if scale == 1.0:
        assert 8 <= proposed[0].float().mean() < 65  # the bound tells most rows apart


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e-12, 1e5])
@pytest.mark.parametrize(
    ("recipe", "metric"),
    [("PQ9x4fs", "ip"), ("PQ9x4fs", "l2"), ("IVF4,PQ5", "l2"), ("PQ5", "l2"), ("SQ4", "l2"), ("SQ4", "ip")],
)
def test_scores_are_within_the_margin_of_products(device, recipe, metric, scale, vectors):
    some = vectors[:130] * np.float32(scale)
    index = annvq.build(some, recipe, metric=metric)
    queries = np.vstack([some[:4] * np.float32(3.0), np.zeros((1, D), np.float32)])
    codes, segment, prepared, _, scores = scored(index, device, queries)
    squared = codes._codebooks.squared
    made = tables.asked_products(prepared.queries, prepared.steps, squared, codes.codes.M, codes._decoded)
    packed_codes = index.rows.current.trained.codes.unpack(segment.host, np.arange(segment.n))["codes"]
    entries = codes._decoded.entries.flatten(2).double().cpu().numpy()
    rows = entries[np.arange(codes.codes.M), packed_codes]
    asked = made.queries.transpose(2, 3).double().cpu().numpy().reshape(len(queries), len(entries), -1)
    estimated = np.einsum("qmi,nmi->qn", asked[:, : codes.codes.M], rows) + made.offsets.cpu().numpy()[:, None]
    lists = np.searchsorted(segment.host.offsets, np.arange(segment.n), side="right") - 1
    estimated += prepared.bases.cpu().numpy()[:, lists]
    for name in ("constants", "codes.squares"):
        if name in segment.sections:
            estimated += segment.sections[name].cpu().numpy()
    error = np.abs(scores.cpu().numpy() - estimated)
    constants = segment.sections.get("constants", torch.zeros(1)).cpu().numpy()
    added = OF_ADDED * (np.abs(prepared.bases.cpu().numpy()[:, lists]) + np.abs(constants))
    assert (error <= made.margins.cpu().numpy()[:, None] + added).all()
