"""Trial: rows that change in every way, with attributes of every type, beside a dict of id -> (vector, attributes)."""

from __future__ import annotations

import copy
import pickle
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import annvq
from annvq.errors import DtypeError, DuplicateIdError, ParameterError, UnknownIdError

RECIPES = ("Flat", "IVF4,Flat", "IVF3,PQ2x4fs,Refine(Flat)", "IVF4,SQ8", "IVF3,RaBitQ3", "PQ4x8")
DIM = 8
TEXTS = ("", "a", "é", "日本", "z" * 300, "x\ny", '"', "a\0b")


def _value(kind: str, rng: np.random.Generator) -> Any:
    n = int(rng.integers(-9, 10))
    match kind:
        case "int":
            return n
        case "float":
            return n / 4
        case "bool":
            return n > 0
        case "text":
            return TEXTS[n % len(TEXTS)]
        case "bytes":
            return bytes(range(abs(n)))
        case "date":
            return date(2020, 1, 1) + timedelta(days=n)
        case "time":
            return time(1, 2, abs(n))
        case "stamp":
            return datetime(2020, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=n)
        case "span":
            return timedelta(seconds=n)
        case "decimal":
            return Decimal(n) / 4
        case "list":
            return [None if i == 2 else n + i for i in range(abs(n) % 4)]
        case "texts":
            return [TEXTS[(n + i) % len(TEXTS)] for i in range(abs(n) % 4)]
        case "struct":
            inner = {"c": TEXTS[n % len(TEXTS)], "d": [n]} if n % 3 else None
            return {"a": n, "b": inner} if n % 2 else {"a": n}
        case _:
            return [{"x": n + i, "y": None if n % 2 else str(i)} for i in range(abs(n) % 3)]


KINDS = (
    "int", "float", "bool", "text", "bytes", "date", "time", "stamp", "span", "decimal", "list", "texts", "struct",
    "structs",
)  # fmt: skip
CONFLICTS = {kind: "text" if kind != "text" else "int" for kind in KINDS}


@dataclass
class Rows:
    """What the index should hold: id -> (vector, attributes) in the order of insertion; the kinds of columns."""

    rng: np.random.Generator
    of_text: bool
    rows: dict[Any, tuple[np.ndarray, dict]] = field(default_factory=dict)
    columns: dict[str, str | None] = field(default_factory=dict)
    issued: int = 0

    def copy(self) -> Rows:
        """Return rows that change apart from these."""
        return Rows(self.rng, self.of_text, dict(self.rows), dict(self.columns), self.issued)

    def put(self, name: Any, vector: np.ndarray, values: dict) -> None:
        """Take a row, as the newest."""
        self.rows.pop(name, None)
        self.rows[name] = (vector, values)

    def fresh(self, count: int) -> list:
        """Return ids that there never were."""
        numbers = self.issued + self.rng.permutation(count)
        self.issued += count
        return [f"d{n}-é" if n % 2 else f"{n}" for n in numbers] if self.of_text else (numbers * 7 - 100).tolist()

    def some(self, most: int) -> list:
        """Return up to so many ids, in any order."""
        names = list(self.rows)
        return [names[i] for i in self.rng.permutation(len(names))[: int(self.rng.integers(0, most + 1))]]

    def vectors(self, count: int) -> np.ndarray:
        """Return (count, d) float32 small whole numbers."""
        found = self.rng.integers(-3, 4, (count, DIM)).astype(np.float32)
        found[:, 0] += (found == 0).all(axis=1)
        return found

    def attributes(self, count: int) -> tuple[list[dict], Any]:
        """Return values of some columns, all keys in every row, and the form in which they are given."""
        rng = self.rng
        if rng.random() < 0.1 or not count:
            return [{} for _ in range(count)], None
        chosen = [name for name in self.columns if rng.random() < 0.4]
        if not chosen or (len(self.columns) < 12 and rng.random() < 0.4):
            name = ("c{}", "a.b{}", 'q"{}', "new\nline{}", "日{}", " {}")[int(rng.integers(6))].format(
                len(self.columns)
            )
            self.columns.setdefault(name, None)
            chosen.append(name)
        values: dict[str, list] = {}
        for name in chosen:
            if self.columns[name] is None and rng.random() < 0.7:
                self.columns[name] = str(rng.choice(KINDS))
            kind, gaps = self.columns[name], rng.choice([0, 0.3, 1])
            values[name] = [None if kind is None or rng.random() < gaps else _value(kind, rng) for _ in range(count)]
        rows = [{name: values[name][i] for name in chosen} for i in range(count)]
        return rows, self._given(rows, values)

    def _given(self, rows: list[dict], values: dict[str, list]) -> Any:
        draw = self.rng.random()
        if draw < 0.4:
            return rows
        if draw < 0.6:
            return values
        arrays = {name: pa.array(column) for name, column in values.items()}
        for name, array in arrays.items():
            if pa.types.is_string(array.type) and self.rng.random() < 0.5:
                arrays[name] = array.dictionary_encode() if self.rng.random() < 0.5 else array.cast(pa.large_string())
        table = pa.table(arrays)
        if draw < 0.8:
            return table
        return pa.concat_tables([table.slice(0, 1), table.slice(1, 0), table.slice(1)])  # in chunks


