"""Slices of one patient as a volume, and the lungs in it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.datasets import LabelledImages
from models.errors import DatasetInvalid
from models.lung_answers import Look, LungAnswers, choose_lungs
from models.lung_components import label_lungs

#: Slices per call of a session; more gains nothing on a CPU.
BATCH_SIZE = 8
#: A slice with less lung shows too little to judge, mm²; as the node has it.
LEAST_LUNG_AREA_MM2 = 1_500.0
#: Air against soft tissue in the threshold method, in HU.
_AIR_HU = -400
#: Radius of the closing in the threshold method, in mm.
_CLOSING_MM = 5.0


class Segmenter(Protocol):
    """What a lung model must do; :class:`models.session.LungSegmenter` does."""

    def logits(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Give one logit per pixel of ``(batch, rows, columns)``."""
        ...

    def mask(self, logits: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Apply the model's threshold."""
        ...

    def answers(self, images: NDArray[Any]) -> LungAnswers:
        """Give the lungs of a stack without and with what is solid."""
        ...


@dataclass(frozen=True, slots=True)
class PatientVolume:
    """The slices of one patient from caudal to cranial, and which samples they are.

    ``images`` is ``(slices, rows, columns)``; ``spacing_mm`` runs in that order.
    """

    patient: str
    indices: tuple[int, ...]
    images: NDArray[Any]
    spacing_mm: tuple[float, float, float]


def has_volumes(data: LabelledImages) -> bool:
    """Tell whether every sample knows its height and the size of its pixels."""
    return all(s.height_mm is not None and s.pixel_spacing_mm is not None for s in data.samples)


def read_volumes(data: LabelledImages) -> Iterator[PatientVolume]:
    """Read patient after patient.

    Raises
    ------
    DatasetInvalid
        Slices of one patient differ in size or spacing, or there is one alone.
    """
    for patient in data.patients():
        indices = [n for n, sample in enumerate(data.samples) if sample.patient == patient]
        indices.sort(key=lambda n: data.samples[n].height_mm or 0.0)
        images = [data.image(n) for n in indices]
        if len({image.shape for image in images}) != 1 or len(images) < 2:  # noqa: PLR2004  a stack
            raise DatasetInvalid(
                f"the {len(images)} slices of {patient} are no volume: they need one size and more "
                "than one slice"
            )
        spacing_mm = _spacing_mm(data, patient, indices)
        yield PatientVolume(patient, tuple(indices), np.stack(images), spacing_mm)


def _spacing_mm(
    data: LabelledImages, patient: str, indices: Sequence[int]
) -> tuple[float, float, float]:
    heights = np.array([data.samples[n].height_mm for n in indices], dtype=np.float64)
    spacings = {data.samples[n].pixel_spacing_mm for n in indices}
    between = float(np.median(np.diff(heights)))
    first = next(iter(spacings))
    if len(spacings) != 1 or first is None or between <= 0.0:
        raise DatasetInvalid(
            f"the slices of {patient} have several pixel spacings or stand at one height: are they "
            "several series? Split them into folders"
        )
    return between, first[0], first[1]


def segment_volume(
    segmenter: Segmenter, images: NDArray[Any], spacing_mm: tuple[float, float, float]
) -> NDArray[np.uint8]:
    """Give lung labels of a whole volume: 0 background, 1 right, 2 left."""

    def look(shown: Look) -> list[LungAnswers]:
        return [
            segmenter.answers(shown.show(images[begin : begin + BATCH_SIZE]))
            for begin in range(0, len(images), BATCH_SIZE)
        ]

    whole = look(Look(slice(None), slice(None)))
    return label_lungs(choose_lungs(whole, spacing_mm, look), spacing_mm)


def lung_boxes(masks: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Give the smallest box around the lungs of each slice, which must have some.

    Returns
    -------
    :
        ``(slices, 4)``: row0, column0, row1, column1 as pixel edges, upper edges exclusive.
    """
    boxes = np.empty((len(masks), 4), dtype=np.float32)
    for number, mask in enumerate(masks):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        boxes[number] = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
    return boxes


def lung_bearing(masks: NDArray[np.bool_], spacing_mm: Sequence[float]) -> NDArray[np.int64]:
    """Give the numbers of the slices with enough lung to be judged."""
    areas_mm2 = np.count_nonzero(masks, axis=(1, 2)) * spacing_mm[1] * spacing_mm[2]
    return np.flatnonzero(areas_mm2 >= LEAST_LUNG_AREA_MM2)


def threshold_lungs(
    volume_hu: NDArray[np.int16], spacing_mm: tuple[float, float, float]
) -> NDArray[np.bool_]:
    """Find lungs without a network, the baseline that a network has to beat.

    Air inside the body, its two largest parts, closed and filled slice by slice. It leaves out
    whatever is dense: consolidation, effusion, larger vessels at the hilum.
    """
    parts, _ = ndimage.label(volume_hu < _AIR_HU)
    sizes = np.bincount(parts.ravel())
    edges = (parts[:, 0], parts[:, -1], parts[:, :, 0], parts[:, :, -1])
    sizes[np.unique(np.concatenate([edge.ravel() for edge in edges]))] = 0
    sizes[0] = 0
    first, second = np.argsort(-sizes)[:2]
    mask = np.asarray(parts == first)
    if sizes[second] > sizes[first] / 10:
        mask |= parts == second
    reach = round(_CLOSING_MM / spacing_mm[1])
    rows, columns = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    disk = rows**2 + columns**2 <= reach**2
    padded = np.pad(mask, ((0, 0), (reach, reach), (reach, reach)))
    inner = slice(reach, -reach or None)
    for index, one in enumerate(padded):
        closed = ndimage.binary_fill_holes(ndimage.binary_closing(one, disk))
        mask[index] = np.asarray(closed)[inner, inner]
    return mask
