"""Volume to lung mask, and the question whether this is a chest at all.

The network sees each slice as soon as it is decoded; what only the whole volume can tell (two
lungs, right and left, holes) is decided once all slices are there. The gate looks at the pixels,
because headers lie about body parts: without two air-filled lungs there is no decision.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.errors import ModelError
from models.lung_answers import Look, LungAnswers, choose_lungs
from models.lung_components import label_lungs
from screener.domain import (
    LEFT_LUNG,
    RIGHT_LUNG,
    HuArray,
    LabelArray,
    LungMask,
    NotAnalysedReason,
    Volume,
)
from screener.errors import ModelFailure, NotAnalysable
from screener.lanes import in_lanes

MaskArray = NDArray[np.bool_]


class Segmenter(Protocol):
    """What a lung model must do; :class:`models.session.LungSegmenter` does."""

    def answers(self, images: HuArray) -> LungAnswers:
        """Give the lungs of ``(batch, rows, columns)`` without and with what is solid."""
        ...


@dataclass(frozen=True, slots=True)
class ChestRules:
    """What two lungs look like; the least that a severely ill or partly shown chest still has.

    Volumes in ml, lengths in mm, HU. ``aerated_hu`` and ``least_aerated_share``: part of the
    lungs that must hold air; below it, it is soft tissue, not a consolidated lung.
    """

    least_total_ml: float = 500.0
    most_total_ml: float = 12_000.0
    least_lung_ml: float = 100.0
    least_extent_mm: float = 75.0
    aerated_hu: int = -500
    least_aerated_share: float = 0.15
    least_slice_area_mm2: float = 1_000.0  #: a slice with less is no lung-bearing slice here
    bone_hu: int = 250
    least_bone_ml: float = 25.0  #: ribs and spine; water phantoms with air in them have none


@dataclass(frozen=True, slots=True)
class DisplayFlips:
    """How stored slices differ from the standard display: right at low columns, front on top."""

    rows: bool
    columns: bool

    def apply(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """Flip the last two axes; applying it twice gives the array back."""
        if self.rows:
            array = array[..., ::-1, :]
        if self.columns:
            array = array[..., ::-1]
        return np.ascontiguousarray(array)


def display_flips(orientation: tuple[float, float, float, float, float, float]) -> DisplayFlips:
    """Tell which axes of a slice run against the standard display.

    Parameters
    ----------
    orientation
        Image Orientation (Patient) of an axial slice: x grows to the patient's left, y to the
        back (PS3.3 C.7.6.2.1.1).
    """
    return DisplayFlips(rows=orientation[4] < 0, columns=orientation[0] < 0)


def find_lung_pixels(
    batches: Iterable[tuple[int, HuArray]],
    segmenter: Segmenter,
    flips: DisplayFlips,
    n_lanes: int = 1,
) -> list[LungAnswers]:
    """Run the lung network over slices as they come.

    Parameters
    ----------
    batches
        Index of the first slice and HU ``(batch, rows, columns)``, in order.
    segmenter
        The open lung model.
    flips
        Brings slices to the standard display, as the network knows them.
    n_lanes
        Batches at a time.

    Returns
    -------
    :
        The answers batch by batch, oriented as stored.

    Raises
    ------
    ModelFailure
        The model failed or gave another shape than it got.
    """

    def answer(batch: tuple[int, HuArray]) -> LungAnswers:
        start, batch_hu = batch
        shown = np.asarray(flips.apply(batch_hu), dtype=np.int16)
        try:
            answers = segmenter.answers(shown)
        except ModelError as error:
            raise ModelFailure(str(error)) from error
        codes = answers.codes
        if codes.shape != batch_hu.shape:
            raise ModelFailure(
                f"the lung model gave {codes.shape} for {batch_hu.shape} from slice {start + 1} on"
            )
        return LungAnswers(np.asarray(flips.apply(codes), dtype=np.uint8), answers.sums)

    return in_lanes(answer, batches, n_lanes)


def choose_lung_pixels(
    answers: Sequence[LungAnswers],
    volume: Volume,
    segmenter: Segmenter,
    batch_size: int,
    n_lanes: int = 1,
) -> MaskArray:
    """Choose the raw mask of a volume from the answers to its slices, oriented as stored.

    Raises
    ------
    ModelFailure
        The model failed when it looked closer, or gave another shape than it got.
    """
    flips = display_flips(volume.slices[0].orientation)

    def look_closer(look: Look) -> list[LungAnswers]:
        starts = range(0, len(volume.volume_hu), batch_size)
        batches = (
            (start, look.show(volume.volume_hu[start : start + batch_size])) for start in starts
        )
        return find_lung_pixels(batches, segmenter, flips, n_lanes)

    return choose_lungs(answers, volume.spacing_mm, look_closer)


def label_lung_mask(mask: MaskArray, volume: Volume) -> LungMask:
    """Clean a raw mask up into two labelled lungs and measure them.

    Parameters
    ----------
    mask
        Raw mask of the volume, ``(slices, rows, columns)``.
    volume
        The volume that it belongs to.
    """
    flips = display_flips(volume.slices[0].orientation)
    shown = label_lungs(np.asarray(flips.apply(mask), dtype=np.bool_), volume.spacing_mm)
    labels: LabelArray = np.asarray(flips.apply(shown), dtype=np.uint8)
    right_ml, left_ml = (
        float(_slice_areas_mm2(labels == label, volume) @ slice_widths_mm(volume)) / 1000.0
        for label in (RIGHT_LUNG, LEFT_LUNG)
    )
    return LungMask(labels, right_ml, left_ml)


def slice_widths_mm(volume: Volume) -> NDArray[np.float64]:
    """Give the length along the normal that each slice stands for, from real positions.

    Half the way to either neighbour, so that a gap is shared by the slices around it; the outer
    slices stand for a whole median spacing.
    """
    locations = np.array([one.location_mm for one in volume.slices])
    middle = 0.5 * (locations[1:] + locations[:-1])
    half = 0.5 * volume.spacing_mm[0]
    edges = np.concatenate([[locations[0] - half], middle, [locations[-1] + half]])
    return np.asarray(np.diff(edges), dtype=np.float64)


def check_chest(lungs: LungMask, volume: Volume, rules: ChestRules) -> None:
    """Refuse a volume that does not show two air-filled lungs.

    Parameters
    ----------
    lungs
        The labelled lungs of the volume.
    volume
        The volume in HU.
    rules
        What two lungs look like.

    Raises
    ------
    NotAnalysable
        NOT_A_CHEST or LUNGS_INCOMPLETE, with the numbers.
    """
    total_ml = lungs.right_volume_ml + lungs.left_volume_ml
    if not rules.least_total_ml <= total_ml <= rules.most_total_ml:
        raise NotAnalysable(
            NotAnalysedReason.NOT_A_CHEST,
            f"lungs of {total_ml:.0f} ml were found, {rules.least_total_ml:.0f} to "
            f"{rules.most_total_ml:.0f} ml are a chest",
        )
    aerated_share = _aerated_share(lungs, volume, rules.aerated_hu)
    if aerated_share < rules.least_aerated_share:
        raise NotAnalysable(
            NotAnalysedReason.NOT_A_CHEST,
            f"{aerated_share:.0%} of what looked like lungs is below {rules.aerated_hu} HU, "
            f"at least {rules.least_aerated_share:.0%} of a lung is",
        )
    bone_ml = _bone_ml(volume, rules.bone_hu)
    if bone_ml < rules.least_bone_ml:
        raise NotAnalysable(
            NotAnalysedReason.NOT_A_CHEST,
            f"{bone_ml:.0f} ml of bone (above {rules.bone_hu} HU) were found, a chest has at "
            f"least {rules.least_bone_ml:.0f} ml",
        )
    smaller_ml = min(lungs.right_volume_ml, lungs.left_volume_ml)
    if smaller_ml < rules.least_lung_ml:
        raise NotAnalysable(
            NotAnalysedReason.LUNGS_INCOMPLETE,
            f"right lung {lungs.right_volume_ml:.0f} ml, left lung {lungs.left_volume_ml:.0f} ml; "
            f"each needs at least {rules.least_lung_ml:.0f} ml",
        )
    extent_mm = _extent_mm(lungs, volume, rules)
    if extent_mm < rules.least_extent_mm:
        raise NotAnalysable(
            NotAnalysedReason.LUNGS_INCOMPLETE,
            f"lungs are shown over {extent_mm:.0f} mm from bottom to top, "
            f"at least {rules.least_extent_mm:.0f} mm are needed",
        )


def _slice_areas_mm2(mask: MaskArray, volume: Volume) -> NDArray[np.float64]:
    pixel_mm2 = volume.spacing_mm[1] * volume.spacing_mm[2]
    # Slice by slice: along axes it would first make an integer of every voxel.
    return np.array([np.count_nonzero(one) for one in mask], dtype=np.float64) * pixel_mm2


def _aerated_share(lungs: LungMask, volume: Volume, aerated_hu: int) -> float:
    """Share of the lungs that holds air; every second row and column is enough to tell."""
    inside = lungs.labels[:, ::2, ::2] > 0
    n_inside = int(np.count_nonzero(inside))
    if n_inside == 0:
        return 0.0
    values = volume.volume_hu[:, ::2, ::2][inside]
    return float(np.count_nonzero(values < aerated_hu)) / n_inside


def _bone_ml(volume: Volume, bone_hu: int) -> float:
    """Volume above a threshold; every second row and column is enough to tell."""
    n_voxels = int(np.count_nonzero(volume.volume_hu[:, ::2, ::2] > bone_hu))
    return 4.0 * n_voxels * float(np.prod(volume.spacing_mm)) / 1000.0


def _extent_mm(lungs: LungMask, volume: Volume, rules: ChestRules) -> float:
    """Length along the normal of the slices that show a fair area of lung."""
    areas_mm2 = _slice_areas_mm2(lungs.labels > 0, volume)
    return float(slice_widths_mm(volume)[areas_mm2 >= rules.least_slice_area_mm2].sum())
