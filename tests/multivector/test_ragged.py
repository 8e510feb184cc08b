"""Sets of vectors in every form that is taken, and what is refused."""

import numpy as np
import pytest
import reference

from annvq.errors import DtypeError, NonFiniteError, ShapeError
from annvq.multivector import Ragged

SETS = reference.sets([2, 0, 3], 4)


def same(ragged, sets=SETS):
    return len(ragged) == len(sets) and all(np.array_equal(a, b) for a, b in zip(ragged, sets, strict=True))


def test_forms_of_sets():
    assert same(Ragged.of(SETS))
    assert same(Ragged.of(tuple(SETS)))
    assert same(Ragged.of(np.concatenate(SETS), [0, 2, 2, 5]))
    assert same(Ragged.of(Ragged.of(SETS)))
    assert same(Ragged.of(np.stack([SETS[2], SETS[2]])), [SETS[2], SETS[2]])
    assert len(Ragged.of([])) == 0


def test_arrow_lists_of_lists():
    pa = pytest.importorskip("pyarrow")
    lists = [one.tolist() for one in SETS]
    for kind in (
        pa.list_(pa.list_(pa.float32())),
        pa.list_(pa.list_(pa.float32(), 4)),
        pa.large_list(pa.list_(pa.float32())),
    ):
        array = pa.array(lists, kind)
        assert same(Ragged.of(array))
        assert same(Ragged.of(array.slice(2)), SETS[2:])
        assert same(Ragged.of(pa.chunked_array([array, array])), SETS + SETS)
    with pytest.raises(DtypeError, match="null"):
        Ragged.of(pa.array([lists[0], None], pa.list_(pa.list_(pa.float32()))))
    with pytest.raises(DtypeError, match="expected lists"):
        Ragged.of(pa.array([1.0, 2.0]))


def test_torch_tensors():
    torch = pytest.importorskip("torch")
    assert same(Ragged.of([torch.from_numpy(one) for one in SETS]))
    halves = Ragged.of([torch.from_numpy(one).half() for one in SETS])
    assert halves.vectors.dtype == np.float16


@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.float32])
def test_kept_dtypes(dtype):
    sets = [(10 * one).astype(dtype) for one in SETS]
    assert Ragged.of(sets).vectors.dtype == dtype
    assert Ragged.of([sets[0], SETS[2]]).vectors.dtype == np.float32


def test_choosing_sets():
    many = reference.sets(np.random.default_rng(0).integers(0, 5, 40), 3)
    ragged = Ragged.of(many)
    order = np.random.default_rng(1).permutation(40)
    assert same(ragged[order], [many[i] for i in order])
    assert same(ragged[5:9], many[5:9])
    assert same(ragged[::7], many[::7])
    assert same(ragged[9:5], [])


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([0, 2], "end at 2, expected the 5"), ([1, 5], "begin at 1"), ([0, 3, 2, 5], "fall from 3 to 2 at place 2"),
        ([[0, 5]], "expected \\(m \\+ 1,\\)"), ([], "expected"),
    ],
)  # fmt: skip
def test_offsets_that_do_not_fit_are_refused(offsets, message):
    with pytest.raises((ShapeError, DtypeError), match=message):
        Ragged.of(np.concatenate(SETS), np.array(offsets, np.int64))


def test_other_bad_sets_are_refused():
    with pytest.raises(DtypeError, match="float64, expected integers"):
        Ragged.of(np.concatenate(SETS), np.array([0.0, 5.0]))
    with pytest.raises(ShapeError, match="number 1 has dimension 3, number 0 has 4"):
        Ragged.of([SETS[0], np.ones((1, 3), np.float32)])
    with pytest.raises(ShapeError, match="expected a list of arrays"):
        Ragged.of(np.concatenate(SETS))
    with pytest.raises(ShapeError):
        Ragged.of([np.ones(4, np.float32)])
    with pytest.raises(DtypeError):
        Ragged.of([np.array([["a", "b"]])])
    bad = [one.copy() for one in SETS]
    bad[2][1, 3] = np.inf
    with pytest.raises(NonFiniteError, match="number 2, vector 1"):
        Ragged.of(bad)
    with pytest.raises(ShapeError, match="number 1 has no vectors"):
        Ragged.of(SETS).without_empty("documents")


@pytest.mark.parametrize(
    ("offsets", "error", "message"),
    [
        (np.array([0, 10]), ShapeError, "end at 10, expected the 5"),
        (np.array([0, 10**8]), ShapeError, "end at 100000000"),
        (np.array([0, 3]), ShapeError, "end at 3"),
        (np.array([0, 4, 2, 5]), ShapeError, "fall from 4 to 2"),
        ([0.0, 5.0], DtypeError, "expected integers"),
    ],
)
def test_offsets_of_ones_own_are_checked(offsets, error, message):
    with pytest.raises(error, match=message):
        Ragged.of(Ragged(np.ones((5, 4), np.float32), offsets))


def test_masked_arrays_are_refused():
    with pytest.raises(DtypeError, match="mask"):
        Ragged.of([np.ma.masked_array(np.ones((2, 4), np.float32), mask=True)])


def test_masks_and_negative_numbers_choose_sets():
    ragged = Ragged.of(SETS)
    assert same(ragged[[True, False, True]], [SETS[0], SETS[2]])
    assert same(ragged[[-1]], SETS[2:])


def test_numbers_whose_products_would_overflow_are_refused():
    large = np.ones((3, 4), np.float32)
    large[2, 1] = 3e38
    with pytest.raises(NonFiniteError, match="number 1, vector 2 holds a number beyond"):
        Ragged.of([np.ones((2, 4), np.float32), large])
