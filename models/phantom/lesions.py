"""Lesions placed into lungs, synthetic or real.

A lesion replaces alveolar air: the HU of a voxel rises by a share of what separates healthy lung
from the lesion, so that vessels stay visible through ground glass and drown in consolidation,
edges are smooth and irregular, and the noise of the image stays what it was. The patterns follow
what radiologists describe for COVID-19 and for bacterial pneumonia; nothing is copied from
patients.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from models.phantom.consolidation import (
    consolidation_fields,
    half_consolidated_fields,
    solid_lobe_fields,
    solid_lung_fields,
)
from models.phantom.grid import (
    Axes,
    FloatArray,
    Grid,
    axis_at,
    interpolated_plane,
    layer_between,
    make_grid,
)
from models.phantom.ground_glass import ground_glass_fields
from models.phantom.lesion_field import LUNGS, CoarseLungs, LesionFields, coarse_lungs
from models.phantom.spec import Pattern
from models.phantom.trees import Tubes, join_tubes, tube_occupancy

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

#: From this share of replaced air a voxel belongs to the lesion mask.
MASK_THRESHOLD = 0.2
#: What alveolar air is replaced by in the end: blood and exudate.
_SOLID_HU = 40.0
#: Inside open bronchi.
_LUMEN_HU = -930.0
#: Width of the partial-volume rim of the lungs.
_SURFACE_MM = 1.1
#: Brightness of septal lines over ground glass.
_SEPTUM_HU = 150.0


@dataclass(frozen=True, slots=True)
class PlacedLesions:
    """Lesion fields and how they reach the full grid."""

    fields: LesionFields = field(repr=False)
    target_hu: FloatArray = field(repr=False)  #: coarse, (2, slices, rows, columns)
    axes: Axes = field(repr=False)
    bronchograms: Tubes | None = field(repr=False)
    grid: Grid = field(repr=False)  #: array millimetres
    slice_spacing_mm: float
    reference_hu: float  #: healthy parenchyma
    noise_hu: float  #: of the image in the lungs, high frequencies


def place_lesions(  # noqa: PLR0917 - the image, its grid, and what to place, in this order
    volume_hu: NDArray[np.int16],
    lung_labels: NDArray[np.uint8],
    spacing_mm: tuple[float, float, float],
    pattern: Pattern,
    severity: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Put lesions into a volume or into a few slices of one.

    Slices that do not belong together are given one by one, as volumes of one slice.

    Parameters
    ----------
    volume_hu
        ``(slices, rows, columns)``, HU, slices from caudal to cranial, anterior at low rows.
    lung_labels
        Same shape, 0 outside, 1 right, 2 left lung.
    spacing_mm
        Slices, rows, columns; pixels are square.
    severity
        0 to 1: share of the lungs that is affected, 1 being about half of them.

    Returns
    -------
    :
        The volume with lesions, and where they are, both of the shape given. The normal pattern
        and a volume without lungs come back unchanged.

    Raises
    ------
    ValueError
        Shapes differ, pixels are not square, or severity is out of range.
    """
    if volume_hu.shape != lung_labels.shape:
        raise ValueError(
            f"volume_hu has shape {volume_hu.shape}, lung_labels {lung_labels.shape}; "
            "they must agree."
        )
    if not 0 <= severity <= 1:
        raise ValueError(f"severity is {severity}; it must lie between 0 and 1.")
    if abs(spacing_mm[1] - spacing_mm[2]) > 0.02 * spacing_mm[1]:
        raise ValueError(
            f"Pixels are {spacing_mm[1:]} mm; lesions are drawn on square pixels only."
        )
    if pattern is Pattern.NORMAL or not lung_labels.any():
        return volume_hu.copy(), np.zeros(volume_hu.shape, bool)
    placed = draw_lesions(
        lung_labels,
        spacing_mm,
        pattern,
        severity,
        rng,
        reference_hu=_reference_hu(volume_hu, lung_labels),
        noise_hu=_noise_hu(volume_hu, lung_labels),
    )
    return _apply_to_all(placed, volume_hu, lung_labels, rng)


