"""Small indexes, one for every kind of codebook, and ways to write them again with other content."""

import numpy as np
import pyarrow as pa

import annvq
from annvq.storage import Store

N, D = 120, 10
RNG = np.random.default_rng(7)
BASE = RNG.normal(size=(N, D)).astype(np.float32)
QUERIES = RNG.normal(size=(5, D)).astype(np.float32)


def _recipe(kind, nlist=3, rotation=None, dims=None, refine=None, **codebook):
    made = {
        "nlist": nlist,
        "rotation": rotation,
        "dims": dims,
        "refine": refine,
        "codebook": {"kind": kind, **codebook},
    }
    return annvq.Recipe.from_dict({key: value for key, value in made.items() if value is not None})


# M = 4 does not divide D = 10: OPQ turns 10 dimensions into 12.
RECIPES = {
    "fp32": _recipe("fp32", nlist=None),
    "fp16": _recipe("fp16"),
    "sq8": _recipe("sq8", rotation="random"),
    "sq4": _recipe("sq4", refine="fp32"),
    "pq4": _recipe("pq", M=4, nbits=4, residual=True, refine="sq8"),
    "opq-pq8": _recipe("pq", rotation="opq", M=4, nbits=8),
    "pq4-local": _recipe("pq", rotation="pca", dims=8, M=4, nbits=4, residual=True, refine="lvq8x8"),
    "rvq": _recipe("rvq", M=2, nbits=4, residual=True, refine="fp16"),
    "rabitq": _recipe("rabitq", rotation="random", nbits=3, residual=True),
    "graph": _recipe("graph", nlist=None, M=3),
}
WITH_STR_IDS = ("fp16", "pq4", "rabitq")


def ids_of(kind, count=N):
    """Return ids that are not the rows' numbers: str for some kinds, else far-apart integers."""
    return [f"é{i:03}" for i in range(count)] if kind in WITH_STR_IDS else np.arange(count) * 10 - 50


def built(kind, metric="l2", removed=7):
    """Return an index of N rows with attributes, the first of which are removed."""
    table = pa.table({"year": np.arange(N) % 9, "name": pa.array([f"n{i % 5}" for i in range(N)])})
    ids = ids_of(kind)
    index = annvq.build(BASE, RECIPES[kind], metric=metric, ids=ids, attributes=table, seed=1)
    if removed:
        index.remove(ids[:removed])
    return index


class Parts:
    """What an index on disk is made of: its configuration and the sections of every container."""

    def __init__(self, path):
        with Store.open(path) as store:
            self.config = store.config
            self.trained = dict(store.sections(self.config["trained"]))
            self.segments = [dict(store.sections(entry["name"])) for entry in self.config["segments"]]
            lives = [entry["live"] for entry in self.config["segments"]]
            self.lives = [None if live is None else dict(store.sections(live)) for live in lives]

    def write(self, path):
        """Write the parts with right checksums, whatever they hold; what ``config`` names is put right."""
        with Store.create(path) as store:
            names = [store.stage("trained", self.trained)]
            entries = []
            for segment, live in zip(self.segments, self.lives, strict=True):
                name = store.stage("segment", segment)
                live_name = None if live is None else store.stage("live", live)
                entries.append({"name": name, "live": live_name})
                names += [part for part in (name, live_name) if part is not None]
            given = self.config
            config = {**given, "trained": names[0], "segments": entries} if isinstance(given, dict) else given
            store.commit(config, names)
