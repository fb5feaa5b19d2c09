"""Choose the lungs of a volume from what a network says about its slices.

The network gives two answers: lung, and lung with all that is solid. Which of them holds, and where
solid lung ends, a single slice cannot tell; its neighbours can. Needs numpy and scipy only;
training, evaluation and screening share it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.lung_components import BoolVolume, Spacing

#: Share of a volume's lungs that only the answer with solid lung finds, from which it is believed
#: in every slice. Eight LCTSC patients have 0.01 to 0.12 as they are, the highest one with real
#: collapse, up to 0.14 with ground glass, and 0.23 and more with half of the lungs consolidated.
SOLID_VOLUME_SHARE = 0.18
#: What such a volume's answer with solid lung is cut at, once it is averaged over slices: an
#: average leaves fewer false parts, so that the cut may be lower than that of single slices.
SOLID_PROBABILITY = 0.3
#: Standard deviation of that average along the slices, in mm.
SOLID_SMOOTHING_MM = 6.0
#: How far around the lungs that were found the closer look reaches: solid lung may lie beyond.
CLOSER_MARGIN_MM = 25.0
#: Share of a mask's pixels up to which a row or column is no part of the lungs.
_STRAY_SHARE = 0.0005
#: The highest bit of ``LungAnswers.codes`` is the first answer. The other seven are the logit of
#: the second in eighths, 64 where it is 0.
_LUNG_BIT, _SOLID_BITS = np.uint8(0x80), np.uint8(0x7F)
_ZERO, _STEPS = 64, 8.0
#: Rows that are averaged at a time, so that little of a volume stands in memory as real numbers.
_ROWS_AT_A_TIME = 32


@dataclass(frozen=True, slots=True)
class LungAnswers:
    """Two answers of a network to some slices: their lungs, and the same with all that is solid.

    ``codes`` is uint8 ``(slices, rows, columns)`` as :func:`two_answers` makes it, a byte a pixel
    for both answers. ``sums`` is float32 ``(slices, 2)``: what only the second answer finds, and
    all that it finds, as sums of probabilities over the network's own pixels.
    """

    codes: NDArray[np.uint8]
    sums: NDArray[np.float32]


#: Takes rows and columns.
LookCloser = Callable[[slice, slice], Sequence[LungAnswers]]


def two_answers(
    lung: BoolVolume, solid_logits: NDArray[np.float32], sums: NDArray[np.float32]
) -> LungAnswers:
    """Put a mask, and the logits of lung with what is solid, into one array."""
    rounded = (_STEPS * solid_logits + (_ZERO + 0.5)).clip(0, int(_SOLID_BITS))
    return LungAnswers(rounded.astype(np.uint8) | (lung.view(np.uint8) * _LUNG_BIT), sums)


def one_answer(lung: BoolVolume) -> LungAnswers:
    """Give the mask of a network that tells nothing about solid lung."""
    return LungAnswers(lung.view(np.uint8) * _LUNG_BIT, np.zeros((len(lung), 2), np.float32))


def choose_lungs(
    answers: Sequence[LungAnswers], spacing_mm: Spacing, look_closer: LookCloser
) -> BoolVolume:
    """Choose one mask for the whole volume, after a closer look where much of it is solid.

    A network has a grid of its own, and the lungs of a wide field of view fill little of it. A
    closer look makes other errors, so that the mean of both is better than either. Where the lungs
    hold air nothing is gained, and nothing is looked at again.

    Parameters
    ----------
    answers
        To whole slices, in the order of the volume.
    look_closer
        Gives the answers to the same slices cut to some rows and columns.
    """
    first = choose_answer(answers, spacing_mm[0])
    square = _square_around(first, spacing_mm) if _is_solid(answers) else None
    if square is None:
        return first
    rows, columns = square
    steps = [
        np.concatenate(parts) & _SOLID_BITS
        for parts in (
            [one.codes[:, rows, columns] for one in answers],
            [one.codes for one in look_closer(rows, columns)],
        )
    ]
    mask = np.zeros_like(first)
    mask[:, rows, columns] = _average(_mean_of(*steps), spacing_mm[0])
    return mask


def choose_answer(answers: Sequence[LungAnswers], slice_mm: float) -> BoolVolume:
    """Choose one mask for the whole volume; ``answers`` in the order of its slices.

    A lobe that is solid in one slice is solid in the next, so what the whole volume shows decides
    better than each slice alone: where little of a lung is solid, in slices at its edge. For the
    same reason the answer with solid lung is averaged over neighbouring slices.

    Parameters
    ----------
    slice_mm
        Distance of slices.
    """
    codes = np.concatenate([one.codes for one in answers])
    return _average(codes & _SOLID_BITS, slice_mm) if _is_solid(answers) else codes >= _LUNG_BIT


def _is_solid(answers: Sequence[LungAnswers]) -> bool:
    """Tell whether much of the lungs of a whole volume is solid."""
    added, found = np.concatenate([one.sums for one in answers]).sum(axis=0, dtype=np.float64)
    return bool(added > SOLID_VOLUME_SHARE * found)


def _square_around(mask: BoolVolume, spacing_mm: Spacing) -> tuple[slice, slice] | None:
    """Give the rows and columns of a square around the lungs; None where it is the whole slice.

    Rows and columns with next to nothing do not count: a stray pixel is no lung.
    """
    ranges = []
    for axis, others in ((1, (0, 2)), (2, (0, 1))):
        size, mm = mask.shape[axis], spacing_mm[axis]
        counts = np.count_nonzero(mask, axis=others)
        used = np.flatnonzero(counts > _STRAY_SHARE * counts.sum())
        if used.size == 0:
            return None
        margin = round(CLOSER_MARGIN_MM / mm)
        ranges.append((int(used[0]) - margin, int(used[-1]) + 1 + margin, size))
    side = max(stop - start for start, stop, _ in ranges)
    if side >= min(size for _, _, size in ranges):
        return None
    rows, columns = (
        max(0, min((start + stop - side) // 2, size - side)) for start, stop, size in ranges
    )
    return slice(rows, rows + side), slice(columns, columns + side)


def _mean_of(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give the mean of bytes as bytes, rounded down."""
    return (one & other) + ((one ^ other) >> np.uint8(1))


def _average(steps: NDArray[np.uint8], slice_mm: float) -> BoolVolume:
    """Average the coded logits of the second answer along the slices, and cut them."""
    odds = SOLID_PROBABILITY / (1.0 - SOLID_PROBABILITY)
    cut = _ZERO + _STEPS * float(np.log(odds))
    mask = np.zeros(steps.shape, dtype=np.bool_)
    # An average exceeds nothing that no slice exceeds: most rows and columns need no look.
    box = ndimage.find_objects((steps.max(axis=0) > cut).view(np.uint8))
    if not box:
        return mask
    inside, found = steps[:, *box[0]], mask[:, *box[0]]
    for first in range(0, inside.shape[1], _ROWS_AT_A_TIME):
        rows = slice(first, first + _ROWS_AT_A_TIME)
        smooth = ndimage.gaussian_filter1d(
            inside[:, rows].astype(np.float32),
            SOLID_SMOOTHING_MM / slice_mm,
            axis=0,
            mode="nearest",
            truncate=3.0,
        )
        np.greater(smooth, cut, out=found[:, rows])
    return mask
