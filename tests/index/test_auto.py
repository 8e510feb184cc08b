"""What `annvq.build` makes of recipe "auto" with a wish and a budget, and what it tells of the choice."""

from __future__ import annotations

import numpy as np
import pytest

import annvq
from annvq.errors import ParameterError, RecipeError
from annvq.io.source import MatrixSource
from annvq.recipes import choose

RNG = np.random.default_rng(8)
BASE = RNG.normal(size=(1200, 64)).astype(np.float32)


@pytest.mark.parametrize("prefer", ["speed", "memory", "build"])
@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_a_wish_is_granted_and_told(prefer, metric, tmp_path):
    index = annvq.build(BASE, metric=metric, prefer=prefer)
    chosen = choose(1200, 64, metric, prefer=prefer)
    assert index.recipe.name == chosen.name
    assert index.stats()["use_when"] == chosen.use_when
    index.save(tmp_path / "index")
    assert annvq.open(tmp_path / "index").stats()["use_when"] == chosen.use_when


@pytest.mark.parametrize("prefer", ["speed", "memory", "build"])
@pytest.mark.parametrize("n", [0, 1, 2, 40])
def test_few_vectors_are_all_found(prefer, n):
    index = annvq.build(BASE[:n], metric="l2", prefer=prefer)
    assert sorted(index.search(BASE[0], k=max(1, n)).ids[0].tolist()) == (list(range(n)) or [-1])


def test_a_budget_is_kept():
    assert annvq.build(BASE, bytes_per_vector=100).recipe.name == "balanced"
    assert annvq.build(BASE, prefer="speed", bytes_per_vector=100).stats()["bytes_per_vector"] <= 100
    with pytest.raises(RecipeError, match="the shortest takes 1"):
        annvq.build(BASE, prefer="speed", bytes_per_vector=0)


@pytest.mark.parametrize(("deviation", "name"), [(0.0, "graph"), (0.01, "graph"), (0.1, "ivf-rabitq")])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_graph_serves_inner_products_where_vectors_are_equally_long(deviation, name, streamed):
    lengths = 3 + 3 * deviation * RNG.choice([-1.0, 1.0], size=900)
    vectors = (BASE[:900] / np.linalg.norm(BASE[:900], axis=1, keepdims=True) * lengths[:, None]).astype(np.float32)
    given = (vectors[start : start + 300] for start in range(0, 900, 300)) if streamed else vectors
    assert annvq.build(given, metric="ip", prefer="speed").recipe.name == name


@pytest.mark.parametrize(("prefer", "drawn"), [(None, 1), ("memory", 1), ("build", 1), ("speed", 2)])
def test_a_sample_is_drawn_again_only_if_the_lengths_decide(prefer, drawn, monkeypatch):
    sizes, sample = [], MatrixSource.sample
    monkeypatch.setattr(MatrixSource, "sample", lambda self, rows, seed: sizes.append(rows) or sample(self, rows, seed))
    annvq.build(BASE[:900], metric="ip", prefer=prefer)  # lengths deviate by more than the rule allows
    assert len(sizes) == drawn


def test_a_stream_is_given_what_suits_its_length():
    batches = (BASE[start : start + 100] for start in range(0, 1200, 100))
    index = annvq.build(batches, metric="l2", prefer="speed")
    assert index.recipe.name == "fast"


def test_what_is_trained_for_more_vectors_is_chosen_for_these():
    trained = annvq.train(BASE, n=20_000, metric="l2", prefer="build")
    assert annvq.build(BASE, trained=trained).recipe.name == "ivf-flat"
    assert annvq.build(BASE, metric="l2", prefer="build").recipe.name == "flat"
    with pytest.raises(ParameterError, match="give no recipe, metric, zero, train, prefer or bytes_per_vector"):
        annvq.build(BASE, trained=trained, prefer="build")


@pytest.mark.parametrize("make", [annvq.build, annvq.train])
@pytest.mark.parametrize("recipe", ["flat", "IVF16,Flat", annvq.recipes.load("fast")])
@pytest.mark.parametrize("more", [{"prefer": "speed"}, {"bytes_per_vector": 500}])
def test_a_wish_beside_a_recipe_is_refused(make, recipe, more):
    name = recipe if isinstance(recipe, str) else recipe.name
    with pytest.raises(ParameterError, match=f"how recipe 'auto' chooses: .*{name}"):
        make(BASE, recipe, **more)


def test_an_unknown_wish_is_refused_before_anything_is_read():
    def batches():
        raise AssertionError("read")
        yield

    with pytest.raises(ParameterError, match="prefer must be one of speed, memory, build, not 'size'"):
        annvq.build(batches(), prefer="size")
