"""Damaged and inconsistent indexes are refused with an error that says where; none crashes a search."""

import json
import shutil
from contextlib import suppress
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from small_indexes import BASE, QUERIES, RECIPES, WITH_STR_IDS, D, N, Parts, built, ids_of

import annvq
from annvq.errors import AnnvqError, CorruptIndexError, VersionError


def use(index):
    """Reach every stored array: search all lists, filter, reconstruct, merge."""
    index.search(QUERIES, 20, nprobe=3, rerank=50)
    index.range_search(QUERIES[:1], 1.0, nprobe=3)
    index.search(QUERIES, 3, filter=(pc.field("name") == "n3") & (pc.field("year") > 2))
    index.reconstruct(ids_of("pq4" if index.search(QUERIES[:1], 1).ids.dtype == object else "fp32")[50:55])


def open_use_verify(path):
    """Open, search whatever that says, then verify."""
    with annvq.open(path) as index:
        with suppress(AnnvqError):
            use(index)
        index.verify()


def overwrite(file, raw):
    """Write in place: a mapped file that gets shorter kills its reader."""
    with file.open("r+b") as opened:
        opened.write(raw)


def flips(raw, count=15):
    """Yield (offset, bytes with one bit of it flipped) at places spread over a file, its ends included."""
    rng = np.random.default_rng(len(raw))
    offsets = {*range(0, 64, 9), *range(len(raw) - 64, len(raw), 9), *rng.integers(0, len(raw), count).tolist()}
    for offset in sorted(offsets):
        changed = bytearray(raw)
        changed[offset] ^= 1 << int(rng.integers(8))
        yield offset, bytes(changed)


@pytest.mark.parametrize("kind", RECIPES)
def test_every_flipped_bit_is_found_and_crashes_nothing(kind, saved, tmp_path):
    path = shutil.copytree(saved(kind), tmp_path / "index")
    for file in sorted(path.iterdir()):
        if file.name == "LOCK":
            continue
        raw = file.read_bytes()
        for offset, changed in flips(raw):
            overwrite(file, changed)
            with pytest.raises((CorruptIndexError, VersionError)) as caught:
                open_use_verify(path)
            assert file.name in str(caught.value), offset
        overwrite(file, raw)
    with annvq.open(path) as index:
        index.verify()


def refused(parts, path):
    """Write parts; return the message with which opening or verifying refuses them, after a search in between."""
    parts.write(path)
    with pytest.raises((CorruptIndexError, VersionError)) as caught:
        open_use_verify(path)
    return str(caught.value)


def changed(sections, name, change):
    """Replace a section by what ``change`` makes of a copy of it, which may be changed in place."""
    array = sections[name].copy()
    made = change(array)
    sections[name] = array if made is None else made


def put(place, value):
    """Return a change that puts a value somewhere."""

    def change(array):
        array[place] = value

    return change


WRAPPED = np.array([2**63 - 1, -2], np.int64)  # after 0, every difference modulo 2^64 is positive

