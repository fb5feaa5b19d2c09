"""Outlines of a mask as polygons, in the coordinates of annotations.

Columns and rows with subpixel resolution: the upper left corner of the upper left pixel is
(0, 0) (PS3.3 C.10.5.1.2 and C.18.6.1.2), so a single pixel has the corners 0 and 1.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: A polygon, ``(points, 2)``, columns before rows; the first point is repeated at the end.
Polygon: TypeAlias = "NDArray[np.float64]"

#: How far a simplified outline may leave the edge of the mask, pixels.
TOLERANCE: Final = 0.75
#: Islands smaller than this are left out, pixels.
LEAST_AREA: Final = 16.0
#: Most points of one polygon: an element of VR FL holds 8191 pairs in Explicit VR (PS3.5 7.1.2).
MOST_POINTS: Final = 2000

_Corner: TypeAlias = tuple[int, int]


def outline(mask: NDArray[np.bool_]) -> list[Polygon]:
    """Give the outer outlines of a mask, largest first; holes are left out.

    Parameters
    ----------
    mask
        ``(rows, columns)``.
    """
    loops = [np.array(loop, np.float64) for loop in _trace(mask)]
    # Clockwise loops have positive areas with rows downwards; holes run the other way round.
    areas = [(_area(loop), loop) for loop in loops]
    outer = sorted(
        ((area, at) for at, (area, _) in enumerate(areas) if area >= LEAST_AREA),
        key=lambda pair: (-pair[0], pair[1]),
    )
    return [_simplify(areas[at][1]) for _, at in outer]


def _trace(mask: NDArray[np.bool_]) -> list[list[_Corner]]:
    """Follow the edges between inside and outside, the inside on the right hand."""
    ends = _edges(mask)
    loops = []
    while ends:
        start = next(iter(ends))
        loop = [start]
        corner, before = _step(ends, start, None)
        while corner != start:
            loop.append(corner)
            corner, before = _step(ends, corner, before)
        loop.append(start)
        loops.append(loop)
    return loops


def _edges(mask: NDArray[np.bool_]) -> dict[_Corner, list[_Corner]]:
    """List where the edge of the mask goes from each corner."""
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    # Neighbour that is outside; start and end of the edge, columns before rows.
    sides = (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),
        (padded[1:-1, 2:], (1, 0), (1, 1)),
        (padded[2:, 1:-1], (1, 1), (0, 1)),
        (padded[1:-1, :-2], (0, 1), (0, 0)),
    )
    ends: dict[_Corner, list[_Corner]] = defaultdict(list)
    for neighbour, first, second in sides:
        for row, column in np.argwhere(inside & ~neighbour).tolist():
            ends[column + first[0], row + first[1]].append((column + second[0], row + second[1]))
    return ends


def _step(
    ends: dict[_Corner, list[_Corner]], corner: _Corner, before: _Corner | None
) -> tuple[_Corner, _Corner]:
    """Take one edge away and give its end and its direction.

    Where two pixels touch by a corner the loop turns right, so that it stays with its own.
    """
    choices = ends[corner]
    chosen = choices[0]
    for end in choices:
        direction = (end[0] - corner[0], end[1] - corner[1])
        if before is not None and before[0] * direction[1] - before[1] * direction[0] > 0:
            chosen = end
    choices.remove(chosen)
    if not choices:
        del ends[corner]
    return chosen, (chosen[0] - corner[0], chosen[1] - corner[1])


def _area(loop: Polygon) -> float:
    columns, rows = loop[:, 0], loop[:, 1]
    return float(np.sum(columns[:-1] * rows[1:] - columns[1:] * rows[:-1]) / 2)


def _simplify(loop: Polygon) -> Polygon:
    """Leave out points that the outline does not need (Douglas and Peucker)."""
    tolerance = TOLERANCE
    while True:
        kept = loop[_needed(loop, tolerance)]
        if len(kept) <= MOST_POINTS:
            return kept
        tolerance *= 2


def _needed(loop: Polygon, tolerance: float) -> NDArray[np.bool_]:
    needed = np.zeros(len(loop), bool)
    # The loop is split at the point farthest from its start, which is its end too.
    middle = int(np.argmax(np.hypot(*(loop - loop[0]).T)))
    needed[[0, middle, -1]] = True
    spans = [(0, middle), (middle, len(loop) - 1)]
    while spans:
        first, last = spans.pop()
        if last - first < 2:  # noqa: PLR2004  nothing lies between neighbours
            continue
        chord = loop[last] - loop[first]
        between = loop[first + 1 : last] - loop[first]
        distances = np.abs(between[:, 0] * chord[1] - between[:, 1] * chord[0])
        distances /= np.hypot(*chord)
        farthest = int(np.argmax(distances))
        if distances[farthest] > tolerance:
            split = first + 1 + farthest
            needed[split] = True
            spans += [(first, split), (split, last)]
    return needed
