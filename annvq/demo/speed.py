"""Speed on a larger set, generated in a second: clusters of low intrinsic dimension, as embeddings have."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from annvq.bench.peers.annvq_ import AnnvqPeer
from annvq.bench.sweep import Half, Mode, Point, Problem, chosen, sweep
from annvq.evaluation import exact_neighbors
from annvq.index.warmup import warmup
from annvq.kernels.threads import resolve

RECIPES = ("flat", "ivf-flat", "ivf-sq8", "balanced", "fast", "ivf-rabitq")
TARGET = 0.95  # recall at which speeds are reported
_VECTORS, _QUERIES, _DIM, _INNER, _CLUSTERS = 50_000, 200, 128, 24, 400
_MODE = Mode(single=True, threads=1)
TITLE = f"{_VECTORS:,} made-up vectors of {_DIM} dimensions: recall@10 against speed, one query per call, one thread"


def measure(told: Callable[[str], None]) -> dict[str, list[Point]]:
    """Sweep each recipe over its search parameters; ``told`` is called with the recipe that is next."""
    if not RECIPES:
        return {}
    problem = _problem()
    points = {}
    for recipe in RECIPES:
        told(recipe)
        warmup(recipe, metric="ip")  # compilation is not counted as building
        points[recipe] = sweep(
            AnnvqPeer(recipe), problem, (_MODE,), resolve(None), lambda ahead: None, lambda done: None
        )
    return points


def lines(points: dict[str, list[Point]]) -> list[str]:
    """Return a line for each recipe: speed at `TARGET`, bytes, building time."""
    said = []
    for recipe, measured in points.items():
        best = chosen(measured, TARGET)
        speed = "does not reach it" if best is None else f"{best.qps:>7,.0f} queries/s (recall {best.recall:.3f})"
        first = measured[0]
        said.append(
            f"  {recipe:<11}{speed:<34}{first.bytes_per_vector:>5,.0f} bytes/vector, built in {first.build_s:.1f} s"
        )
    return said


def _problem() -> Problem:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(_CLUSTERS, _INNER))
    inner = centres[rng.integers(0, _CLUSTERS, _VECTORS + _QUERIES)] + 0.7 * rng.normal(
        size=(_VECTORS + _QUERIES, _INNER)
    )
    vectors = inner @ rng.normal(size=(_INNER, _DIM)) + 0.5 * rng.normal(size=(len(inner), _DIM))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    base, queries = vectors[:_VECTORS], vectors[_VECTORS:]
    exact = exact_neighbors(base, queries, 10, "ip")[1]
    halves = [Half(np.ascontiguousarray(queries[half::2]), exact[half::2]) for half in (0, 1)]
    return Problem(np.ascontiguousarray(base), "ip", 10, *halves)