def plain(value: Any) -> Any:
    """Return a value without fields that are null, which may come with a column's type."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if item is not None}
    return [plain(item) for item in value] if isinstance(value, list) else value


def expected(model: Rows, names: list, columns: list[str]) -> list[dict]:
    """Return rows as `Index.get` returns them."""
    return [{"id": name} | {column: plain(model.rows[name][1].get(column)) for column in columns} for name in names]


def shown(table: pa.Table) -> list[dict]:
    """Return rows of a table with `plain` values."""
    return [{key: value if key == "id" else plain(value) for key, value in row.items()} for row in table.to_pylist()]


def check(index: annvq.Index, model: Rows) -> None:
    """Look at rows in every way that there is."""
    rng, names = model.rng, list(model.rows)
    assert len(index) == index.count() == len(names)
    assert index.ids.tolist() == names
    held = index.get(limit=0).schema.names[1:]
    assert set(held) <= set(model.columns)
    assert shown(index.get()) == expected(model, names, held)
    some = [*model.some(20), *model.some(3)]
    chosen = [name for name in held if rng.random() < 0.5]
    assert shown(index.get(some, columns=chosen)) == expected(model, some, chosen)
    assert all(name in index for name in some)
    mask = rng.random(len(names)) < 0.5
    passing = [name for name, passes in zip(names, mask, strict=True) if passes]
    start, most = int(rng.integers(0, 5)), int(rng.integers(0, 9))
    assert shown(index.get(filter=mask, offset=start, limit=most)) == expected(
        model, passing[start : start + most], held
    )
    assert shown(index.get(some, filter=mask)) == expected(model, [n for n in some if n in set(passing)], held)
    assert index.count(mask) == len(passing)
    for name in held:
        if model.columns[name] == "int":
            below = [n for n in names if (model.rows[n][1].get(name) is not None and model.rows[n][1][name] < 2)]
            got = index.get(filter={name: {"$lt": 2}} if "." not in name else pc.field(name) < 2)
            assert got.column("id").to_pylist() == below
    queries = model.vectors(2)
    hits = index.search(queries, 5, columns=chosen, nprobe=9, rerank=99)
    found = [name for name in hits.ids.reshape(-1).tolist() if name not in (None, -1)]
    filled = (hits.scores.reshape(-1) > -np.inf).nonzero()[0]
    assert hits.attributes.num_rows == hits.ids.size
    if chosen:
        attributes = [{"id": n} | row for n, row in zip(found, shown(hits.attributes.take(filled)), strict=True)]
        assert attributes == expected(model, found, chosen)
    if "Flat" in index.recipe.name and names:
        got = index.get(some, columns=[], vectors=True).column("vector").to_pylist()
        assert got == [model.rows[name][0].tolist() for name in some]
        base = np.array([vector for vector, _ in model.rows.values()])
        exact = np.sort(queries @ base.T, axis=1)[:, ::-1][:, :5]
        assert hits.scores[:, : exact.shape[1]].tolist() == exact.tolist()


def refuses(index: annvq.Index, model: Rows) -> int:
    """Try a change that must be refused, after which everything is as before."""
    rng, ids, typed = model.rng, model.some(3), [name for name, kind in model.columns.items() if kind]
    held = index.get(limit=0).schema
    typed = [name for name in typed if name in held.names and held.field(name).type != pa.null()]
    version, fresh = index.version, model.fresh(1)[0]
    if typed and rng.random() < 0.6:
        name = str(rng.choice(typed))
        wrong = {name: [_value(CONFLICTS[model.columns[name] or ""], rng)]}
        changes = [(DtypeError, lambda: index.upsert(model.vectors(1), [fresh], wrong))]
        if ids:
            changes.append((DtypeError, lambda: index.update(ids[:1], wrong)))
            changes.append((DtypeError, lambda: index.upsert(model.vectors(1), ids[:1], wrong)))
    else:
        changes = [
            (DuplicateIdError, lambda: index.upsert(model.vectors(2), [fresh, fresh])),
            (UnknownIdError, lambda: index.update([*ids, fresh], {"n": [1] * (len(ids) + 1)})),
            (UnknownIdError, lambda: index.remove([*ids, fresh])),
            (ParameterError, lambda: index.upsert(model.vectors(1))),
        ]
    for error, change in changes:
        try:
            change()
        except error:
            assert index.version == version
            continue
        raise AssertionError(f"{error.__name__} was expected")
    return len(changes)


def change(index: annvq.Index, model: Rows) -> None:
    """Make one change of rows, on both."""
    rng, draw = model.rng, model.rng.random()
    count = int(rng.choice([1, 1, 2, 7, 40]))
    if draw < 0.25 or not model.rows:
        ids = model.fresh(count)
        vectors, (rows, given) = model.vectors(count), model.attributes(count)
        index.add(vectors, ids, given)
    elif draw < 0.55:
        ids = [*model.some(count), *model.fresh(int(rng.integers(0, 4)))]
        vectors, (rows, given) = model.vectors(len(ids)), model.attributes(len(ids))
        index.upsert(vectors, ids, given)
    elif draw < 0.75:
        ids = model.some(count)
        rows, given = model.attributes(len(ids))
        index.update(ids, rows if given is None else given)
        if given is not None:
            for name, values in zip(ids, rows, strict=True):
                vector, held = model.rows[name]
                model.put(name, vector, held | values)
        return
    elif draw < 0.85:
        ids = model.some(10)
        assert index.remove([*ids, *model.fresh(1)], missing="ignore") == len(ids)
        for name in ids:
            del model.rows[name]
        return
    elif draw < 0.93:
        mask = rng.random(len(model.rows)) < rng.choice([0, 0.1, 0.9, 1])
        gone = [name for name, passes in zip(list(model.rows), mask, strict=True) if passes]
        assert index.remove(filter=mask) == len(gone)
        for name in gone:
            del model.rows[name]
        return
    else:
        index.compact()
        return
    for name, vector, values in zip(ids, vectors, rows, strict=True):
        model.put(name, vector, values)


def carried(index: annvq.Index, model: Rows, folder: Path, number: int) -> annvq.Index:
    """Return the same rows after they were saved, sent, copied or joined with others."""
    draw = int(model.rng.integers(7))
    if draw == 0:
        return annvq.from_bytes(index.to_bytes())
    if draw == 1:
        return index.copy()
    if draw == 2:
        return pickle.loads(pickle.dumps(index)) if index.rows.path is None else index
    if draw == 3:
        return copy.deepcopy(index) if index.rows.path is None else index
    if draw == 4 and model.rows:
        ids, vectors = model.fresh(3), model.vectors(3)
        rows, given = model.attributes(3)
        other = annvq.build(vectors, trained=index, ids=ids, attributes=given)
        for name, vector, values in zip(ids, vectors, rows, strict=True):
            model.put(name, vector, values)
        return annvq.merge([index, other])
    path = folder / str(number)
    index.save(path)
    index.close()
    return annvq.open(path, str(model.rng.choice(["rw", "copy"])))


def trial(rng: np.random.Generator, folder: Path) -> Counter:
    """Run one trial; return counts of what was done."""
    model = Rows(rng, bool(rng.random() < 0.5))
    count = 60
    ids, vectors = model.fresh(count), model.vectors(count)
    rows, given = model.attributes(count)
    index = annvq.build(vectors, str(rng.choice(RECIPES)), ids=ids, attributes=given)
    for name, vector, values in zip(ids, vectors, rows, strict=True):
        model.put(name, vector, values)
    counts: Counter = Counter(indexes=1)
    for number in range(int(rng.integers(10, 40))):
        change(index, model)
        check(index, model)
        if rng.random() < 0.4:
            counts["refusals"] += refuses(index, model)
            check(index, model)
        if rng.random() < 0.3:
            before = index
            index = carried(index, model, folder, number)
            check(index, model)
            counts["carried"] += int(index is not before)
        counts["changes"] += 1
    index.verify()
    index.close()
    return counts
