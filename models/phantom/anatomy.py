"""One drawn patient: sizes and shapes in millimetres, and how they change along the body.

Heights are given as `level`: 0 at the deepest point of the lungs behind the diaphragm, 1 at the
apices. Proportions are our own reading of adult chest CT.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.phantom.grid import Ellipse, smoothstep

#: Levels at which the outline tables below are given.
_LEVELS = (-0.6, 0.0, 0.2, 0.4, 0.6, 0.75, 0.85, 0.93, 1.0, 1.05)
#: Half width of the chest cavity, as a share of its largest.
_CAVITY_WIDTH = (0.92, 0.97, 1.0, 1.0, 0.97, 0.91, 0.82, 0.68, 0.46, 0.06)
#: Half depth of the chest cavity, as a share of its largest.
_CAVITY_DEPTH = (0.90, 0.98, 1.0, 1.0, 0.97, 0.91, 0.82, 0.68, 0.46, 0.06)
#: Shift of the cavity's middle to the back, as a share of the half depth: the spine is bent.
_CAVITY_SHIFT = (0.0, 0.0, 0.0, 0.0, 0.02, 0.07, 0.13, 0.21, 0.30, 0.36)
#: Half width of the mediastinum without heart and great vessels, in millimetres.
_STRIP_WIDTH_MM = (14.0, 14.0, 14.0, 16.0, 19.0, 21.0, 23.0, 25.0, 27.0, 28.0)


@dataclass(frozen=True, slots=True)
class Anatomy:
    """The patient of one seed; lengths in millimetres."""

    lung_height_mm: float
    cavity_half_width_mm: float
    cavity_half_depth_mm: float
    fat_mm: float  #: under the skin
    muscle_mm: float  #: outside the ribs
    has_breasts: bool
    breast_mm: float
    shoulder_level: float  #: where the humeral heads begin
    right_dome_mm: float  #: height of the right dome of the diaphragm
    left_dome_mm: float
    heart_scale: float
    heart_shift_mm: float
    aorta_radius_mm: float
    carina_level: float
    vertebra_mm: float  #: half width of a vertebral body
    rib_spacing_mm: float
    rib_slope_mm: float  #: how far a rib descends from back to front
    rib_phase: float
    lung_hu: float  #: mean of the parenchyma with small vessels
    gravity_hu: float  #: from the front to the back of the lungs
    stomach_gas: float  #: 0 to 1
    offset_mm: tuple[float, float]
    rotation_rad: float
    has_flat_table: bool
    tree_seed: int

    def level(self, z_mm: float) -> float:
        """Give the height of a plane, 0 at the lung bases, 1 at the apices."""
        return z_mm / self.lung_height_mm

    def cavity(self, level: float) -> Ellipse:
        """Give the inner outline of the rib cage."""
        depth_mm = self.cavity_half_depth_mm
        return Ellipse(
            0.0,
            depth_mm * float(np.interp(level, _LEVELS, _CAVITY_SHIFT)),
            self.cavity_half_width_mm * float(np.interp(level, _LEVELS, _CAVITY_WIDTH)),
            depth_mm * float(np.interp(level, _LEVELS, _CAVITY_DEPTH)),
            squareness=0.32,
        )

    def rib_cage(self, level: float) -> Ellipse:
        """Give the outline that ribs follow; above the apices it does not close."""
        return self.cavity(min(level, 0.93))

    def strip_half_width_mm(self, level: float) -> float:
        """Give half the width of the mediastinum, heart and great vessels left out."""
        return float(np.interp(level, _LEVELS, _STRIP_WIDTH_MM))

    def back_mm(self, level: float) -> float:
        """Give the y of the hindmost point of the cavity."""
        cavity = self.cavity(min(level, 0.85))
        return cavity.y_mm + cavity.half_y_mm

    def vertebra(self, level: float) -> Ellipse:
        """Give the vertebral body."""
        half_mm = self.vertebra_mm * (1.08 - 0.22 * min(max(level, 0.0), 1.1))
        return Ellipse(0.0, self.back_mm(level) - 25.0, half_mm, half_mm * 0.82, squareness=0.48)

    def torso(self, level: float) -> Ellipse:
        """Give the skin outline without shoulders and breasts."""
        front = -self.cavity_half_depth_mm - 14 - self.fat_mm * 0.9
        front += 52 * smoothstep(0.62, 1.12, level)
        back = self.cavity_half_depth_mm + 38 + 0.5 * self.fat_mm
        half_width = self.cavity_half_width_mm + 5 + 0.6 * self.muscle_mm + self.fat_mm
        half_width *= 1 - 0.3 * smoothstep(0.88, 1.15, level)
        return Ellipse(0.0, (front + back) / 2, half_width, (back - front) / 2, squareness=0.42)


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """Draw one adult."""
    size = rng.normal(1.0, 0.05)
    half_width_mm = rng.uniform(114, 130) * size
    has_breasts = bool(rng.random() < 0.5)  # noqa: PLR2004 - half of the patients are women
    right_dome_mm = rng.uniform(85, 110) * size
    return Anatomy(
        lung_height_mm=rng.uniform(235, 275) * size,
        cavity_half_width_mm=half_width_mm,
        cavity_half_depth_mm=half_width_mm * rng.uniform(0.7, 0.84),
        fat_mm=rng.uniform(7, 24),
        muscle_mm=rng.uniform(8, 16),
        has_breasts=has_breasts,
        breast_mm=rng.uniform(20, 38),
        shoulder_level=rng.uniform(0.93, 1.03),
        right_dome_mm=right_dome_mm,
        left_dome_mm=right_dome_mm - rng.uniform(8, 22),
        heart_scale=rng.uniform(0.9, 1.12) * size,
        heart_shift_mm=rng.uniform(-4, 8),
        aorta_radius_mm=rng.uniform(11, 14.5),
        carina_level=rng.uniform(0.63, 0.68),
        vertebra_mm=rng.uniform(16.5, 20),
        rib_spacing_mm=rng.uniform(21, 25) * size,
        rib_slope_mm=rng.uniform(75, 105),
        rib_phase=rng.uniform(0, 1),
        lung_hu=rng.uniform(-890, -800),
        gravity_hu=rng.uniform(40, 110),
        stomach_gas=rng.uniform(0, 1),
        offset_mm=(rng.uniform(-9, 9), rng.uniform(-16, 4)),
        rotation_rad=rng.uniform(-0.08, 0.08),
        has_flat_table=bool(rng.random() < 0.4),  # noqa: PLR2004 - curved ones are commoner
        tree_seed=int(rng.integers(0, 2**31)),
    )
