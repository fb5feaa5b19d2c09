"""Build the slices on which the classifier learns: lesions in real lungs, and phantoms.

Each body of data carries all three classes, so that nothing but the lesions tells them apart. A
slice without lesion is normal, whatever its patient has.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.lung_components import label_lungs
from models.phantom import Kernel, Pattern, PhantomSpec, make_phantom, place_lesions
from models.training.data import LungSlices
from models.training.slice_data import UNSURE, LabelledSlices, join_slices

#: Order of the classes in the logits; ``UNSURE`` is no class.
CLASS_ORDER = (Pattern.NORMAL, Pattern.COVID_19, Pattern.COMMUNITY_ACQUIRED_PNEUMONIA)
#: Distance of the LCTSC slices in the training folder (every second of 3 mm) and of their pixels.
LCTSC_SPACING_MM = (6.0, 1.95, 1.95)


@dataclass(frozen=True, slots=True)
class BankRecipe:
    """How many slices of which kind, and from which lesion share on a slice counts as affected."""

    seed: int = 7
    n_placements: int = 3  #: lesions placed anew in each real patient, per pattern
    n_phantoms: int = 20  #: per pattern
    n_phantom_slices: int = 24
    first_phantom_seed: int = 10_000  #: tests and demo use seeds below
    affected_share: float = 0.01  #: of the lung area of the slice
    clean_share: float = 0.001
    smallest_lung_pixels: int = 700  #: about 27 ml per cm of slice; less shows no lung to judge


def build_bank(slices: LungSlices, recipe: BankRecipe) -> LabelledSlices:
    """Place lesions in every patient of the slices and add phantoms of every pattern."""
    parts = [*_real_parts(slices, recipe), *_phantom_parts(recipe)]
    return join_slices(parts)


def _real_parts(slices: LungSlices, recipe: BankRecipe) -> Iterator[LabelledSlices]:
    rng = np.random.default_rng(recipe.seed)
    for patient in sorted(set(slices.patients)):
        one = slices.of_patients(frozenset([patient]))
        labels = label_lungs(one.mask, LCTSC_SPACING_MM)
        clean = np.zeros_like(one.mask)
        yield label_slices(one.hu, labels > 0, clean, Pattern.NORMAL, recipe)
        for pattern in CLASS_ORDER[1:]:
            for _ in range(recipe.n_placements):
                severity = float(rng.uniform(0.15, 1.0))
                hu, lesion = place_lesions(one.hu, labels, LCTSC_SPACING_MM, pattern, severity, rng)
                yield label_slices(hu, labels > 0, lesion, pattern, recipe)


def _phantom_parts(recipe: BankRecipe) -> Iterator[LabelledSlices]:
    rng = np.random.default_rng(recipe.seed + 1)
    kernels = list(Kernel)
    for n in range(recipe.n_phantoms):
        for pattern in CLASS_ORDER:
            spec = PhantomSpec(
                seed=recipe.first_phantom_seed + n,
                pattern=pattern,
                n_slices=recipe.n_phantom_slices,
                slice_spacing_mm=float(rng.uniform(9.0, 12.0)),
                rows=256,
                columns=256,
                pixel_spacing_mm=float(rng.uniform(1.3, 1.7)),
                kernel=kernels[int(rng.integers(len(kernels)))],
                noise_hu=float(rng.uniform(5.0, 35.0)),
                severity=float(rng.uniform(0.2, 1.0)),
            )
            made = make_phantom(spec)
            yield label_slices(
                made.volume_hu, made.lung_labels > 0, made.lesion_mask, pattern, recipe
            )


def label_slices(
    hu: NDArray[np.int16],
    lung: NDArray[np.bool_],
    lesion: NDArray[np.bool_],
    pattern: Pattern,
    recipe: BankRecipe,
) -> LabelledSlices:
    """Keep the slices with lungs and give each its class by the share of lung that is affected."""
    lung_pixels = lung.sum(axis=(1, 2))
    share = (lesion & lung).sum(axis=(1, 2)) / np.maximum(lung_pixels, 1)
    classes = np.full(len(hu), UNSURE, dtype=np.int64)
    classes[share <= recipe.clean_share] = CLASS_ORDER.index(Pattern.NORMAL)
    classes[share >= recipe.affected_share] = CLASS_ORDER.index(pattern)
    keep = lung_pixels >= recipe.smallest_lung_pixels
    return LabelledSlices(
        hu=hu[keep], lung=lung[keep], lesion=(lesion & lung)[keep], classes=classes[keep]
    )
