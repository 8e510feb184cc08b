"""4-bit codes that were written for another instruction set are read as if written here."""

import numpy as np
import pytest
from small_indexes import QUERIES, Parts, ids_of

import annvq
from annvq.errors import CorruptIndexError
from annvq.kernels.scan import scan4

OTHER = {"quads": "lanes", "lanes": "quads"}[scan4.LAYOUT]
SECTION = "array.codes."


def in_other_layout(packed):
    """Move every byte of 64 to where docs/design.md has it in the other layout."""
    vector, j = np.divmod(np.arange(64), 4)
    quads, lanes = 4 * vector + j, 16 * j + vector
    here, there = (quads, lanes) if scan4.LAYOUT == "quads" else (lanes, quads)
    moved = np.empty_like(packed.reshape(-1, 64))
    moved[:, there] = packed.reshape(-1, 64)[:, here]
    return moved.reshape(-1)


@pytest.mark.parametrize("kind", ["pq4", "sq4", "rvq"])
def test_an_index_of_another_machine_answers_the_same(kind, saved, tmp_path):
    parts = Parts(saved(kind))
    parts.segments[0][SECTION + OTHER] = in_other_layout(parts.segments[0].pop(SECTION + scan4.LAYOUT))
    parts.write(tmp_path / "index")
    with annvq.open(saved(kind)) as here, annvq.open(tmp_path / "index", "rw") as there:
        there.verify()
        for rerank in (1, 50):
            wanted, got = (index.search(QUERIES, 10, nprobe=3, rerank=rerank) for index in (here, there))
            assert got.ids.tolist() == wanted.ids.tolist()
            np.testing.assert_array_equal(got.scores, wanted.scores)
        some = ids_of(kind)[20:30]
        np.testing.assert_array_equal(there.reconstruct(some), here.reconstruct(some))
        there.compact()  # writes codes anew, in this machine's layout
    assert SECTION + scan4.LAYOUT in Parts(tmp_path / "index").segments[0]


def test_a_graph_of_another_machine_answers_the_same(saved, tmp_path):
    parts = Parts(saved("graph"))
    rows = parts.segments[0].pop(f"array.graph.{scan4.LAYOUT}").copy()
    rows[:, -64:] = in_other_layout(rows[:, -64:]).reshape(-1, 64)  # 3 codes per neighbour are one group
    parts.segments[0][f"array.graph.{OTHER}"] = rows
    parts.write(tmp_path / "index")
    with annvq.open(saved("graph")) as here, annvq.open(tmp_path / "index", "rw") as there:
        there.verify()
        for rerank in (10, 50):
            wanted, got = (index.search(QUERIES, 10, rerank=rerank) for index in (here, there))
            assert got.ids.tolist() == wanted.ids.tolist()
            np.testing.assert_array_equal(got.scores, wanted.scores)
        there.compact()
    assert f"array.graph.{scan4.LAYOUT}" in Parts(tmp_path / "index").segments[0]


def test_an_unknown_layout_is_refused(saved, tmp_path):
    parts = Parts(saved("pq4"))
    parts.segments[0][SECTION + "spirals"] = parts.segments[0].pop(SECTION + scan4.LAYOUT)
    parts.write(tmp_path / "index")
    with pytest.raises(CorruptIndexError, match="spirals"):
        annvq.open(tmp_path / "index")