SEGMENT_DAMAGE = {
    "offsets begin above 0": ("pq4", "offsets", put(0, 1)),
    "offsets fall": ("pq4", "offsets", put(1, N + 1)),
    "offsets negative": ("pq4", "offsets", put(1, -5)),
    "offsets whose differences wrap around": ("pq4", "offsets", put(slice(1, 3), WRAPPED)),
    "offsets end early": ("pq4", "offsets", put(3, N - 1)),
    "offsets end late": ("pq4", "offsets", put(3, N + 1)),
    "offsets end at 2^62": ("fp16", "offsets", put(3, 1 << 62)),
    "offsets of another dtype": ("pq4", "offsets", lambda a: a.astype(np.uint64)),
    "offsets too few": ("pq4", "offsets", lambda a: a[[0, 1, 3]]),
    "offsets none": ("pq4", "offsets", lambda a: a[:0]),
    "offsets scalar": ("pq4", "offsets", lambda a: np.array(3)),
    "offsets with two axes": ("pq4", "offsets", lambda a: a[None]),
    "positions out of range": ("pq4", "positions", put(3, N)),
    "positions twice": ("pq4", "positions", lambda a: np.where(a == 5, 6, a).astype(np.uint32)),
    "positions of another dtype": ("pq4", "positions", lambda a: a.astype(np.int64)),
    "positions too few": ("pq4", "positions", lambda a: a[:-1]),
    "ids too few": ("fp32", "ids", lambda a: a[:-1]),
    "ids of another dtype": ("fp32", "ids", lambda a: a.astype(np.uint64)),
    "ids with two axes": ("fp32", "ids", lambda a: a[:, None]),
    "ids twice": ("fp32", "ids", put(9, -50 + 10 * 100)),
    "ids with the mark of missing places": ("fp32", "ids", put(9, -1)),
    "str ids too few": ("pq4", "id_offsets", lambda a: a[:-1]),
    "str ids without offsets": ("pq4", "id_offsets", lambda a: a[:0]),
    "str ids from above 0": ("pq4", "id_offsets", put(0, 2)),
    "str ids past the bytes": ("pq4", "id_offsets", put(-1, 1 << 40)),
    "str ids fall": ("pq4", "id_offsets", put(50, 7)),
    "str ids whose lengths wrap around": ("pq4", "id_offsets", put(slice(1, 3), WRAPPED)),
    "str ids twice": ("pq4", "id_bytes", lambda a: np.tile(a[:5], N)),
    "str ids not UTF-8": ("pq4", "id_bytes", put(slice(250, 300), 0xFF)),
    "str ids of another dtype": ("pq4", "id_bytes", lambda a: a.view(np.int8)),
    "rows too few": ("fp32", "array.codes", lambda a: a[:-1]),
    "rows too short": ("fp32", "array.codes", lambda a: a[:, :-1]),
    "rows flat": ("fp32", "array.codes", lambda a: a.reshape(-1)),
    "rows of another dtype": ("fp32", "array.codes", lambda a: a.astype(np.float64)),
    "rows NaN": ("fp32", "array.codes", put((7, 3), np.nan)),
    "half rows infinite": ("fp16", "array.codes", put((7, 3), np.inf)),
    "half rows as integers": ("fp16", "array.codes", lambda a: a.view(np.uint16)),
    "bytes too few": ("sq8", "array.codes", lambda a: a[:-1]),
    "bytes signed": ("sq8", "array.codes", lambda a: a.view(np.int8)),
    "constants too few": ("pq4", "array.constants", lambda a: a[:-1]),
    "constants NaN": ("pq4", "array.constants", put(0, np.nan)),
    "refine rows too few": ("pq4", "array.refine", lambda a: a[:-1]),
    "refine rows of another kind": ("pq4", "array.refine", lambda a: a.astype(np.float16)),
    "packed bytes too few": ("opq-pq8", "array.codes", lambda a: a[:-32]),
    "packed bytes in blocks": ("opq-pq8", "array.codes", lambda a: a.reshape(-1, 32)),
    "planes too short": ("rabitq", "array.codes1", lambda a: a[:, :-1]),
    "planes too few": ("rabitq", "array.codes_ex", lambda a: a[:, :8]),
    "factors too few": ("rabitq", "array.factors", lambda a: a[:, :3]),
    "factors NaN": ("rabitq", "array.factors", put((3, 1), np.nan)),
    "attributes no Arrow": ("fp32", "attributes", put(slice(-8, None), 0)),
    "attributes cut": ("fp32", "attributes", lambda a: a[: len(a) // 2]),
    "attributes none": ("fp32", "attributes", lambda a: a[:0]),
    "attributes scalar": ("fp32", "attributes", lambda a: np.array(3, np.uint8)),
}


@pytest.mark.parametrize("case", SEGMENT_DAMAGE)
def test_a_segment_that_does_not_fit_itself_is_refused(case, saved, tmp_path):
    kind, section, change = SEGMENT_DAMAGE[case]
    parts = Parts(saved(kind))
    changed(parts.segments[0], section, change)
    message = refused(parts, tmp_path / "index")
    assert "segment-" in message
    assert "section" in message or " ids for " in message


@pytest.mark.parametrize("kind", RECIPES)
def test_every_section_is_missed(kind, saved, tmp_path):
    for name in Parts(saved(kind)).segments[0]:
        parts = Parts(saved(kind))
        del parts.segments[0][name]
        if name == "attributes":  # an index without them is whole
            parts.write(tmp_path / "index")
            annvq.open(tmp_path / "index").verify()
        else:
            assert "segment-" in refused(parts, tmp_path / "index")
    for name in Parts(saved(kind)).trained:
        parts = Parts(saved(kind))
        del parts.trained[name]
        assert "trained-" in refused(parts, tmp_path / "index")


@pytest.mark.parametrize("kind", ["fp32", "pq4", "opq-pq8", "rabitq"])
def test_no_section_may_have_another_dtype_or_shape(kind, saved, tmp_path):
    for where in ("segment", "trained", "live"):
        of = {"segment": lambda p: p.segments[0], "trained": lambda p: p.trained, "live": lambda p: p.lives[0]}[where]
        for name in of(Parts(saved(kind))):
            for change in (
                lambda a: a.astype(np.float64),
                lambda a: a[None],
                lambda a: np.array(1 << 40),
                lambda a: a[:0],
            ):
                parts = Parts(saved(kind))
                changed(of(parts), name, change)
                assert f"{where}-" in refused(parts, tmp_path / "index"), name


def test_attributes_of_other_rows_are_refused(saved, tmp_path):
    parts = Parts(saved("fp32"))
    parts.segments[0]["attributes"] = arrow_file(pa.table({"year": np.arange(N - 1), "name": ["n3"] * (N - 1)}))
    assert f"{N - 1} rows of attributes" in refused(parts, tmp_path / "index")


def arrow_file(table):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return np.frombuffer(sink.getvalue(), np.uint8)


def strings_astray():
    """Return strings whose offsets point far outside of their bytes."""
    offsets = np.full(N + 1, 1 << 30, np.int32)
    offsets[0], offsets[-1] = 0, 5
    return pa.StringArray.from_buffers(N, pa.py_buffer(offsets), pa.py_buffer(b"n1234"))


def words_astray():
    """Return dictionary indices that name no word."""
    return pa.DictionaryArray.from_arrays(pa.array(np.full(N, 1 << 30, np.int32)), pa.array(["a", "n3"]), safe=False)


@pytest.mark.parametrize("column", [strings_astray, words_astray])
def test_arrow_that_points_astray_is_refused_before_it_is_followed(column, saved, tmp_path):
    parts = Parts(saved("fp32"))
    table = pa.table({"year": np.arange(N), "name": column()})
    parts.segments[0]["attributes"] = arrow_file(table)
    assert "attributes" in refused(parts, tmp_path / "index")
    with suppress(CorruptIndexError), annvq.open(tmp_path / "index") as index:
        with pytest.raises(CorruptIndexError, match="attributes"):
            index.search(QUERIES, 3, filter=pc.field("name") == "n3")
    with suppress(CorruptIndexError), annvq.open(tmp_path / "index", "rw") as index:
        with pytest.raises(CorruptIndexError, match="attributes"):
            index.compact()


@pytest.mark.parametrize(
    "change",
    [
        lambda live: live.update(live=live["live"][:-1]),
        lambda live: live.update(live=live["live"].view(np.int8)),
        lambda live: live.update(rows=np.array([N - 1])),
        lambda live: live.update(rows=np.array([N, N])),
        lambda live: live.update(rows=np.array(float(N))),
        lambda live: live.pop("live"),
        lambda live: live.pop("rows"),
    ],
)
def test_a_bitmap_that_does_not_fit_is_refused(change, saved, tmp_path):
    parts = Parts(saved("fp32"))
    change(parts.lives[0])
    assert "live-" in refused(parts, tmp_path / "index")


# What training left


def settings(change):
    """Return a change of the trained parts' JSON, in place or by what ``change`` returns."""

    def apply(trained):
        config = json.loads(bytes(trained["config"]))
        made = change(config)
        text = json.dumps(config) if made is None else made if isinstance(made, str) else json.dumps(made)
        trained["config"] = np.frombuffer(text.encode(), np.uint8)

    return apply


def setting(path, value):
    """Return a change of one setting; ``path`` is dotted, "..." removes it."""

    def change(config):
        *outer, last = path.split(".")
        for key in outer:
            config = config[key]
        if value is ...:
            del config[last]
        else:
            config[last] = value

    return settings(change)


def array(name, change):
    return lambda trained: changed(trained, name, change)


def shorten_refine_codebook(trained):
    for name in ("minimum", "step"):
        changed(trained, f"refine_codebook.{name}", lambda a: a[:-1])


TRAINED_DAMAGE = {
    "centroids of another dimension": ("pq4", array("centroids", lambda a: a[:, :-1])),
    "centroids too few": ("pq4", array("centroids", lambda a: a[:-1])),
    "centroids NaN": ("pq4", array("centroids", put((1, 1), np.nan))),
    "centroids of rabitq infinite": ("rabitq", array("centroids", put((1, 1), -np.inf))),
    "codebooks NaN": ("pq4", array("codebook.codebooks", put((0, 3, 1), np.nan))),
    "codebooks infinite": ("rvq", array("codebook.codebooks", put((0, 3, 1), np.inf))),
    "codebooks one fewer": ("pq4", array("codebook.codebooks", lambda a: a[:-1])),
    "codebooks one more": ("pq4", array("codebook.codebooks", lambda a: np.concatenate([a, a[:1]]))),
    "codebooks of 15 entries": ("pq4", array("codebook.codebooks", lambda a: a[:, :15])),
    "codebooks of 256 entries": ("pq4", array("codebook.codebooks", lambda a: np.tile(a, (1, 16, 1)))),
    "stages one fewer": ("rvq", array("codebook.codebooks", lambda a: a[:-1])),
    "stages of another dimension": ("rvq", array("codebook.codebooks", lambda a: a[:, :, :-1])),
    "rotation NaN": ("opq-pq8", array("rotation.matrix", put((0, 0), np.nan))),
    "rotation no rotation": ("opq-pq8", array("rotation.matrix", put(slice(None), 0))),
    "rotation whose products overflow": ("sq8", array("rotation.matrix", lambda a: np.copysign(np.float32(3e38), a))),
    "rotation of another dimension": ("sq8", array("rotation.matrix", lambda a: np.eye(D - 1, dtype=np.float32))),
    "rotation to another dimension": ("opq-pq8", array("rotation.matrix", lambda a: np.eye(D, dtype=np.float32))),
    "steps negative": ("sq8", array("codebook.step", put(0, -1))),
    "minimum NaN": ("sq4", array("codebook.minimum", put(0, np.nan))),
    "refine codebook of another dimension": ("pq4", shorten_refine_codebook),
    "signs too short": ("rabitq", array("codebook.signs", lambda a: a[:, :-1])),
    "refine codebook missing": ("pq4", setting("refine_codebook", ...)),
    "codebook missing": ("pq4", setting("codebook", ...)),
    "rotation missing": ("opq-pq8", setting("rotation", ...)),
    "rotation too much": ("opq-pq8", setting("recipe.rotation", ...)),
    "codebook of no recipe": ("pq4", setting("recipe", {"codebook": {"kind": "fp32"}})),
    "recipe of another kind": ("pq4", setting("recipe.codebook", {"kind": "rvq", "M": 4, "nbits": 4})),
    "recipe of other codes": ("pq4", setting("recipe.codebook.M", 5)),
    "recipe of other bits": ("pq4", setting("recipe.codebook.nbits", 8)),
    "recipe of other RaBitQ bits": ("rabitq", setting("recipe.codebook.nbits", 2)),
    "recipe of no number": ("pq4", setting("recipe.codebook.M", "d/2")),
    "recipe of other lists": ("pq4", setting("recipe.nlist", 4)),
    "recipe of no lists": ("sq8", setting("recipe.nlist", ...)),
    "recipe of auto lists": ("pq4", setting("recipe.nlist", "auto")),
    "recipe with a field too much": ("pq4", setting("recipe.colour", "red")),
    "recipe with a wrong type": ("pq4", setting("recipe.nlist", "many")),
    "recipe with another refine": ("pq4", setting("recipe.refine", "fp16")),
    "recipe without codebook": ("pq4", setting("recipe.codebook", ...)),
    "recipe a list": ("pq4", setting("recipe", [])),
    "recipe none": ("pq4", setting("recipe", ...)),
    "class unknown": ("pq4", setting("codebook.class", "Popen")),
    "class no text": ("pq4", setting("codebook.class", ["a"])),
    "class of another codebook": ("pq4", setting("codebook.class", "ScalarCodebook")),
    "class none": ("pq4", setting("codebook.class", ...)),
    "codebook a list": ("pq4", setting("codebook", [["class", "ProductCodebook"]])),
    "codebook text": ("pq4", setting("codebook", "ProductCodebook")),
    "rotation text": ("opq-pq8", setting("rotation", "Rotation")),
    "dimension of codebook huge": ("pq4", setting("codebook.dim", 1 << 70)),
    "dimension of codebook another": ("pq4", setting("codebook.dim", D - 1)),
    "eta text": ("pq4", setting("codebook.anisotropic_eta", "1")),
    "bits text": ("rabitq", setting("codebook.bits", "3")),
    "bits another": ("rabitq", setting("codebook.bits", 2)),
    "beam huge": ("rvq", setting("codebook.beam", 1 << 40)),
    "kind another": ("sq8", setting("codebook.kind", "sq4")),
    "dim another": ("fp32", setting("dim", D + 1)),
    "dim zero": ("fp32", setting("dim", 0)),
    "dim negative": ("fp32", setting("dim", -D)),
    "dim a fraction": ("fp32", setting("dim", float(D))),
    "dim true": ("fp32", setting("dim", True)),
    "dim huge": ("fp32", setting("dim", 1 << 200)),
    "dim none": ("fp32", setting("dim", ...)),
    "metric another": ("fp32", setting("metric", "hamming")),
    "metric a list": ("fp32", setting("metric", ["l2"])),
    "settings a list": ("fp32", settings(lambda config: [config])),
    "settings a number": ("fp32", settings(lambda config: "7")),
    "settings not JSON": ("fp32", settings(lambda config: "{")),
    "settings empty": ("fp32", settings(lambda config: "")),
    "settings deep": ("fp32", settings(lambda config: "[" * 100_000)),
    "settings with a number of 10000 digits": ("fp32", settings(lambda config: '{"dim":' + "9" * 10_000 + "}")),
    "settings not UTF-8": ("fp32", array("config", put(3, 0xFF))),
    "settings a scalar that stands for a terabyte": ("fp32", array("config", lambda a: np.array(1 << 40))),
}  # fmt: skip


@pytest.mark.parametrize("case", TRAINED_DAMAGE)
def test_trained_parts_that_do_not_fit_are_refused(case, saved, tmp_path):
    kind, change = TRAINED_DAMAGE[case]
    parts = Parts(saved(kind))
    change(parts.trained)
    message = refused(parts, tmp_path / "index")
    assert "trained-" in message or "segment-" in message


# The manifest's configuration

CONFIG_DAMAGE = {
    "nprobe negative": {"nprobe": -1},
    "nprobe huge": {"nprobe": 10**19},
    "nprobe a fraction": {"nprobe": 1.5},
    "nprobe null": {"nprobe": None},
    "rerank huge": {"rerank": 1 << 62},
    "rerank text": {"rerank": "40"},
    "next_id negative": {"next_id": -1},
    "next_id huge": {"next_id": 10**19},
    "next_id true": {"next_id": True},
}


@pytest.mark.parametrize("case", CONFIG_DAMAGE)
def test_numbers_in_the_manifest_are_bounded(case, saved, tmp_path):
    parts = Parts(saved("pq4"))
    parts.config.update(CONFIG_DAMAGE[case])
    refused(parts, tmp_path / "index")


@pytest.mark.parametrize("kind", ["fp16", "pq4", "rabitq"])
def test_more_lists_and_candidates_than_there_are_do_no_harm(kind, saved, tmp_path):
    parts = Parts(saved(kind))
    parts.config.update(nprobe=(1 << 31) - 1, rerank=(1 << 31) - 1)
    parts.write(tmp_path / "index")
    with annvq.open(saved(kind)) as good, annvq.open(tmp_path / "index") as index:
        everything = good.search(QUERIES, 5, nprobe=3, rerank=N)
        assert index.search(QUERIES, 5).ids.tolist() == everything.ids.tolist()
        assert index.search(QUERIES[0], 5, threads=1).ids.tolist() == everything.ids[:1].tolist()
        index.range_search(QUERIES[:1], 1.0)


@pytest.mark.parametrize("key", ["nprobe", "rerank", "next_id", "trained", "segments"])
def test_every_key_of_the_manifest_is_missed(key, saved, tmp_path):
    from annvq.storage import Store

    path = shutil.copytree(saved("pq4"), tmp_path / "index")
    for value in (..., None, [], {}, "x", 7, [7], [{}], [{"name": [], "live": {}}]):
        with Store.open(path, "rw") as store:
            config = {name: given for name, given in store.config.items() if name != key}
            if value is not ...:
                config[key] = value
            store.commit(config, store.names())
        if (key, value) in (("segments", []), ("segments", {}), ("nprobe", 7), ("rerank", 7), ("next_id", 7)):
            continue
        with pytest.raises(CorruptIndexError):
            annvq.open(path)
        with Store.open(path, "rw") as store:
            store.commit(Parts(saved("pq4")).config, store.names())


def test_files_in_each_others_roles_are_refused(saved, tmp_path):
    from annvq.storage import Store

    path = shutil.copytree(saved("pq4"), tmp_path / "index")
    with Store.open(path) as store:
        given, names = store.config, store.names()
    trained, segment, live = given["trained"], given["segments"][0]["name"], given["segments"][0]["live"]
    wrong = (
        {"trained": segment},
        {"trained": live},
        {"segments": [{"name": trained, "live": None}]},
        {"segments": [{"name": segment, "live": segment}]},
        {"segments": [{"name": live, "live": segment}]},
        {"segments": [{"name": segment, "live": live}, {"name": segment, "live": live}]},
    )
    for change in wrong:
        with Store.open(path, "rw") as store:
            store.commit({**given, **change}, names)
        with pytest.raises(CorruptIndexError):
            annvq.open(path)


def test_segments_that_disagree_are_refused(saved, tmp_path):
    parts = Parts(saved("fp32"))
    other = dict(parts.segments[0])
    parts.segments.append(other)
    parts.lives.append(None)
    assert "same id" in refused(parts, tmp_path / "twice")
    other["ids"] = other["ids"] + 10_000
    parts.write(tmp_path / "fits")
    annvq.open(tmp_path / "fits").verify()
    other["attributes"] = arrow_file(pa.table({"year": np.arange(N), "name": np.arange(N)}))
    assert "disagree" in refused(parts, tmp_path / "columns")
    del other["attributes"]  # all null
    parts.write(tmp_path / "attributes")
    annvq.open(tmp_path / "attributes").verify()
    strings = Parts(saved("fp16")).segments[0]
    parts.segments[1] = {name: array for name, array in parts.segments[0].items() if name != "ids"}
    parts.segments[1] |= {name: strings[name] for name in ("id_offsets", "id_bytes")}
    assert "disagree" in refused(parts, tmp_path / "ids")


@pytest.mark.parametrize("kind", RECIPES)
@pytest.mark.parametrize("metric", ["ip", "l2", "cosine"])
def test_intact_indexes_are_accepted(kind, metric, tmp_path):
    index = built(kind, metric)
    index.save(tmp_path / "index")
    with annvq.open(tmp_path / "index") as opened:
        use(opened)
        opened.verify()
        hits = opened.search(QUERIES, 5)
        assert hits.ids.tolist() == index.search(QUERIES, 5).ids.tolist()
        assert isinstance(hits.ids[0, 0], str) == (kind in WITH_STR_IDS)


def test_a_candidate_count_takes_no_more_memory_than_there_are_rows():
    index = built("pq4")
    few = partial(index.search, QUERIES, 3, nprobe=3)
    assert few(rerank=10**12).ids.tolist() == few(rerank=len(BASE)).ids.tolist()
