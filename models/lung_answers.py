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

from models.lung_components import (
    LEFT_LUNG,
    RIGHT_LUNG,
    BoolVolume,
    Spacing,
    label_lungs,
)
from models.lung_patches import fill_patches

#: Share of a volume's lungs that only the answer with solid lung finds, from which it is believed
#: in every slice. Eight LCTSC patients have 0.01 to 0.12 as they are, the highest one with real
#: collapse, up to 0.14 with ground glass, and 0.23 and more with half of the lungs consolidated.
SOLID_VOLUME_SHARE = 0.18
#: Share above which hardly anything holds air: no lungs, of which the gate for chests wants 0.15 to
#: hold air. Heads have 0.99, those patients at most 0.74 with lobes made solid. A closer look at
#: what is no lung finds still more of it.
MOST_SOLID_SHARE = 0.85
#: Else it is believed where one thick piece, found by it alone, takes this share of a lung. A lobe
#: takes more. Of the lungs of eight LCTSC patients the largest such piece takes 0.05 as they are or
#: with ground glass: collapse at the diaphragm is a thin layer.
SOLID_PIECE_SHARE = 0.1
#: Radius of a ball that fits into a thick piece at every place, in mm.
SOLID_PIECE_RADIUS_MM = 8.0
#: Share of a volume's lungs that only the answer with solid lung finds, up to which neither a piece
#: of that size nor patches are looked for: such a piece takes about as much of the smallest lungs
#: of a pair.
_LEAST_SOLID_SHARE = 0.03
#: Grid on which pieces are looked for, in mm.
_PIECE_GRID_MM = 3.0
#: What such a volume's answer with solid lung is cut at, once it is averaged over slices: an
#: average leaves fewer false parts, so that the cut may be lower than that of single slices.
SOLID_PROBABILITY = 0.25
#: Standard deviation of that average along the slices, in mm.
SOLID_SMOOTHING_MM = 6.0
#: How far around the lungs that were found the closer look reaches: solid lung may lie beyond.
CLOSER_MARGIN_MM = 25.0
#: The closer looks: mirrored or not, and how much darker in HU. Darker tissue is rather taken for
#: lung, where the network believes in chest wall too early.
_CLOSER_LOOKS = ((False, 0), (True, 0), (False, 40))
#: Below it nothing tells one tissue from another.
_AIR_HU = np.int16(-1024)
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


@dataclass(frozen=True, slots=True)
class Look:
    """How slices are shown to the network once more."""

    rows: slice
    columns: slice
    mirrored: bool = False  #: left and right changed over
    darker_hu: int = 0  #: taken from every pixel

    def show(self, images: NDArray[np.int16]) -> NDArray[np.int16]:
        """Give the part of ``(batch, rows, columns)`` HU as the network shall see it."""
        part = images[:, self.rows, self.columns]
        if self.darker_hu:
            part = np.maximum(part, _AIR_HU) - np.int16(self.darker_hu)
        return np.ascontiguousarray(part[..., ::-1] if self.mirrored else part)


LookCloser = Callable[[Look], Sequence[LungAnswers]]


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
    """Choose one mask for the whole volume, after closer looks where lungs are solid.

    A network has a grid of its own, and the lungs of a wide field of view fill little of it. Each
    look makes other errors, so that the mean of all is better than any. Where the lungs hold air
    nothing is gained, and nothing is looked at again. Patches that are still missing are filled.

    Parameters
    ----------
    answers
        To whole slices, in the order of the volume.
    look_closer
        Gives the answers to the same slices as :meth:`Look.show` shows them; what is mirrored is
        turned back here.
    """
    added, found = np.concatenate([one.sums for one in answers]).sum(axis=0, dtype=np.float64)
    if not _LEAST_SOLID_SHARE * found < added <= MOST_SOLID_SHARE * found:
        return _first_answer(answers)
    is_solid = added > SOLID_VOLUME_SHARE * found or _has_solid_piece(answers, spacing_mm)
    mask = _solid_lungs(answers, spacing_mm, look_closer) if is_solid else _first_answer(answers)
    return fill_patches(mask, spacing_mm)


