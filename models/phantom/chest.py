"""A whole phantom: planes painted, lesions placed, vessels and airways drawn, image acquired."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from models.phantom.acquisition import (
    air_plane,
    draw_noise,
    noise_filter,
    noise_map,
    paint_table,
    sharpen_or_blur,
    to_stored,
)
from models.phantom.anatomy import Anatomy, draw_anatomy
from models.phantom.body import (
    FAT_HU,
    Plane,
    Textures,
    body_window,
    draw_textures,
    paint_body_wall,
    paint_bones,
)
from models.phantom.grid import FloatArray, Grid, box_around, make_grid, paint
from models.phantom.lesions import PlacedLesions, apply_lesions, draw_lesions
from models.phantom.lungs import lung_occupancy, parenchyma_hu
from models.phantom.pulmonary_trees import PulmonaryTrees, grow_pulmonary_trees, paint_trees
from models.phantom.spec import LEFT_LUNG, RIGHT_LUNG, Pattern, Phantom, PhantomSpec
from models.phantom.viscera import (
    Diaphragm,
    Organ,
    great_vessels,
    heart_parts,
    hila,
    make_diaphragm,
    oesophagus,
    paint_abdomen,
    paint_mediastinum,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Thicker slices are averaged from planes of about this thickness.
_PLANE_MM = 2.6
_MOST_PLANES = 3
#: Height of the middle of a chest scan, in lung heights.
_CHEST_CENTRE = 0.5
#: Height of the middle of an abdominal scan.
_ABDOMEN_CENTRE = -0.62


@dataclass(frozen=True, slots=True)
class Scene:
    """One patient on one grid, ready to be painted."""

    spec: PhantomSpec
    anatomy: Anatomy
    grid: Grid = field(repr=False)
    textures: Textures = field(repr=False)
    diaphragm: Diaphragm = field(repr=False)
    z_mm: FloatArray = field(repr=False)  #: height of every slice


def make_phantom(spec: PhantomSpec) -> Phantom:
    """Make a chest CT volume with exact lung and lesion masks.

    Returns
    -------
    :
        The same spec gives the same voxels. The lung labels hold parenchyma with its vessels and
        lesions; trachea, main bronchi and hila are outside.
    """
    return _make(spec, _CHEST_CENTRE)


def make_abdomen(spec: PhantomSpec) -> Phantom:
    """Make an abdominal CT volume below the lungs, for refusals; the pattern must be normal.

    Raises
    ------
    ValueError
        The pattern is not normal: there is no lung to hold a lesion.
    """
    if spec.pattern is not Pattern.NORMAL:
        raise ValueError(f"pattern is {spec.pattern.value}; an abdomen has none, give normal.")
    return _make(spec, _ABDOMEN_CENTRE)


def _make(spec: PhantomSpec, centre: float) -> Phantom:
    scene = _set_scene(spec, centre)
    planes = [_paint_slice(scene, index) for index in range(spec.n_slices)]
    labels = np.stack([label for _, label in planes])
    lesion_rng = np.random.default_rng([spec.seed, 3])
    lesions = _draw_lesions(scene, labels, lesion_rng)
    trees = grow_pulmonary_trees(scene.anatomy, scene.grid, labels, scene.z_mm)
    noise_rng = np.random.default_rng([spec.seed, 4])
    amplitude = noise_filter(scene.grid.shape, spec.pixel_spacing_mm, spec.kernel)
    volume = np.empty(labels.shape, np.int16)
    lesion_mask = np.zeros(labels.shape, bool)
    for index, (healthy_hu, label) in enumerate(planes):
        plane_hu = healthy_hu
        if lesions is not None:
            plane_hu, lesion_mask[index] = apply_lesions(
                lesions, index, plane_hu, label, lesion_rng
            )
        _draw_trees(scene, trees, index, plane_hu)
        image = sharpen_or_blur(plane_hu, spec.pixel_spacing_mm, spec.kernel)
        if spec.noise_hu > 0:
            level = scene.anatomy.level(float(scene.z_mm[index]))
            noise = draw_noise(noise_rng, scene.grid.shape, amplitude)
            image += np.float32(spec.noise_hu) * noise * noise_map(scene.grid, scene.anatomy, level)
        volume[index] = to_stored(image)
    return Phantom(volume, spec.spacing_mm, labels, lesion_mask, spec.pattern, spec.kernel)


def _set_scene(spec: PhantomSpec, centre: float) -> Scene:
    """Draw the patient and lay the grid over it."""
    rng = np.random.default_rng([spec.seed, 1])
    anatomy = draw_anatomy(rng)
    grid = make_grid(
        spec.rows, spec.columns, spec.pixel_spacing_mm, anatomy.offset_mm, anatomy.rotation_rad
    )
    number = np.arange(spec.n_slices, dtype=np.float32) - (spec.n_slices - 1) / 2
    z_mm = np.asarray(number * spec.slice_spacing_mm + centre * anatomy.lung_height_mm, np.float32)
    shape = (spec.n_slices, spec.rows, spec.columns)
    textures = draw_textures(np.random.default_rng([spec.seed, 2]), shape, spec.spacing_mm)
    return Scene(spec, anatomy, grid, textures, make_diaphragm(anatomy, grid), z_mm)


def _paint_slice(scene: Scene, index: int) -> tuple[FloatArray, NDArray[np.uint8]]:
    """Average the planes of one slice; label what is lung for at least half of the voxel."""
    thickness_mm = scene.spec.slice_spacing_mm
    n_planes = min(_MOST_PLANES, max(1, math.ceil(thickness_mm / _PLANE_MM - 0.2)))
    slice_hu = np.zeros(scene.grid.shape, np.float32)
    lungs = np.zeros(scene.grid.shape, np.float32)
    textures = scene.textures.of_slice(index)
    for number in range(n_planes):
        shift_mm = ((number + 0.5) / n_planes - 0.5) * thickness_mm
        plane = Plane(
            scene.anatomy,
            scene.grid,
            float(scene.z_mm[index]) + shift_mm,
            thickness_mm / n_planes,
            textures,
        )
        plane_hu, lung = _paint_plane(plane, scene.diaphragm)
        slice_hu += plane_hu / n_planes
        lungs += lung / n_planes
    side = np.where(scene.grid.x_mm < 0, RIGHT_LUNG, LEFT_LUNG)
    return slice_hu, np.where(lungs >= 0.5, side, 0).astype(np.uint8)  # noqa: PLR2004


def _paint_plane(whole: Plane, diaphragm: Diaphragm) -> tuple[FloatArray, FloatArray]:
    """Paint one plane from the outside to the inside; give it and the share of lung.

    Each part is painted where it can be seen: the body in its box, what it holds in the cavity's.
    """
    anatomy = whole.anatomy
    whole_hu, lungs = air_plane(whole.grid), np.zeros(whole.grid.shape, np.float32)
    body = body_window(whole)
    plane, plane_hu = whole.within(body), whole_hu[body]
    cavity = paint_body_wall(plane, plane_hu)
    paint_table(whole_hu, whole.grid, anatomy)
    chest = box_around(1 - cavity, 1.0, 1, cavity.shape)
    inner, above = plane.within(chest), diaphragm.within(body).within(chest)
    organs = [
        *hila(plane.level),
        oesophagus(anatomy, plane.level),
        *great_vessels(anatomy, plane.level),
        *heart_parts(anatomy, plane.z_mm),
    ]
    paint(plane_hu[chest], cavity[chest], _paint_inside(inner, above, organs))
    paint_bones(plane, plane_hu)
    lung = lung_occupancy(inner, above, organs)
    paint(plane_hu[chest], lung, parenchyma_hu(inner))
    lungs[body][chest] = lung
    return whole_hu, lungs


def _paint_inside(plane: Plane, diaphragm: Diaphragm, organs: list[Organ]) -> FloatArray:
    """Give what the cavity holds besides lung: mediastinum, and abdomen under the diaphragm."""
    inside = np.asarray(FAT_HU + 8 * plane.textures.tissue, np.float32)
    paint_mediastinum(plane, inside, organs)
    above = diaphragm.above(plane.z_mm, plane.thickness_mm, plane.grid.pixel_mm)
    if float(above.min(initial=1.0)) < 1:
        paint(inside, 1 - above, paint_abdomen(plane))
    return inside


def _draw_lesions(
    scene: Scene, labels: NDArray[np.uint8], rng: np.random.Generator
) -> PlacedLesions | None:
    spec = scene.spec
    if spec.pattern is Pattern.NORMAL or not labels.any():
        return None
    return draw_lesions(
        labels,
        spec.spacing_mm,
        spec.pattern,
        spec.severity,
        rng,
        reference_hu=scene.anatomy.lung_hu,
        noise_hu=0.0,
    )


def _draw_trees(scene: Scene, trees: PulmonaryTrees, index: int, plane_hu: FloatArray) -> None:
    z_mm = float(scene.z_mm[index])
    paint_trees(trees, scene.grid, z_mm, scene.spec.slice_spacing_mm, plane_hu)
