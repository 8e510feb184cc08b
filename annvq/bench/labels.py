"""Labels are placed in free space beside what they name, so that nobody has to look a colour up in a legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_MARGIN = 8.0  # points between a label and what it names
_TRIES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))  # directions to try, best first
_RINGS = (1.0, 2.2, 3.6, 5.2)  # distances to try, in multiples of _MARGIN
_SPACING = 1.35  # line heights between labels at the ends of lines


def label_points(
    axes: Any,
    places: np.ndarray,
    texts: Sequence[str],
    colors: Sequence[Any],
    *,
    lines: Sequence[tuple[float, float, float, float]] = (),
    size: float = 9,
) -> None:
    """Write a text beside each point, clear of points, lines and other texts as far as there is room.

    Parameters
    ----------
    axes
        matplotlib's axes with their final limits and scales.
    places
        (n, 2) in the units of the data.
    texts, colors
        One per point.
    lines
        Vertical or horizontal lines, from (x, y) to (x, y) in the units of the data.
    size
        Font size, in points.

    """
    figure = axes.figure
    figure.draw_without_rendering()  # computes the layout, so that positions on the page are known
    pixels = figure.dpi / 72
    points = axes.transData.transform(np.asarray(places, float))
    taken = [_box(point, (0.0, 0.0), 7 * pixels, 7 * pixels) for point in points]
    for line in lines:
        (left, low), (right, high) = axes.transData.transform(np.reshape(line, (2, 2)))
        taken.append((left - pixels, low - pixels, right + pixels, high + pixels))
    frame = axes.get_window_extent()
    for point, text, color in zip(points, texts, colors):
        width, height = 0.56 * size * pixels * len(text), 1.25 * size * pixels
        best = None
        for ring in _RINGS:
            for direction in _TRIES:
                box = _box(point, direction, width, height, ring * _MARGIN * pixels)
                inside = box[0] >= frame.x0 and box[2] <= frame.x1 and box[1] >= frame.y0 and box[3] <= frame.y1
                cost = sum(_overlap(box, other) for other in taken) + (0 if inside else 1e9)
                if best is None or cost < best[0]:
                    best = (cost, box, ring)
            if best is not None and best[0] == 0:
                break
        assert best is not None
        _, box, ring = best
        taken.append(box)
        centre = axes.transData.inverted().transform(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2))
        line = {"arrowstyle": "-", "color": color, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 3}
        axes.annotate(
            text, axes.transData.inverted().transform(point), centre, color=color, fontsize=size, ha="center",
            va="center", arrowprops=line if ring > 1 else None, zorder=6, annotation_clip=False,
        )  # fmt: skip


def label_ends(axes: Any, ends: np.ndarray, texts: Sequence[str], colors: Sequence[Any], size: float = 9) -> None:
    """Write a text to the right of the axes for each line, in the order of their ends, joined to it; as above."""
    figure = axes.figure
    figure.draw_without_rendering()
    frame = axes.get_window_extent()
    ends_on_page = axes.transAxes.inverted().transform(axes.transData.transform(np.asarray(ends, float)))
    gap = _SPACING * size * figure.dpi / 72 / frame.height
    order = np.argsort(ends_on_page[:, 1])
    heights = _spread(ends_on_page[order, 1], gap)
    for row, height in zip(order, heights):
        x, y = ends_on_page[row]
        line = {"arrowstyle": "-", "color": colors[row], "linewidth": 0.8, "linestyle": ":", "shrinkA": 0, "shrinkB": 4}
        axes.annotate(
            texts[row], (x, y), (1.03, height), xycoords="axes fraction", textcoords="axes fraction",
            color=colors[row], fontsize=size, ha="left", va="center", arrowprops=line, annotation_clip=False,
        )  # fmt: skip


def _spread(heights: np.ndarray, gap: float) -> np.ndarray:
    """Move ascending heights at least ``gap`` apart, as little as possible from where they were."""
    blocks: list[tuple[float, int]] = []  # centre and number of labels that touch
    for height in heights:
        blocks.append((float(height), 1))
        while len(blocks) > 1 and blocks[-1][0] - blocks[-2][0] < gap * (blocks[-1][1] + blocks[-2][1]) / 2:
            (upper, m), (lower, n) = blocks.pop(), blocks.pop()
            blocks.append(((upper * m + lower * n) / (m + n), m + n))
    return np.concatenate([centre + gap * (np.arange(n) - (n - 1) / 2) for centre, n in blocks] or [np.empty(0)])


def _box(
    point: np.ndarray, direction: tuple[float, float], width: float, height: float, margin: float = 0.0
) -> tuple[float, float, float, float]:
    x = point[0] + direction[0] * (width / 2 + margin)
    y = point[1] + direction[1] * (height / 2 + margin)
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return width * height if width > 0 and height > 0 else 0.0
