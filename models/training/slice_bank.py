"""Build the slices that networks learn from: real lungs, lesions placed in them, phantoms.

Each body of data carries all three classes, so that nothing but the lesions tells them apart. A
slice without lesion is normal, whatever its patient has. Every volume is a job with a seed of its
own, so that any number of processes gives the same slices.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from models.datasets.lung_slices import LungSlices
from models.lung_components import label_lungs
from models.phantom import (
    Kernel,
    Pattern,
    PhantomSpec,
    make_abdomen,
    make_phantom,
    place_lesions,
)
from models.training.slice_data import (
    DISEASED,
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
#: Slices of LCTSC on which we see tumour, collapse or scars: first and last number by patient.
#: They teach the outline of lungs, but are no example of a healthy one.
VISIBLE_DISEASE = {
    "001": ((68, 74),),
    "003": ((50, 66),),
    "004": ((56, 60), (84, 88), (94, 96)),
    "006": ((68, 104),),
    "007": ((69, 87), (93, 97)),
}


@dataclass(frozen=True, slots=True)
class BankRecipe:
    """How many slices of which kind, and from which lesion share on a slice counts as affected."""

    seed: int = 7
    n_placements: int = 6  #: lesions placed anew in each real patient, per pattern
    n_phantoms: int = 30  #: per pattern
    n_abdomens: int = 16
    n_phantom_slices: int = 24
    first_phantom_seed: int = 10_000  #: tests and demo use seeds below
    affected_share: float = 0.004  #: of the lung area of the slice
    clean_share: float = 0.0005
    #: Share of the patients with COVID-19-like lesions who have another pneumonia, and the other
    #: way round: forms overlap in life, and odds must stay honest (see ``paint_lesions``).
    covid_like_cap: float = 0.22
    cap_like_covid: float = 0.08


@dataclass(frozen=True, slots=True)
class _Job:
    """One volume to make: of a real patient, with lesions in one, or a phantom."""

    source: Source
    pattern: Pattern
    number: int
    patient: LungSlices | None = None


def build_bank(slices: LungSlices, recipe: BankRecipe, *, processes: int = 1) -> LabelledSlices:
    """Take the real slices, place lesions in every patient, add phantoms and abdomens."""
    return join_slices(make_parts(slices, recipe, processes=processes))


def make_parts(
    slices: LungSlices, recipe: BankRecipe, *, processes: int = 1
) -> Iterator[LabelledSlices]:
    """Give the volumes of the bank as they are made, always in the same order."""
    jobs = list(_jobs(slices, recipe))
    recipes = [recipe] * len(jobs)
    if processes == 1:
        yield from track(map(_make, jobs, recipes), description="slices", total=len(jobs))
        return
    with ProcessPoolExecutor(processes) as pool:
        made: Iterable[LabelledSlices] = pool.map(_make, jobs, recipes)
        yield from track(made, description="slices", total=len(jobs))


def _jobs(slices: LungSlices, recipe: BankRecipe) -> Iterator[_Job]:
    diseases = CLASS_ORDER[1:]
    patients = sorted(set(slices.patients))
    of = {patient: slices.of_patients(frozenset([patient])) for patient in patients}
    for patient in patients:
        yield _Job(Source.REAL, Pattern.NORMAL, 0, of[patient])
    for number in range(recipe.n_placements):
        for patient in patients:
            for pattern in diseases:
                yield _Job(Source.PLACED, pattern, number, of[patient])
    for number in range(recipe.n_phantoms):
        for pattern in CLASS_ORDER:
            yield _Job(Source.PHANTOM, pattern, number)
    for number in range(recipe.n_abdomens):
        yield _Job(Source.NO_LUNGS, Pattern.NORMAL, number)


def _make(job: _Job, recipe: BankRecipe) -> LabelledSlices:
    """Make one volume; the seed is that of its place in the bank."""
    of_patient = int(job.patient.patients[0]) if job.patient is not None else 0
    place = [recipe.seed, int(job.source), CLASS_ORDER.index(job.pattern), job.number, of_patient]
    rng = np.random.default_rng(place)
    if job.patient is not None:
        return _real(job, job.patient, rng, recipe)
    spec = _spec(job, rng, recipe)
    made = make_abdomen(spec) if job.source is Source.NO_LUNGS else make_phantom(spec)
    return _labelled(
        made.volume_hu,
        made.lung_labels > 0,
        made.lesion_mask,
        cause=_cause(job.pattern, rng, recipe),
        origin=(job.source, f"phantom-{spec.seed}"),
        recipe=recipe,
    )


def _real(
    job: _Job, patient: LungSlices, rng: np.random.Generator, recipe: BankRecipe
) -> LabelledSlices:
    """Give a real patient as it is or with lesions; disease that was there is marked."""
    hu, lesion = patient.hu, np.zeros_like(patient.mask)
    if job.source is Source.PLACED:
        labels = label_lungs(patient.mask, LCTSC_SPACING_MM)
        severity = float(rng.uniform(0.0, 1.0)) ** 1.5
        hu, lesion = place_lesions(hu, labels, LCTSC_SPACING_MM, job.pattern, severity, rng)
    name = patient.patients[0]
    made = _labelled(
        hu,
        patient.mask,
        lesion,
        cause=_cause(job.pattern, rng, recipe),
        origin=(job.source, name),
        recipe=recipe,
    )
    numbers = np.asarray(patient.slice_numbers)
    classes = made.classes.copy()
    for first, last in VISIBLE_DISEASE.get(name, ()):
        classes[(numbers >= first) & (numbers <= last)] = DISEASED
    return replace(made, classes=classes)


def _cause(pattern: Pattern, rng: np.random.Generator, recipe: BankRecipe) -> Pattern:
    """Say what the patient has: mostly, but not always, what the lesions look like."""
    other = {
        Pattern.COVID_19: (Pattern.COMMUNITY_ACQUIRED_PNEUMONIA, recipe.covid_like_cap),
        Pattern.COMMUNITY_ACQUIRED_PNEUMONIA: (Pattern.COVID_19, recipe.cap_like_covid),
        Pattern.NORMAL: (Pattern.NORMAL, 0.0),
    }
    cause, share = other[pattern]
    return cause if rng.random() < share else pattern


def _spec(job: _Job, rng: np.random.Generator, recipe: BankRecipe) -> PhantomSpec:
    kernels = list(Kernel)
    return PhantomSpec(
        seed=recipe.first_phantom_seed + job.number,
        pattern=job.pattern,
        n_slices=recipe.n_phantom_slices,
        slice_spacing_mm=float(rng.uniform(3.0, 13.0)),
        rows=256,
        columns=256,
        pixel_spacing_mm=float(rng.uniform(1.4, 1.8)),
        kernel=kernels[int(rng.integers(len(kernels)))],
        noise_hu=float(rng.uniform(5.0, 35.0)),
        severity=float(rng.uniform(0.1, 1.0)),
    )


def _labelled(
    hu: NDArray[np.int16],
    lung: NDArray[np.bool_],
    lesion: NDArray[np.bool_],
    *,
    cause: Pattern,
    origin: tuple[Source, str],
    recipe: BankRecipe,
) -> LabelledSlices:
    source, patient = origin
    has_next = np.ones(len(hu), dtype=np.bool_)
    has_next[-1] = False
    return LabelledSlices(
        hu=hu,
        lung=lung,
        lesion=lesion & lung,
        classes=slice_classes(lung, lesion, cause, recipe),
        sources=np.full(len(hu), source, dtype=np.int64),
        patients=np.full(len(hu), patient),
        has_next=has_next,
    )


def slice_classes(
    lung: NDArray[np.bool_], lesion: NDArray[np.bool_], cause: Pattern, recipe: BankRecipe
) -> NDArray[np.int64]:
    """Class each slice by the share of its lung that is affected.

    Parameters
    ----------
    lung, lesion
        Masks, shape ``(slices, rows, columns)``.
    cause
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
    classes[share >= recipe.affected_share] = CLASS_ORDER.index(cause)
    classes[lung_pixels < SMALLEST_LUNG_PIXELS] = UNSURE
    return classes
