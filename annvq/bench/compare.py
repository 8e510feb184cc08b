"""annvq beside another library within the same seconds: no other two speeds are divided by each other.

The speed of a machine changes from minute to minute, and building an index alone can take minutes. The setting with
which a library is reported is therefore measured again, between two measurements of annvq, one right before and one
right after it. All three are on the reporting half.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from annvq.bench.cpu import Use, Watch
from annvq.bench.peers import Peer
from annvq.bench.sweep import TARGETS, Point, Problem, chosen, measure_again, tuning_front

_CALM = 0.05  # a comparison over which annvq's own speed changed by more is repeated
_TRIES = 3  # and the calmest one is kept
_LEAST_MISS = 1e-4  # of 1 - recall, whose logarithm is taken


@dataclass(frozen=True)
class SideBySide:
    """One index of another library at one recall, and annvq at the same recall.

    Parameters
    ----------
    target
        The recall that the index had to reach on the tuning half.
    point
        The index's setting, with the speed and the recall that it had in this comparison.
    own
        annvq's setting at or above that recall; None if annvq has none.
    before, after
        annvq's queries per second at that recall, right before and right after the index was measured: on the line
        between ``own`` and its next faster setting, the logarithm of the speed over that of 1 - recall.
    use
        What others took of the machine meanwhile.

    """

    target: float
    point: Point
    own: Point | None = None
    before: float = math.nan
    after: float = math.nan
    use: Use = field(default_factory=Use)

    @property
    def ratio(self) -> float | None:
        """annvq's speed (the geometric mean of before and after) divided by the index's; None if there is none."""
        return None if self.own is None else math.sqrt(self.before * self.after) / self.point.qps

    @property
    def change(self) -> float:
        """By what share annvq's own speed changed from before to after, 0 or more."""
        return 0.0 if self.own is None else max(self.before, self.after) / min(self.before, self.after) - 1.0

    def row(self) -> dict[str, Any]:
        """Return the comparison as an object of the result."""
        row = {"recall_at_least": self.target, **self.point.row()}
        if self.own is not None:
            ratio = self.ratio
            assert ratio is not None
            row |= {
                "annvq_recipe": self.own.recipe,
                "annvq_params": self.own.params,
                "annvq_bytes_per_vector": round(self.own.bytes_per_vector, 1),
                "annvq_qps_before": round(self.before, 1),
                "annvq_qps_after": round(self.after, 1),
                "annvq_speed_ratio": round(ratio, 3),
            }
        return row | {"steal": self.use.steal, "others": self.use.others, "load": self.use.load}


def set_beside(
    peer: Peer, points: Sequence[Point], own: Mapping[str, Peer], own_points: Sequence[Point], problem: Problem
) -> list[SideBySide]:
    """Compare an index with annvq at each of `TARGETS` that it reaches.

    Parameters
    ----------
    peer, points
        The index, built, and its points in one mode.
    own, own_points
        annvq's indexes by their recipes, and their points in the same mode.
    problem
        What to search.

    """
    found = [(target, chosen(points, target)) for target in TARGETS]
    return [_compared(target, peer, point, own, own_points, problem) for target, point in found if point is not None]


def _compared(
    target: float, peer: Peer, point: Point, own: Mapping[str, Peer], own_points: Sequence[Point], problem: Problem
) -> SideBySide:
    pair = _level(own_points, point.recall)
    if pair is None:
        return SideBySide(target, measure_again(peer, point, problem))
    index = own[pair[0].recipe]

    def own_speed() -> float:
        return _speed_at(point.recall, pair, [measure_again(index, setting, problem).qps for setting in pair])

    tries: list[SideBySide] = []
    while len(tries) < _TRIES and not (tries and tries[-1].change < _CALM):
        watch = Watch()
        before, measured, after = own_speed(), measure_again(peer, point, problem), own_speed()
        tries.append(SideBySide(target, measured, pair[0], before, after, watch.use()))
    return min(tries, key=lambda comparison: comparison.change)


def _level(points: Sequence[Point], recall: float) -> tuple[Point, ...] | None:
    """Return annvq's setting at or above a recall, and its next faster one, of the recipe that is fastest there.

    Recall is that of the reporting half, so that both libraries are compared where they really are; which settings and
    which recipe come into question is decided by the tuning half.
    """
    pairs = []
    for recipe in dict.fromkeys(point.recipe for point in points):
        front = tuning_front([point for point in points if point.recipe == recipe])
        above = max((p for p in front if p.recall >= recall), key=_tuning_qps, default=None)
        if above is not None:
            faster = [p for p in front if p.recall < recall and p.tuning_qps > above.tuning_qps]
            pairs.append((above, *sorted(faster, key=_tuning_qps)[:1]))
    return max(pairs, key=lambda pair: _speed_at(recall, pair, [*map(_tuning_qps, pair)]), default=None)


def _tuning_qps(point: Point) -> float:
    return point.tuning_qps


def _speed_at(recall: float, pair: Sequence[Point], speeds: Sequence[float]) -> float:
    """Return the speed at a recall between those of two settings with these speeds, or that of the only one."""
    if len(pair) == 1:
        return speeds[0]
    high, low, here = (math.log(max(1.0 - value, _LEAST_MISS)) for value in (pair[0].recall, pair[1].recall, recall))
    share = (low - here) / (low - high) if low > high else 1.0
    return math.exp(share * math.log(speeds[0]) + (1.0 - share) * math.log(speeds[1]))
