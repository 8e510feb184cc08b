"""Indexes of every kind, random damage to them with right checksums, and everything that can be done to an index.

What is looked for are crashes: `attempts` is to run in a process of its own, which says what it is about to do.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from small_indexes import BASE, QUERIES, RECIPES, WITH_STR_IDS, Parts, built, ids_of

import annvq
from annvq.errors import AnnvqError, DuplicateIdError, UnknownIdError
from annvq.index.recipe.spec import CodebookSpec
from annvq.multivector import MultiVectorIndex
from annvq.multivector.recipe import EncoderSpec, MultiVectorRecipe, TokenSpec

RNG = np.random.default_rng(11)
SPILL = annvq.Recipe(nlist=3, codebook=CodebookSpec(kind="pq", M=4, nbits=4, residual=True), refine="sq8", spill=True)
FLAT_PQ = annvq.Recipe(codebook=CodebookSpec(kind="pq", M=4, nbits=4))
TOKENS = {
    "tokens-fp32": TokenSpec(kind="fp32"),
    "tokens-fp16": TokenSpec(kind="fp16"),
    "tokens-sq8": TokenSpec(kind="sq8"),
    "tokens-pq": TokenSpec(kind="pq", bits=2, ncentroids=4),
    "tokens-rabitq": TokenSpec(kind="rabitq", bits=2),
}
CANDIDATES_BY = {"tokens-fp32": "encoding", "tokens-fp16": "all", "tokens-sq8": "tokens", "tokens-pq": "centroids",
                 "tokens-rabitq": "distinct-tokens"}  # fmt: skip
KINDS = (*RECIPES, "spill", "flat-pq4", *TOKENS)
SETS = [RNG.normal(size=(int(t), 6)).astype(np.float32) for t in RNG.integers(1, 9, 60)]
NEW_SETS = [RNG.normal(size=(3, 6)).astype(np.float32) for _ in range(40)]


def is_multi(kind):
    return kind in TOKENS


def attributes(n):
    names = [f"n{i % 5}" for i in range(n)]
    return pa.table({"year": np.arange(n) % 9, "name": names, "tags": [[name, "x"] for name in names]})


def opened(path, kind, mode="r", **options):
    return (MultiVectorIndex.open if is_multi(kind) else annvq.open)(path, mode, **options)


def save(kind, path):
    """Save an index with two segments, one of them with removed rows."""
    if is_multi(kind):
        table = attributes(60)
        recipe = MultiVectorRecipe(
            encoder=EncoderSpec(repetitions=2, simhash_bits=2, projection_dim=4), index=FLAT_PQ, tokens=TOKENS[kind],
            candidates_by=CANDIDATES_BY[kind],
        )  # fmt: skip
        index = MultiVectorIndex.build(SETS, recipe, attributes=table, seed=1)
        index.add(NEW_SETS[:12], attributes=table.slice(0, 12))
        index.remove([3, 4, 5])
    else:
        index = built(kind, "ip") if kind in RECIPES else _built(SPILL if kind == "spill" else FLAT_PQ)
        table = attributes(40)
        index.add(BASE[:40] + np.float32(0.5), ids=new_ids(kind, 0, 40), attributes=table)
    index.save(path)


def _built(recipe):
    index = annvq.build(BASE, recipe, attributes=attributes(len(BASE)), seed=1)
    index.remove([0, 1, 2])
    return index


def new_ids(kind, start, count):
    """Return ids that no index of the kind has yet."""
    numbers = range(100_000 + start, 100_000 + start + count)
    return [f"new{i}" for i in numbers] if kind in WITH_STR_IDS else list(numbers)


def held_ids(kind):
    if is_multi(kind):
        return list(range(20, 25))
    return ids_of(kind)[50:55] if kind in RECIPES else list(range(50, 55))


def read(index, kind):
    """Yield every way of reading an index."""
    many = [SETS[0], SETS[1]] if is_multi(kind) else QUERIES
    one = [SETS[2]] if is_multi(kind) else QUERIES[:1]
    deep = {"candidates": 50} if is_multi(kind) else {"rerank": 50}
    yield "search", lambda: index.search(many, 20, nprobe=3, **deep)
    yield "search for one", lambda: index.search(one, 5, threads=1)
    yield "filter", lambda: index.search(many, 3, filter=(pc.field("name") == "n3") & (pc.field("year") > 2))
    yield "filter by mask", lambda: index.search(many, 3, filter=np.arange(len(index)) % 2 == 0)
    yield "filter by ids", lambda: index.search(many, 3, filter=held_ids(kind))
    yield "reconstruct", lambda: index.reconstruct(held_ids(kind))
    yield "ids", lambda: index.ids
    yield "is held", lambda: held_ids(kind)[0] in index
    yield "count", lambda: index.count({"year": {"$gt": 2}})
    yield "get some", lambda: index.get(held_ids(kind), columns=["name", "year"]).to_pylist()
    yield "get all", lambda: index.get(filter={"year": {"$lt": 7}}, vectors=True).to_pylist()
    yield "search with attributes", lambda: index.search(many, 9, columns=["name", "tags"]).attributes.to_pylist()
    yield "stats", index.stats
    if not is_multi(kind):
        yield "range search", lambda: index.range_search(one, 1.0, nprobe=3)


def write(index, kind, folder):
    """Yield every way of writing what an index holds, with reading in between."""
    table = attributes(40)
    vectors = NEW_SETS if is_multi(kind) else BASE[:40] - np.float32(0.5)
    yield "save elsewhere", lambda: index.save(folder / "elsewhere")
    yield "remove", lambda: index.remove(held_ids(kind)[:2])
    yield "add", lambda: index.add(vectors[:2], ids=new_ids(kind, 50, 2), attributes=table[:2])
    yield "update", lambda: index.update(held_ids(kind)[2:5], {"name": ["a", None, "b"], "new": [1, 2, 3]})
    yield "upsert", lambda: index.upsert(vectors[:2], held_ids(kind)[3:5], table[:2])
    yield "remove by filter", lambda: index.remove(filter={"name": "n4"})
    yield "to bytes", index.to_bytes
    yield "add and merge", lambda: index.add(vectors, ids=new_ids(kind, 60, 40), attributes=table)
    yield "compact", index.compact
    yield from ((f"{name} afterwards", action) for name, action in read(index, kind))
    yield "verify afterwards", index.verify


WHOLE = [0, 1, 2, 3, 5, 31, 32, 33, 59, 60, 119, 120, 121, 127, 128, 255, 1000, 65535, 65536, 2**31 - 1, 2**31,
         2**32 - 1, 2**40, 2**62, 2**63 - 1, -1, -2, -(2**31), -(2**63)]  # fmt: skip
FLOATS = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, 6e4, 1e18, 2.0**61, 1e20, 3e38, -3e38]


def damaged(array, rng):
    """Return an array changed at random."""
    array, change = array.copy(), rng.integers(9)
    flat = array.reshape(-1)
    if change == 0 and array.ndim:
        return array[:-1] if len(array) and rng.random() < 0.5 else np.concatenate([array, array[-1:]])
    if change == 1:
        return array[None] if array.dtype.kind == "f" else array.astype(rng.choice(["u1", "u4", "i4", "i8", "f2"]))
    if change == 2 and array.size > 1:
        rng.shuffle(flat)
    elif change == 3 and array.size > 1:
        flat[rng.integers(array.size)] = flat[rng.integers(array.size)]
    elif change == 4 and array.size > 1:
        flat[:] = flat[rng.integers(array.size)]
    elif change == 5 and array.size:
        flat.view(np.uint8)[rng.integers(array.nbytes, size=3)] ^= np.uint8(1 << rng.integers(8))
    else:
        for place in rng.integers(array.size, size=int(rng.integers(1, 4))) if array.size else []:
            if array.dtype.kind == "f":
                with np.errstate(over="ignore"):
                    flat[place] = np.float64(rng.choice(FLOATS)).astype(array.dtype)
            else:
                flat[place] = np.array(WHOLE[rng.integers(len(WHOLE))]).astype(array.dtype)
    return array


def damaged_config(raw, rng):
    """Return the JSON of trained parts with one of its values changed."""
    config = json.loads(bytes(raw))
    places = []

    def walk(value):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            places.append((value, key))
            if isinstance(inner, dict | list):
                walk(inner)

    walk(config)
    holder, key = places[rng.integers(len(places))]
    given = [None, True, 0, 1, 2, 3, 4, 8, 16, 100, 1 << 20, 1 << 31, 1 << 62, -1, 0.5, "x", "pq", "sq8", [], {}]
    holder[key] = given[rng.integers(len(given))]
    return np.frombuffer(json.dumps(config).encode(), np.uint8)


def damage(parts, rng):
    """Change one or two sections of an index's parts; return which."""
    done = []
    for _ in range(int(rng.integers(1, 3))):
        where = rng.integers(5)
        sections = parts.trained if where == 0 else parts.segments[where % len(parts.segments)]
        lives = [live for live in parts.lives if live is not None]
        if where == 4 and lives and rng.random() < 0.3:
            sections = lives[0]
        name = sorted(sections)[rng.integers(len(sections))]
        make = damaged_config if name == "config" else damaged
        sections[name] = make(sections[name], rng)
        done.append(name)
    return done


