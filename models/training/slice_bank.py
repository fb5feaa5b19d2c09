"""Build the slices that networks learn from: real lungs, lesions placed in them, phantoms.

Each body of data carries all three classes, so that nothing but the lesions tells them apart. A
slice without lesion is normal, whatever its patient has.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from models.datasets.lung_slices import LungSlices
from models.lung_components import label_lungs
from models.phantom import (
    Kernel,
    Pattern,
    Phantom,
    PhantomSpec,
    make_abdomen,
    make_phantom,
    place_lesions,
)
from models.training.slice_data import (
    SMALLEST_LUNG_PIXELS,
    UNSURE,
    LabelledSlices,
    Source,
    join_slices,
)

#: Order of the classes in the logits.
CLASS_ORDER = (Pattern.NORMAL, Pattern.COVID_19, Pattern.COMMUNITY_ACQUIRED_PNEUMONIA)
#: Distance of the LCTSC slices in the training folder (every second of 3 mm) and of their pixels.
LCTSC_SPACING_MM = (6.0, 1.95, 1.95)


@dataclass(frozen=True, slots=True)
class BankRecipe:
    """How many slices of which kind, and from which lesion share on a slice counts as affected."""

    seed: int = 7
    n_placements: int = 3  #: lesions placed anew in each real patient, per pattern
    n_phantoms: int = 16  #: per pattern
    n_abdomens: int = 6
    n_phantom_slices: int = 24
    first_phantom_seed: int = 10_000  #: tests and demo use seeds below
    affected_share: float = 0.01  #: of the lung area of the slice
    clean_share: float = 0.001


def build_bank(slices: LungSlices, recipe: BankRecipe) -> LabelledSlices:
    """Take the real slices, place lesions in every patient, add phantoms and abdomens."""
    return join_slices([*_real(slices, recipe), *_phantoms(recipe), *_abdomens(recipe)])


def _real(slices: LungSlices, recipe: BankRecipe) -> Iterator[LabelledSlices]:
    rng = np.random.default_rng(recipe.seed)
    for patient in track(sorted(set(slices.patients)), description="lesions in real lungs"):
        one = slices.of_patients(frozenset([patient]))
        labels = label_lungs(one.mask, LCTSC_SPACING_MM)
        clean = np.zeros_like(one.mask)
        yield _labelled(
            one.hu,
            one.mask,
            clean,
            pattern=Pattern.NORMAL,
            origin=(Source.REAL, patient),
            recipe=recipe,
        )
        for pattern in CLASS_ORDER[1:] * recipe.n_placements:
            severity = float(rng.uniform(0.1, 0.9))
            hu, lesion = place_lesions(one.hu, labels, LCTSC_SPACING_MM, pattern, severity, rng)
            yield _labelled(
                hu,
                one.mask,
                lesion,
                pattern=pattern,
                origin=(Source.PLACED, patient),
                recipe=recipe,
            )


def _phantoms(recipe: BankRecipe) -> Iterator[LabelledSlices]:
    rng = np.random.default_rng(recipe.seed + 1)
    for n in track(range(recipe.n_phantoms), description="phantoms"):
        for pattern in CLASS_ORDER:
            yield _phantom(make_phantom, _spec(n, pattern, rng, recipe), Source.PHANTOM, recipe)


def _abdomens(recipe: BankRecipe) -> Iterator[LabelledSlices]:
    rng = np.random.default_rng(recipe.seed + 2)
    for n in range(recipe.n_abdomens):
        spec = _spec(n, Pattern.NORMAL, rng, recipe)
        yield _phantom(make_abdomen, spec, Source.NO_LUNGS, recipe)


def _spec(n: int, pattern: Pattern, rng: np.random.Generator, recipe: BankRecipe) -> PhantomSpec:
    kernels = list(Kernel)
    return PhantomSpec(
        seed=recipe.first_phantom_seed + n,
        pattern=pattern,
        n_slices=recipe.n_phantom_slices,
        slice_spacing_mm=float(rng.uniform(3.0, 13.0)),
        rows=256,
        columns=256,
        pixel_spacing_mm=float(rng.uniform(1.4, 1.8)),
        kernel=kernels[int(rng.integers(len(kernels)))],
        noise_hu=float(rng.uniform(5.0, 35.0)),
        severity=float(rng.uniform(0.15, 1.0)),
    )


def _phantom(
    make: Callable[[PhantomSpec], Phantom], spec: PhantomSpec, source: Source, recipe: BankRecipe
) -> LabelledSlices:
    made = make(spec)
    lung = made.lung_labels > 0
    return _labelled(
        made.volume_hu,
        lung,
        made.lesion_mask,
        pattern=spec.pattern,
        origin=(source, f"phantom-{spec.seed}"),
        recipe=recipe,
    )


def _labelled(
    hu: NDArray[np.int16],
    lung: NDArray[np.bool_],
    lesion: NDArray[np.bool_],
    *,
    pattern: Pattern,
    origin: tuple[Source, str],
    recipe: BankRecipe,
) -> LabelledSlices:
    source, patient = origin
    return LabelledSlices(
        hu=hu,
        lung=lung,
        lesion=lesion & lung,
        classes=slice_classes(lung, lesion, pattern, recipe),
        sources=np.full(len(hu), source, dtype=np.int64),
        patients=np.full(len(hu), patient),
    )


def slice_classes(
    lung: NDArray[np.bool_], lesion: NDArray[np.bool_], pattern: Pattern, recipe: BankRecipe
) -> NDArray[np.int64]:
    """Class each slice by the share of its lung that is affected.

    Parameters
    ----------
    lung, lesion
        Masks, shape ``(slices, rows, columns)``.
    pattern
        What the patient has.

    Returns
    -------
    :
        Shape ``(slices,)``: index into ``CLASS_ORDER``, or ``UNSURE``.
    """
    lung_pixels = lung.sum(axis=(1, 2))
    share = (lesion & lung).sum(axis=(1, 2)) / np.maximum(lung_pixels, 1)
    classes = np.full(len(lung), UNSURE, dtype=np.int64)
    classes[share <= recipe.clean_share] = CLASS_ORDER.index(Pattern.NORMAL)
    classes[share >= recipe.affected_share] = CLASS_ORDER.index(pattern)
    classes[lung_pixels < SMALLEST_LUNG_PIXELS] = UNSURE
    return classes