def place_solid_lobes(
    volume_hu: NDArray[np.int16],
    lung_labels: NDArray[np.uint8],
    spacing_mm: tuple[float, float, float],
    fraction: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Turn whole lobes solid until a share of the lungs is: what lung segmentations lose most.

    Parameters and result as ``place_lesions``; ``fraction`` of the lungs, 0 to 1, is solid at
    least. A volume without lungs comes back unchanged.
    """
    return _place(
        lambda lungs: solid_lobe_fields(lungs, fraction, MASK_THRESHOLD, rng),
        volume_hu,
        lung_labels,
        spacing_mm,
        rng,
    )


def place_consolidation(
    volume_hu: NDArray[np.int16],
    lung_labels: NDArray[np.uint8],
    spacing_mm: tuple[float, float, float],
    fraction: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Consolidate parts of lobes and patches, aerated lung between, until a share is affected.

    Parameters and result as ``place_solid_lobes``.
    """
    return _place(
        lambda lungs: half_consolidated_fields(lungs, fraction, MASK_THRESHOLD, rng),
        volume_hu,
        lung_labels,
        spacing_mm,
        rng,
    )


def place_solid_lung(
    volume_hu: NDArray[np.int16],
    lung_labels: NDArray[np.uint8],
    spacing_mm: tuple[float, float, float],
    rng: np.random.Generator,
) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Turn one lung solid altogether; parameters and result as ``place_solid_lobes``."""
    return _place(
        lambda lungs: solid_lung_fields(lungs, rng), volume_hu, lung_labels, spacing_mm, rng
    )


def _place(
    draw: Callable[[CoarseLungs], LesionFields],
    volume_hu: NDArray[np.int16],
    lung_labels: NDArray[np.uint8],
    spacing_mm: tuple[float, float, float],
    rng: np.random.Generator,
) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Draw fields on the coarse lungs of a volume and change every plane."""
    if not lung_labels.any():
        return volume_hu.copy(), np.zeros(volume_hu.shape, bool)
    lungs = coarse_lungs(lung_labels, spacing_mm, rng)
    placed = _on_grid(
        draw(lungs),
        lungs,
        lung_labels.shape,
        spacing_mm,
        reference_hu=_reference_hu(volume_hu, lung_labels),
        noise_hu=_noise_hu(volume_hu, lung_labels),
    )
    return _apply_to_all(placed, volume_hu, lung_labels, rng)


def _apply_to_all(
    placed: PlacedLesions,
    volume_hu: NDArray[np.int16],
    lung_labels: NDArray[np.uint8],
    rng: np.random.Generator,
) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Change every plane, in order."""
    changed = volume_hu.copy()
    mask = np.zeros(volume_hu.shape, bool)
    for index in range(len(volume_hu)):
        plane, mask[index] = apply_lesions(placed, index, volume_hu[index], lung_labels[index], rng)
        changed[index] = np.clip(np.round(plane), -1024, 3071)
    return changed, mask


def draw_lesions(
    lung_labels: NDArray[np.uint8],
    spacing_mm: tuple[float, float, float],
    pattern: Pattern,
    severity: float,
    rng: np.random.Generator,
    *,
    reference_hu: float,
    noise_hu: float,
) -> PlacedLesions:
    """Decide where lesions are and how dense; nothing is changed yet.

    Parameters
    ----------
    reference_hu
        HU of healthy parenchyma in this volume.
    noise_hu
        Standard deviation of the image noise that lesions must not smooth away.
    """
    lungs = coarse_lungs(lung_labels, spacing_mm, rng)
    draw = ground_glass_fields if pattern is Pattern.COVID_19 else consolidation_fields
    return _on_grid(
        draw(lungs, severity, MASK_THRESHOLD, rng),
        lungs,
        lung_labels.shape,
        spacing_mm,
        reference_hu=reference_hu,
        noise_hu=noise_hu,
    )


def _on_grid(
    fields: LesionFields,
    lungs: CoarseLungs,
    shape: tuple[int, ...],
    spacing_mm: tuple[float, float, float],
    *,
    reference_hu: float,
    noise_hu: float,
) -> PlacedLesions:
    """Say how coarse fields reach the grid of the volume, ``(slices, rows, columns)``."""
    rows, columns = shape[1:]
    pixel_mm = spacing_mm[1]
    offset_mm = (-(columns - 1) / 2 * pixel_mm, -(rows - 1) / 2 * pixel_mm)
    return PlacedLesions(
        fields=fields,
        target_hu=fields.target_hu,
        axes=_axes(lungs, shape),
        bronchograms=join_tubes(fields.bronchograms) if fields.bronchograms else None,
        grid=make_grid(rows, columns, pixel_mm, offset_mm),
        slice_spacing_mm=spacing_mm[0],
        reference_hu=reference_hu,
        noise_hu=noise_hu,
    )


def _axes(lungs: CoarseLungs, shape: tuple[int, ...]) -> Axes:
    """Interpolate from every stride-th sample to all."""
    slices, rows, columns = (
        axis_at(np.arange(n_fine) / stride, n_coarse)
        for n_fine, n_coarse, stride in zip(shape, lungs.labels.shape, lungs.strides, strict=True)
    )
    return slices, rows, columns


def apply_lesions(
    placed: PlacedLesions,
    index: int,
    plane_hu: NDArray[np.int16] | FloatArray,
    labels: NDArray[np.uint8],
    rng: np.random.Generator,
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Change one plane.

    Returns
    -------
    :
        The plane as float32, not rounded, and the mask of its lesions.
    """
    changed = plane_hu.astype(np.float32)
    share = np.zeros(labels.shape, np.float32)
    target = np.zeros(labels.shape, np.float32)
    lines = np.zeros(labels.shape, np.float32)
    reach = ndimage.maximum_filter(
        labels, 2 * max(1, round(_SURFACE_MM / placed.grid.pixel_mm)) + 1
    )
    for side, lung in enumerate(LUNGS):
        if layer_between(placed.fields.share[side], placed.axes, index).max() <= 0:
            continue
        # Voxels at the surface hold some air too; the formula spares what is solid in them.
        here = reach == lung
        share[here] = interpolated_plane(placed.fields.share[side], placed.axes, index)[here]
        target[here] = interpolated_plane(placed.target_hu[side], placed.axes, index)[here]
        lines[here] = interpolated_plane(placed.fields.reticulation[side], placed.axes, index)[here]
    mask = (share > MASK_THRESHOLD) & (labels > 0)
    if not share.any():
        return changed, mask
    rows, columns = np.nonzero(share.any(axis=1))[0], np.nonzero(share.any(axis=0))[0]
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    if lines.any():
        target[box] += _SEPTUM_HU * lines[box] * _septa(lines[box].shape, placed.grid.pixel_mm, rng)
    changed[box] = _replace_air(placed, changed[box], share[box], target[box])
    if placed.bronchograms is not None:
        z_mm = index * placed.slice_spacing_mm
        lumen = tube_occupancy(placed.bronchograms, placed.grid, z_mm, placed.slice_spacing_mm)
        lumen *= _solid_share(share) * (labels > 0)
        changed += lumen * (_LUMEN_HU - changed)
    return changed, mask


def _solid_share(share: FloatArray) -> FloatArray:
    """Say where a lesion is solid enough for bronchi to stand out."""
    return np.asarray(np.clip((share - 0.6) / 0.3, 0, 1))


def _replace_air(
    placed: PlacedLesions, plane_hu: FloatArray, share: FloatArray, target_hu: FloatArray
) -> FloatArray:
    """Fill air by the given share, sparing vessels, open airways and the noise."""
    smooth = ndimage.gaussian_filter(plane_hu, 1.0)
    detail = plane_hu - smooth
    reference_hu = np.float32(placed.reference_hu)
    solid_hu = np.float32(_SOLID_HU) - reference_hu
    # Large airways are darker than any lung: they stay open.
    open_share = np.clip((smooth - (reference_hu - 130)) / 60, 0, 1)
    rise_hu = np.maximum(target_hu - reference_hu, 0) * share * open_share
    vessel = np.clip((plane_hu - reference_hu) / solid_hu, 0, 1)
    grain = np.clip(detail, -1.5 * placed.noise_hu, 1.5 * placed.noise_hu)
    changed = plane_hu + rise_hu * (1 - vessel) + rise_hu / solid_hu * grain
    return np.asarray(changed, np.float32)


def _septa(shape: tuple[int, int], pixel_mm: float, rng: np.random.Generator) -> FloatArray:
    """Give a net of thin lines some millimetres wide: the zero crossings of a random field."""
    field_values = rng.standard_normal(shape, dtype=np.float32)
    field_values = ndimage.gaussian_filter(field_values, 2.0 / pixel_mm, truncate=3.0)
    field_values /= max(float(field_values.std()), 1e-6)
    return np.asarray(np.exp(-((field_values / 0.3) ** 2)), np.float32)


def _reference_hu(volume_hu: NDArray[np.int16], lung_labels: NDArray[np.uint8]) -> float:
    """Give the HU of healthy parenchyma: what a third of the lungs lies below."""
    return float(np.percentile(volume_hu[lung_labels > 0], 35))


def _noise_hu(volume_hu: NDArray[np.int16], lung_labels: NDArray[np.uint8]) -> float:
    """Estimate the fine-grained noise in the lungs from the slice that has most of them."""
    index = int(np.argmax((lung_labels > 0).sum(axis=(1, 2))))
    plane = volume_hu[index].astype(np.float32)
    detail = (plane - ndimage.gaussian_filter(plane, 1.0))[lung_labels[index] > 0]
    return float(1.4826 * np.median(np.abs(detail - np.median(detail))))
