import numpy as np
import pytest

from annvq.errors import DtypeError, ParameterError, ShapeError
from annvq.evaluation import recall, recall_with_ties


def test_it_is_the_share_of_true_neighbours():
    exact = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    assert recall(exact[:, ::-1], exact) == 1.0
    assert recall(np.array([[1, 9, 3, 9], [0, 0, 0, 8]]), exact) == pytest.approx((0.5 + 0.25) / 2)


def test_the_cut_applies_to_both_sides():
    exact = np.array([[1, 2, 3]])
    assert recall(np.array([[3, 2, 1]]), exact, k=1) == 0.0
    assert recall(np.array([[1, 8, 9]]), exact, k=1) == 1.0


def test_repeated_ids_count_once():
    assert recall(np.array([[1, 1, 1]]), np.array([[1, 2, 3]])) == pytest.approx(1 / 3)


def test_missing_places_are_never_right():
    assert recall(np.array([[-1, -1, 1]]), np.array([[1, -1, -1]])) == 1.0  # one neighbour exists
    assert recall(np.array([[-1, -1, -1]]), np.array([[1, 2, -1]])) == 0.0
    names = np.array([["a", None]], dtype=object)
    assert recall(names, np.array([["a", "b"]], dtype=object)) == 0.5
    assert recall(np.empty((0, 3), np.int64), np.empty((0, 3), np.int64)) == 0.0


def test_what_is_masked_is_no_id():
    masked = np.ma.masked_array([[1, 2]], [[False, True]])
    for found, exact in ((masked, np.array([[1, 2]])), (np.array([[1, 2]]), masked)):
        with pytest.raises(DtypeError, match="masked"):
            recall(found, exact)


def test_negative_ids_are_ids():
    ids = np.array([[-5, -2, -(2**63)]])
    assert recall(ids, ids) == 1.0
    assert recall(np.array([[-5, -1, -1]]), ids) == pytest.approx(1 / 3)
    assert recall_with_ties(ids, np.array([[3.0, 2.0, 1.0]]), np.array([[3.0, 2.0, 1.0]])) == 1.0


def test_any_of_several_equally_near_is_right():
    exact = np.array([[3.0, 2.0, 2.0]])
    found, scores = np.array([[7, 8, 9]]), np.array([[2.0, 3.0, 1.9]])
    assert recall_with_ties(found, scores, exact) == pytest.approx(2 / 3)
    assert recall_with_ties(found, np.array([[2.0, 3.0, 2.0 - 1e-9]]), exact) == 1.0
    assert recall_with_ties(found, np.array([[2.0, 3.0, 1.99]]), exact, eps=0.01) == 1.0


def test_the_tolerance_is_on_the_right_side_of_negative_scores():
    exact = np.array([[-1.0, -4.0]])
    found = np.array([[1, 2]])
    assert recall_with_ties(found, np.array([[-1.0, -4.1]]), exact) == 0.5
    assert recall_with_ties(found, np.array([[-1.0, -4.0000001]]), exact) == 1.0


def test_a_repeated_near_id_fills_one_place_only():
    assert recall_with_ties(np.array([[1, 1]]), np.array([[5.0, 5.0]]), np.array([[5.0, 4.0]])) == 0.5


def test_more_ties_than_places_do_not_exceed_one():
    assert recall_with_ties(np.array([[1, 2, 3]]), np.full((1, 3), 5.0), np.array([[5.0, 5.0, -np.inf]])) == 1.0


def test_bad_input_is_refused():
    ids = np.zeros((2, 3), np.int64)
    with pytest.raises(ShapeError):
        recall(ids[:1], ids)
    with pytest.raises(ShapeError):
        recall(ids[0], ids[0])
    with pytest.raises(ParameterError):
        recall(ids, ids, k=4)
    with pytest.raises(ShapeError):
        recall_with_ties(ids, np.zeros((2, 2)), np.zeros((2, 3)))