def attempt(kind, saved, seed, say):
    """Damage a saved index and do everything to it; return the faults: errors of others than annvq."""
    rng = np.random.default_rng(seed)
    folder = Path(tempfile.mkdtemp(prefix="annvq-hostile-"))
    faults, doing = [], "damage"
    try:
        parts = Parts(saved)
        done = damage(parts, rng)
        parts.write(folder / "index")
        say(f"{kind} seed {seed} {done}")

        def passes(name, action):
            nonlocal doing
            doing = name
            say(f"{kind} seed {seed} {done}: {name}")
            try:
                action()
                return True
            except (UnknownIdError, DuplicateIdError):
                return True  # ids are numbers and texts like any others
            except AnnvqError as error:
                return str(error)[:200]
            except Exception as error:
                faults.append(f"{kind} seed {seed} {done}: {name}: {error!r:.300}")
                return repr(error)

        sound = passes("verify", lambda: opened(folder / "index", kind, verify=True).close())
        index = None

        def open_index():
            nonlocal index
            index = opened(folder / "index", kind, "rw")

        if passes("open", open_index) is True:
            with index:
                for name, action in (*read(index, kind), *write(index, kind, folder)):
                    said = passes(name, action)
                    if sound is True and said is not True and isinstance(said, str):
                        faults.append(f"{kind} seed {seed} {done}: verify passes, but {name}: {said}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return faults


def attempts(kind, seeds, say=print):
    """Try an index of a kind with every seed; return all faults."""
    with tempfile.TemporaryDirectory(prefix="annvq-hostile-") as folder:
        save(kind, Path(folder) / "saved")
        return [fault for seed in seeds for fault in attempt(kind, Path(folder) / "saved", seed, say)]


def main():
    """Print the faults of some kinds; a file keeps what is about to be done, in case it ends the process."""
    import faulthandler
    import warnings

    from annvq.storage.filesystem import LocalFileSystem

    faulthandler.enable()
    warnings.simplefilter("ignore")
    LocalFileSystem.sync = LocalFileSystem.sync_folder = lambda self, what: None
    kinds, first, last = sys.argv[1].split(","), int(sys.argv[2]), int(sys.argv[3])
    last_said = open(sys.argv[4], "w") if len(sys.argv) > 4 else None

    def say(text):
        if last_said is not None:
            last_said.seek(0)
            last_said.write(f"{text:<400}")
            last_said.flush()

    found = 0
    for kind in kinds:
        faults = attempts(kind, range(first, last), say)
        print("\n".join(faults))
        print(f"{kind}: {last - first} attempts, {len(faults)} faults")
        found += len(faults)
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
