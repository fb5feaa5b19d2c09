"""Where the classifier saw something, as numbers (Parametric Map; PS3.3 A.75).

One frame per affected slice, all on one grid of :data:`CELL` by :data:`CELL` pixels that covers the
lungs: the network's own map is coarser still. A viewer lays the frames over the slices by position.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor
from typing import TYPE_CHECKING, Final

import numpy as np
from highdicom import (
    PixelMeasuresSequence,
    PlaneOrientationSequence,
    PlanePositionSequence,
    VOILUTTransformation,
)
from highdicom.pm import ParametricMap, RealWorldValueMapping
from highdicom.sr import CodedConcept
from pydicom import Dataset

from screener.domain import Decision
from screener.report import codes
from screener.report.key_slices import list_affected_slices
from screener.report.lesions import Extent, lesions_of
from screener.report.seg import UID_CHARACTERS
from screener.report.source_frames import cite_sources, decimal, pin_dimensions, plane_sources

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from screener.domain import Screening, SliceSource, Volume
    from screener.report.envelope import Envelope
    from screener.report.evidence import StudyEvidence
    from screener.report.lesions import SliceLesions
    from screener.report.options import ReportOptions

#: Rows and columns of a slice that one cell of the map covers.
CELL: Final = 4


@dataclass(frozen=True, slots=True)
class MapPlan:
    """What a map is made of, all of it there."""

    volume: Volume
    slices: tuple[SliceSource, ...]
    lesions: tuple[SliceLesions, ...]  #: of the same slices


def plan_map(screening: Screening) -> MapPlan | str:
    """Collect what a map needs, or say in half a sentence why there is none."""
    volume = screening.volume
    if not isinstance(screening.outcome, Decision) or volume is None:
        return "the study was not analysed"
    if not volume.frame_of_reference_uid or len(volume.frame_of_reference_uid) > UID_CHARACTERS:
        return "the source has no valid Frame of Reference UID"
    affected = [one.slice_index for one in list_affected_slices(screening)]
    if not affected:
        return "no slice is affected"
    found = [(index, lesions_of(screening, index)) for index in affected]
    pairs = [(volume.slices[index], one) for index, one in found if one is not None]
    if not pairs:
        return "the classifier gives no maps"
    slices, lesions = zip(*pairs, strict=True)
    return MapPlan(volume, slices, lesions)


def build_map(
    evidence: StudyEvidence, envelope: Envelope, options: ReportOptions, plan: MapPlan
) -> ParametricMap:
    """Write the map of a run."""
    grid = _grid_around(plan)
    size = (round(grid.right - grid.left) // CELL, round(grid.bottom - grid.top) // CELL)
    frames = np.stack([one.resample(grid, size) for one in plan.lesions])
    sources = plane_sources(plan.volume, plan.slices, evidence)
    first = plan.slices[0]
    thickness_mm = first.slice_thickness_mm or plan.volume.spacing_mm[0]
    document = ParametricMap(
        source_images=sources,
        pixel_array=frames,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[_mapping()],
        pixel_measures=PixelMeasuresSequence(
            pixel_spacing=[decimal(CELL * value) for value in first.pixel_spacing_mm],
            slice_thickness=decimal(thickness_mm),
        ),
        plane_orientation=PlaneOrientationSequence("PATIENT", list(first.orientation)),
        plane_positions=[
            PlanePositionSequence("PATIENT", [decimal(value) for value in _corner(one, grid)])
            for one in plan.slices
        ],
        content_label="LESION_MAP",
        content_description="Where the slice classifier saw something, AI, not for diagnosis",
        content_creator_name=f"{envelope.arguments['manufacturer_model_name']}^AI",
        content_qualification=options.content_qualification.value,
        voi_lut_transformations=[VOILUTTransformation(window_center=0.5, window_width=1.0)],
        **envelope.arguments,
    )
    document.BodyPartExamined = "CHEST"
    document.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [_anatomy()]
    cite_sources(document, plan.slices, sources, evidence)
    pin_dimensions(document, envelope)
    return document


def _anatomy() -> Dataset:
    """Name both lungs (Frame Anatomy Macro, PS3.3 C.7.6.16.2.8)."""
    anatomy = Dataset()
    anatomy.FrameLaterality = "B"
    anatomy.AnatomicRegionSequence = [CodedConcept.from_code(codes.LUNG)]
    return anatomy


def _mapping() -> RealWorldValueMapping:
    return RealWorldValueMapping(
        lut_label="LESION",
        lut_explanation="Probability of a lesion, 0 to 1",
        unit=CodedConcept.from_code(codes.NO_UNITS),
        value_range=(0.0, 1.0),
        slope=1.0,
        intercept=0.0,
        quantity_definition=CodedConcept.from_code(codes.CLASS_ACTIVATION),
    )


def _grid_around(plan: MapPlan) -> Extent:
    """Give the least part of the plane that holds all maps and is whole cells wide."""
    left = floor(min(one.extent.left for one in plan.lesions))
    top = floor(min(one.extent.top for one in plan.lesions))
    right = max(one.extent.right for one in plan.lesions)
    bottom = max(one.extent.bottom for one in plan.lesions)
    return Extent(
        left,
        top,
        left + CELL * ceil((right - left) / CELL),
        top + CELL * ceil((bottom - top) / CELL),
    )


def _corner(source: SliceSource, grid: Extent) -> NDArray[np.float64]:
    """Give the centre of the first cell in patient coordinates (PS3.3 C.7.6.2.1.1)."""
    row_mm, column_mm = source.pixel_spacing_mm
    along_row, along_column = np.array(source.orientation[:3]), np.array(source.orientation[3:])
    # Image Position is the centre of the first pixel, half a pixel inside its edge.
    column = grid.left + (CELL - 1) / 2
    row = grid.top + (CELL - 1) / 2
    return (
        np.array(source.position_mm) + column * column_mm * along_row + row * row_mm * along_column
    )
