"""What an index should hold, as plain Python and NumPy, and the changes that are tried on it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

EVERY = 1 << 20  # lists and candidates: more than there are
WORDS = ("", "a", "B", "é", "日本", "𝄞", "z" * 40)


@dataclass
class Model:
    """Live rows in the order of insertion: id, vector of whole numbers, attributes; the columns there ever were."""

    dim: int
    metric: str
    kind: str
    rows: dict = field(default_factory=dict)
    next_id: int = 0
    columns: frozenset = frozenset()

    def copy(self) -> Model:
        """Return a model that changes apart from this one."""
        return Model(self.dim, self.metric, self.kind, dict(self.rows), self.next_id, self.columns)

    def exact(self, query: np.ndarray, allowed: list) -> list[tuple]:
        """Return (id, score) of allowed rows, best first, in float64."""
        if not allowed:
            return []
        base = np.array([self.rows[name][0] for name in allowed], np.float64)
        q = query.astype(np.float64)
        scores = -np.square(base - q).sum(axis=1) if self.metric == "l2" else base @ q
        return sorted(zip(allowed, scores.tolist(), strict=True), key=lambda hit: (-hit[1], hit[0]))

    def apply(self, change: tuple) -> None:
        """Do to the model what `perform` does to an index."""
        what, *given = change
        if what in ("add", "upsert"):
            ids, vectors, attributes = given
            if ids is None:
                ids = list(range(self.next_id, self.next_id + len(vectors)))
            for name, vector, values in zip(ids, vectors, attributes, strict=True):
                self._put(name, vector, values)
            if self.kind == "int":
                self.next_id = max([self.next_id, *(name + 1 for name in ids)])
        elif what == "update":
            ids, attributes = given
            cleared = dict.fromkeys(_keys(attributes))  # null where a row lacks what others are given
            for name, values in zip(ids, attributes, strict=True):
                vector, held = self.rows[name]
                self._put(name, vector, held | cleared | values)
        elif what == "remove":
            for name in given[0]:
                del self.rows[name]
        elif what == "remove where":
            for name in self.below(given[0]):
                del self.rows[name]
        if what in ("add", "upsert", "update"):
            self.columns |= frozenset(_keys(attributes))

    def _put(self, name, vector, values) -> None:
        self.rows.pop(name, None)  # what is replaced counts as inserted now
        self.rows[name] = (vector, values)

    def below(self, number: int) -> list:
        """Return the ids of rows whose n is less than a number."""
        return [name for name, (_, row) in self.rows.items() if row.get("n") is not None and row["n"] < number]

    def content(self) -> list[tuple]:
        """Return (id, attributes that are not null) of all rows, in the order of insertion."""
        return [(name, _present(values)) for name, (_, values) in self.rows.items()]


def content(index) -> list[tuple]:
    """Return of an index what `Model.content` returns."""
    rows = index.get().to_pylist()
    return [(row.pop("id"), _present(row)) for row in rows]


def _keys(rows: list[dict]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def _present(row: dict) -> list[tuple]:
    return sorted((key, value) for key, value in row.items() if value is not None)


def perform(index, change: tuple) -> None:
    """Make a change on an index."""
    what, *given = change
    if what == "add":
        ids, vectors, attributes = given
        index.add(vectors, ids, attributes)
    elif what == "upsert":
        ids, vectors, attributes = given
        index.upsert(vectors, ids, attributes)
    elif what == "update":
        index.update(*given)
    elif what == "remove":
        index.remove(given[0])
    elif what == "remove where":
        index.remove(filter={"n": {"$lt": given[0]}})
    else:
        index.compact()


class Source:
    """Draws vectors, ids, attributes and changes. Few vectors are different, so that there are ties everywhere."""

    def __init__(self, rng: np.random.Generator, dim: int, kind: str) -> None:
        self.rng, self.dim, self.kind = rng, dim, kind
        pool = rng.integers(-3, 4, (int(rng.integers(3, 60)), dim))
        pool[:, 0] += (pool == 0).all(axis=1)  # cosine knows no zero vector
        self.pool = pool.astype(np.float32)
        self.drawn = 0

    def vectors(self, count: int) -> np.ndarray:
        """Return (count, d) float32 whole numbers."""
        return self.pool[self.rng.integers(0, len(self.pool), count)]

    def queries(self, count: int) -> np.ndarray:
        """Return vectors of which half are rows."""
        other = self.rng.integers(-3, 4, (count, self.dim)).astype(np.float32)
        other[:, 0] += (other == 0).all(axis=1)
        return np.where(self.rng.random(count)[:, None] < 0.5, self.vectors(count), other).astype(np.float32)

    def attributes(self, count: int) -> list[dict]:
        """Return a dict per row; keys and values are missing here and there, except for a stamp that each row has."""
        rng, first = self.rng, self.drawn
        self.drawn += count
        drawn = [
            {"n": int(rng.integers(0, 5)), "s": str(rng.choice(WORDS)), "f": float(rng.normal())} for _ in range(count)
        ]
        return [
            {key: (None if rng.random() < 0.1 else value) for key, value in row.items() if rng.random() < 0.8}
            | {"stamp": stamp}
            for stamp, row in enumerate(drawn, first)
        ]

    def ids(self, model: Model, count: int) -> list:
        """Return ids that the model does not hold."""
        found: list = []
        while len(found) < count:
            number = int(self.rng.integers(-(2**40), 2**40))
            name = number if self.kind == "int" else str(self.rng.choice(WORDS)) + str(number)
            if name not in model.rows and name not in found and name != -1:
                found.append(name)
        return found

    def some(self, model: Model, most: int) -> list:
        """Return up to so many of the model's ids."""
        names = list(model.rows)
        count = min(len(names), int(self.rng.integers(0, most + 1)))
        return [names[place] for place in self.rng.permutation(len(names))[:count]]

    def change(self, model: Model) -> tuple:
        """Return a change that has an effect."""
        draw = self.rng.random()
        if draw < 0.3 or not model.rows:
            count = int(self.rng.choice([1, 1, 2, 7, 33, 150]))
            own = self.kind == "str" or self.rng.random() < 0.5
            ids = self.ids(model, count) if own else None
            return ("add", ids, self.vectors(count), self.attributes(count))
        if draw < 0.5:
            held, fresh = self.some(model, 30), self.ids(model, int(self.rng.integers(0, 5)))
            ids = [*held, *fresh] or [next(iter(model.rows))]
            return ("upsert", ids, self.vectors(len(ids)), self.attributes(len(ids)))
        if draw < 0.65:
            ids = self.some(model, 30) or [next(iter(model.rows))]
            return ("update", ids, self.attributes(len(ids)))
        if draw < 0.7 and "n" in model.columns and model.below(1):
            return ("remove where", 1)
        if draw < 0.93:
            most = len(model.rows) if self.rng.random() < 0.15 else 20
            return ("remove", self.some(model, most) or [next(iter(model.rows))])
        return ("compact",)
