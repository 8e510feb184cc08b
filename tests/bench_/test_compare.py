"""annvq is compared at the recall of the other library, by speeds of the same seconds."""

import math

import numpy as np
import pytest

from annvq.bench import compare
from annvq.bench.compare import SideBySide, set_beside
from annvq.bench.cpu import Use
from annvq.bench.sweep import Mode, Point

MODE = Mode(single=True, threads=1)


def point(lib, recipe, setting, recall, qps, tuning_recall=None, tuning_qps=None):
    tuning = (recall if tuning_recall is None else tuning_recall, qps if tuning_qps is None else tuning_qps)
    return Point(lib, recipe, MODE, {"s": setting}, *tuning, recall, qps, 1.0, 1.0, 1.0, 1.0, 8.0, 1.0)


OWN = [point("annvq", "fast", setting, *at) for setting, at in enumerate(((0.8, 900.0), (0.9, 800.0), (0.99, 200.0)))]


@pytest.fixture
def measured(monkeypatch):
    """Measuring again divides speeds by ``slower``, one entry per measurement, or by 1; the order is recorded."""

    class Measured(list):
        slower = ()

    order = Measured()

    def again(peer, asked, problem):
        share = order.slower[len(order)] if len(order) < len(order.slower) else 1.0
        order.append((asked.lib, asked.params["s"]))
        return point(asked.lib, asked.recipe, asked.params["s"], asked.recall, asked.qps / share)

    monkeypatch.setattr(compare, "measure_again", again)
    return order


def test_annvq_is_measured_right_before_and_right_after(measured):
    (found,) = set_beside(None, [point("other", "o", 7, 0.9, 400.0)], {"fast": None}, OWN, None)
    assert measured == [("annvq", 1), ("annvq", 0), ("other", 7), ("annvq", 1), ("annvq", 0)]
    assert found.ratio == pytest.approx(2.0)
    assert (found.target, found.change, found.own.params) == (0.9, 0.0, {"s": 1})


def test_recall_is_matched_between_two_settings(measured):
    recall = 1 - math.sqrt(0.1 * 0.01)  # half-way between 0.9 and 0.99 on the axis that opens towards 1
    found = set_beside(None, [point("other", "o", 7, recall, 400.0)], {"fast": None}, OWN, None)
    assert [comparison.target for comparison in found] == [0.90, 0.95]
    assert found[0].ratio == pytest.approx(math.sqrt(800 * 200) / 400)
    assert found[0].own.params == {"s": 2}  # the setting at or above the recall


def test_recall_is_that_of_the_reporting_half_and_settings_are_those_of_the_other(measured):
    lucky = point("annvq", "fast", 9, recall=0.99, qps=9000.0, tuning_recall=0.85, tuning_qps=100.0)  # beaten there
    (found,) = set_beside(None, [point("other", "o", 7, 0.91, 400.0, 0.9)], {"fast": None}, [*OWN, lucky], None)
    assert found.own.params == {"s": 2}


def test_the_recipe_that_is_fastest_there_is_taken(measured):
    slow = [point("annvq", "slow", 5, 0.95, 300.0), point("annvq", "slow", 6, 0.999, 250.0)]
    found = set_beside(None, [point("other", "o", 7, 0.993, 400.0)], {"fast": None, "slow": None}, [*OWN, *slow], None)
    assert [comparison.own.recipe for comparison in found] == ["slow"] * 3
    found = set_beside(None, [point("other", "o", 7, 0.9, 400.0)], {"fast": None, "slow": None}, [*OWN, *slow], None)
    assert [comparison.own.recipe for comparison in found] == ["fast"]


def test_a_recall_that_annvq_does_not_reach_has_no_ratio(measured):
    found = set_beside(None, [point("other", "o", 7, 0.999, 400.0)], {"fast": None}, OWN, None)
    assert [comparison.ratio for comparison in found] == [None] * 3
    assert "annvq_speed_ratio" not in found[0].row()


def test_below_annvqs_lowest_recall_its_lowest_setting_is_taken(measured):
    (found,) = set_beside(None, [point("other", "o", 7, 0.7, 400.0, 0.9)], {"fast": None}, OWN, None)
    assert (found.ratio, found.own.params) == (pytest.approx(900 / 400), {"s": 0})


def test_a_disturbed_comparison_is_repeated_and_the_calmest_is_kept(measured):
    measured.slower = (2.0, 2.0, 1.0, 1.0, 1.0)  # annvq takes twice as long before as after, the first time
    (found,) = set_beside(None, [point("other", "o", 7, 0.9, 400.0)], {"fast": None}, OWN, None)
    assert len(measured) == 10
    assert found.ratio == pytest.approx(2.0)
    assert found.change == 0.0
    del measured[:]
    measured.slower = (2.0, 2.0, 1.0, 1.0, 1.0) * 3
    (found,) = set_beside(None, [point("other", "o", 7, 0.9, 400.0)], {"fast": None}, OWN, None)
    assert len(measured) == 15
    assert found.change == pytest.approx(1.0)
    assert found.ratio == pytest.approx(2.0 / math.sqrt(2))


def test_rows_have_the_figures_of_both_and_of_the_machine():
    own, other = OWN[1], point("other", "o", 7, 0.9, 400.0)
    row = SideBySide(0.9, other, own, 790.0, 810.0, Use(0.01, 0.2, 1.5)).row()
    assert {**other.row(), **row} == row
    assert row["annvq_qps_before"] == 790.0
    assert row["annvq_qps_after"] == 810.0
    assert row["annvq_speed_ratio"] == pytest.approx(2.0, abs=0.001)
    assert (row["recall_at_least"], row["annvq_recipe"], row["annvq_params"]) == (0.9, "fast", {"s": 1})
    assert (row["steal"], row["others"], row["load"]) == (0.01, 0.2, 1.5)
    assert np.isfinite(row["annvq_bytes_per_vector"])
