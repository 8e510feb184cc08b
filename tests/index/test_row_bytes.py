"""Bytes a vector: one figure, whoever is asked, and what the arrays of a built index hold."""

import re
from pathlib import Path

import numpy as np
import pytest

import annvq
from annvq.index import recipe as recipes
from annvq.index.codes.kinds import KINDS
from annvq.kernels.scan.lists import blocks_for

ROOT = Path(__file__).parents[2]
FACTORIES = (
    "Flat",
    "SQfp16",
    "SQ8",
    "SQ4",
    "PQ5x4fs",
    "IVF3,PQ5x4fsr,RFlat",
    "IVF3,PQ3x8,Refine(SQfp16)",
    "RQ3x4",
    "IVF3,RQ2x8",
    "RaBitQ",
    "RaBitQ4",
    "IVF3,RaBitQ2,Refine(SQ8)",
    "Truncate3,SQ8,Refine(SQ8)",
    "QG32",
    "QG32x3SQ8",
)
SHIPPED = tuple(name for name in recipes.names() if recipes.load(name).learn is None)


def held(index):
    """Return the bytes a row of an index's codes, constants and refine store, without lists' padding to blocks."""
    total = 0
    (segment,) = index.rows.current.snapshot.segments
    for name, array in segment.arrays.items():
        if name == "spill.offsets":
            continue  # a list's
        if name.startswith("graph."):
            array = array[: segment.n]  # the rows of its entries are a segment's
        offsets = segment.arrays["spill.offsets"] if name.startswith("spill.codes") else segment.offsets
        padded = 32 * int(blocks_for(np.diff(offsets))[-1])
        is_blocks = "codes" in name and array.ndim == 1
        total += array.nbytes * segment.n / padded if is_blocks else array.nbytes
    return total / segment.n


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("dim", [5, 10, 37, 65])
@pytest.mark.parametrize("name", FACTORIES + SHIPPED)
def test_every_answer_is_what_the_arrays_hold(name, dim, metric):
    n = 1300 if name in SHIPPED else 70  # automatic lists begin at a thousand
    vectors = np.random.default_rng(dim).normal(size=(n, dim)).astype(np.float32)
    index = annvq.build(vectors, name, metric=metric, threads=1)
    stats = index.stats()
    assert stats["bytes_per_vector"] == held(index)
    assert stats["compression"] == 4 * dim / stats["bytes_per_vector"]
    asked = recipes.load(name)
    if isinstance(asked.dims, float):  # a bound, as long as the share is not known
        assert asked.bytes_per_vector(dim, metric) >= stats["bytes_per_vector"]
        asked = index.recipe
    assert asked.resolve(n, dim, metric).bytes_per_vector(dim, metric) == stats["bytes_per_vector"]


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("name", FACTORIES + SHIPPED)
def test_segments_have_the_sections_that_the_kind_of_code_states(name, metric):
    n = 1300 if name in SHIPPED else 70
    vectors = np.random.default_rng(3).normal(size=(n, 37)).astype(np.float32)
    now = annvq.build(vectors, name, metric=metric, threads=1).rows.current
    (segment,) = now.snapshot.segments
    blocks = {False: segment.block_offsets[-1]}
    if "spill.offsets" in segment.arrays:
        blocks[True] = segment.spill_block_offsets[-1]
    stated = {
        name: (section.dtype, section.shape(n, int(blocks[name.startswith("spill.")])))
        for name, section in now.trained.layout.items()
    }
    arrays = {
        name: (array.dtype, array[:n].shape if name.startswith("graph.") else array.shape)
        for name, array in segment.arrays.items()
        if name != "spill.offsets"
    }
    assert arrays == stated


@pytest.mark.parametrize("name", ["BFlat", "IVF3,BFlat"])
@pytest.mark.parametrize("width", [1, 8, 9])
def test_bits_take_what_the_arrays_hold(name, width):
    bits = np.random.default_rng(width).integers(0, 256, (70, width), dtype=np.uint8)
    index = annvq.build(bits, name, metric="hamming", threads=1)
    stats = index.stats()
    assert stats["bytes_per_vector"] == held(index) == -(-width // 8) * 8
    assert index.recipe.bytes_per_vector(8 * width, "hamming") == stats["bytes_per_vector"]


def test_every_kind_of_code_is_among_these():
    assert {recipes.load(name).codebook.kind for name in FACTORIES} | {"bits"} == set(KINDS)


def formula(text):
    """Return what a formula of d such as "at most d/4 + 2d (+4 under l2)" comes to, a function of d."""
    expression = re.sub(r"at most|\(.*\)|,.*|;.*", "", text)
    expression = re.sub(r"(\d)d", r"\1 * d", expression)
    return lambda d: eval(expression, {"d": d})


def table(path):
    """Return the cells of a page's table of recipes by name."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in path.read_text(encoding="utf-8").splitlines()]
    return {re.sub(r"\[(.*)\].*", r"\1", row[0]): row for row in rows if row}


@pytest.mark.parametrize("name", recipes.names())
def test_the_pages_say_the_same(name):
    recipe = recipes.load(name)
    of_page = table(ROOT / "indexes" / "README.md")[name]
    for d, column in ((384, 2), (768, 3)):
        expected = recipe.bytes_per_vector(d)
        assert formula(recipe.cost)(d) == formula(of_page[1])(d) == expected
        assert of_page[column] == f"{expected:,}"
    if "(+4 under l2)" in recipe.cost:
        assert recipe.resolve(60_000, 384, "l2").bytes_per_vector(384, "l2") == formula(recipe.cost)(384) + 4
    of_advice = [row for row in table(ROOT / "docs" / "choosing" / "recipes.md").values() if len(row) == 3]
    assert len(of_advice) > 9
    for wanted, takes, cost in of_advice:
        if cost and f'`"{name}"`' in takes and "auto" not in takes:
            assert formula(cost)(384) == recipe.bytes_per_vector(384), wanted


def test_the_table_of_memory_is_right():
    sizes = [(n, d) for n in (10**6, 10**7) for d in (384, 768, 1536)]
    of_page = table(ROOT / "docs" / "choosing" / "recipes.md").values()
    rows = [row for row in of_page if len(row) == 7 and row[0].startswith("`")]
    assert len(rows) == 7
    for name, *gigabytes in rows:
        one = recipes.load(name.strip("`"))
        assert gigabytes == [f"{n * (one.bytes_per_vector(d) + 8) / 1e9:.2f}" for n, d in sizes], name