def _first_answer(answers: Sequence[LungAnswers]) -> BoolVolume:
    """Give what was chosen slice by slice."""
    return np.concatenate([one.codes for one in answers]) >= _LUNG_BIT


def _solid_lungs(
    answers: Sequence[LungAnswers], spacing_mm: Spacing, look_closer: LookCloser
) -> BoolVolume:
    """Give the lungs with what is solid, after closer looks."""
    found = _average(_steps(answers), spacing_mm[0])
    square = _square_around(found, spacing_mm)
    if square is None:
        return found
    mask = np.zeros_like(found)
    steps = _mean_of_looks(answers, *square, look_closer)
    mask[:, *square] = _average(steps, spacing_mm[0])
    return mask


def _mean_of_looks(
    answers: Sequence[LungAnswers], rows: slice, columns: slice, look_closer: LookCloser
) -> NDArray[np.uint8]:
    """Average the first look and all closer ones over a part of the slices."""
    total = _steps(answers)[:, rows, columns].astype(np.uint16)
    for mirrored, darker_hu in _CLOSER_LOOKS:
        steps = _steps(look_closer(Look(rows, columns, mirrored, darker_hu)))
        total += steps[..., ::-1] if mirrored else steps
    return (total // np.uint16(1 + len(_CLOSER_LOOKS))).astype(np.uint8)


def _steps(answers: Sequence[LungAnswers]) -> NDArray[np.uint8]:
    """Give the coded logits of the second answer to all slices."""
    return np.concatenate([one.codes & _SOLID_BITS for one in answers])


def _has_solid_piece(answers: Sequence[LungAnswers], spacing_mm: Spacing) -> bool:
    """Tell whether one thick piece that only the answer with solid lung finds fills much of a lung.

    Nothing fine is asked, so that every few voxels do.
    """
    steps = [max(1, round(_PIECE_GRID_MM / size)) for size in spacing_mm]
    grid_mm = (spacing_mm[0] * steps[0], spacing_mm[1] * steps[1], spacing_mm[2] * steps[2])
    codes = np.concatenate([one.codes[:, :: steps[1], :: steps[2]] for one in answers])[:: steps[0]]
    labels = label_lungs((codes >= _LUNG_BIT) | ((codes & _SOLID_BITS) > _ZERO), grid_mm)
    added = (codes < _LUNG_BIT) & (labels > 0)
    least = {
        label: SOLID_PIECE_SHARE * np.count_nonzero(labels == label)
        for label in (RIGHT_LUNG, LEFT_LUNG)
    }
    parts, _ = ndimage.label(added)
    n_voxels = np.bincount(parts.ravel())
    boxes = ndimage.find_objects(parts)
    # A piece lies within one part, and the parts that could hold one are few and small.
    for number in np.flatnonzero(n_voxels[1:] > min(least.values())):
        box = tuple(slice(max(0, one.start - 1), one.stop + 1) for one in boxes[number])
        pieces, _ = ndimage.label(_thick_part(added[box], grid_mm) & (parts[box] == number + 1))
        for label, least_voxels in least.items():
            inside = pieces[labels[box] == label]
            if np.bincount(inside[inside > 0]).max(initial=0) > least_voxels:
                return True
    return False


def _thick_part(mask: BoolVolume, grid_mm: Spacing) -> BoolVolume:
    """Keep where a ball fits in: an opening."""
    padded = np.pad(mask, 1)
    core = ndimage.distance_transform_edt(padded, sampling=grid_mm) > SOLID_PIECE_RADIUS_MM
    if not core.any():
        return np.zeros_like(mask)
    reached = ndimage.distance_transform_edt(~core, sampling=grid_mm) <= SOLID_PIECE_RADIUS_MM
    return np.asarray(reached[1:-1, 1:-1, 1:-1]) & mask


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
