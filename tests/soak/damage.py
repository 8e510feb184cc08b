"""Trial: an index whose files hold something else under right checksums is refused, or used without harm."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
from changes import METRICS, built, names
from limits import limit_memory
from model import EVERY, perform
from small_indexes import Parts

import annvq
from annvq.errors import AnnvqError

_MOST_MEMORY = 1 << 30  # beyond what the process holds


def mutated(rng: np.random.Generator, array: np.ndarray) -> np.ndarray:
    """Return an array with other content, now and then of another shape or dtype."""
    draw = rng.random()
    if draw < 0.1:
        return [array[:-1], array[:0], np.concatenate([array, array]), array.reshape(-1)][int(rng.integers(4))]
    if draw < 0.15:
        return array.astype([np.float64, np.int64, np.uint8, np.float32][int(rng.integers(4))])
    made = array.copy()
    flat = made.reshape(-1)
    if not len(flat):
        return made
    places = rng.integers(0, len(flat), int(rng.choice([1, 1, 2, 30])))
    if draw < 0.5:
        raw = flat.view(np.uint8)
        raw[rng.integers(0, len(raw), len(places))] ^= np.uint8(1) << rng.integers(0, 8, len(places)).astype(np.uint8)
    elif draw < 0.8 and made.dtype.kind in "iu":
        limits = np.iinfo(made.dtype)
        extremes = [0, 1, limits.max, limits.min, limits.max // 2, min(len(flat), limits.max)]
        flat[places] = rng.choice(np.array(extremes, made.dtype), len(places))
    elif draw < 0.8:
        flat[places] = rng.choice([0, np.inf, np.nan, -1, 3e38, 1e-40], len(places)).astype(made.dtype)
    else:
        flat[places] = flat[rng.permutation(places)] if draw < 0.9 else flat[places[0]]
    return made


def trial(rng: np.random.Generator, folder: Path) -> Counter:
    """Run one trial; return counts of what was done."""
    index, model, source = built(rng, str(rng.choice(names())), str(rng.choice(METRICS)))
    index.save(folder / "index")
    with annvq.open(folder / "index", "rw") as opened:
        for _ in range(int(rng.integers(0, 4))):
            change = source.change(model)
            perform(opened, change)
            model.apply(change)
    counts: Counter = Counter()
    limit_memory(_MOST_MEMORY)
    for number in range(40):
        parts = Parts(folder / "index")
        groups = [parts.trained, *parts.segments, *(live for live in parts.lives if live is not None)]
        for _ in range(int(rng.choice([1, 1, 2, 3]))):
            group = groups[int(rng.integers(len(groups)))]
            name = str(rng.choice(sorted(group)))
            group[name] = mutated(rng, group[name])
        path = folder / f"damaged{number}"
        with suppress(AnnvqError):  # what has no place in a container
            parts.write(path)
            counts["opened"] += use(rng, path, model, source)
        counts["damaged"] += 1
    return counts


def use(rng: np.random.Generator, path: Path, model, source) -> bool:
    """Do everything that an index can do; errors must be annvq's. Return whether it could be opened."""
    try:
        index = annvq.open(path, "rw")
    except AnnvqError:
        return False
    queries = source.queries(3)
    names = list(model.rows)[:5]
    steps = [
        lambda: index.verify(),
        lambda: index.search(queries, 50, nprobe=EVERY, rerank=EVERY),
        lambda: index.search(queries[0], 3),
        lambda: index.search(queries, 3, filter=names),
        lambda: index.range_search(queries[:1], 1.0, nprobe=EVERY),
        lambda: index.reconstruct(names),
        lambda: index.remove(names[:2]),
        lambda: index.add(source.vectors(5), source.ids(model, 5), source.attributes(5)),
        lambda: index.save(path.with_name("elsewhere")),
        lambda: index.compact(),
        lambda: index.search(queries, 50, nprobe=EVERY, rerank=EVERY),
    ]
    with index:
        for step in steps if rng.random() < 0.5 else [steps[place] for place in rng.permutation(len(steps))]:
            with suppress(AnnvqError):
                step()
    return True
