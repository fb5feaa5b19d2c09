"""What every reader gives: samples with labels and patients, and their pixels on demand."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.errors import DatasetInvalid

#: What the lists of published data sets call their parts.
TRAINING, VALIDATION, TEST = "training", "validation", "test"
#: Where figures are those of cross-validation: each image judged by a network that left it out.
OUT_OF_FOLD = "out of fold"


class Unit(Enum):
    """What the values of an image are."""

    GREY = "grey"
    """uint8, 0 to 255; the window they were made with is unknown."""
    HU = "hu"
    """int16, Hounsfield units."""


class PatientSource(Enum):
    """How a data set knows which images belong to one patient."""

    STATED = "stated"
    """The data say it: a column, a folder or a header."""
    FILE_NAME = "file-name"
    """Read from file names, by the rule of the layout."""
    BLOCK = "block"
    """Unknown: neighbours by number are taken together, so a block may hold several patients."""
    IMAGE = "image"
    """Unknown: each image stands for itself, and intervals are over images, not patients."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a data set.

    ``name`` is unique in the set: the path relative to its root, with slashes. ``patient`` is never
    empty: whom a split keeps together. ``label`` is an index into the classes of the set, None
    where the data do not label this image. ``part`` is ``training``, ``validation`` or ``test`` as
    the data's own lists say, empty where they say nothing. ``slice_number`` counts along the body
    where the order is known. ``patient_label`` is the class of the patient where it is known apart
    from that of the image. ``height_mm`` grows from caudal to cranial and ``pixel_spacing_mm`` is
    that of rows and columns, both None where the data do not say: then slices form no volume.
    """

    name: str
    patient: str
    label: int | None
    part: str = ""
    slice_number: int | None = None
    patient_label: int | None = None
    height_mm: float | None = None
    pixel_spacing_mm: tuple[float, float] | None = None


class PixelSource(Protocol):
    """Where the pixels of a data set come from; index as in ``LabelledImages.samples``."""

    def image(self, index: int) -> NDArray[Any]:
        """Give one image, ``(rows, columns)``, uint8 or int16."""
        ...

    def mask(self, index: int, structure: str) -> NDArray[np.bool_]:
        """Give one mask in the shape of its image."""
        ...


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """A data set as one layout's reader found it.

    ``classes`` stand in the order of the labels; ``structures`` name the masks every sample has.
    """

    name: str
    layout: str
    unit: Unit
    classes: tuple[str, ...]
    structures: tuple[str, ...]
    samples: tuple[Sample, ...]
    licence: str
    citation: str
    patient_source: PatientSource
    pixels: PixelSource

    def __len__(self) -> int:
        return len(self.samples)

    def image(self, index: int) -> NDArray[Any]:
        """Give one image.

        Returns
        -------
        :
            ``(rows, columns)``: uint8 of 0 to 255 where the unit is grey, int16 where it is HU.

        Raises
        ------
        DatasetInvalid
            The file is broken or of another kind than its layout says.
        """
        return self.pixels.image(index)

    def mask(self, index: int, structure: str) -> NDArray[np.bool_]:
        """Give the mask of one structure, in the shape of the image.

        Raises
        ------
        DatasetInvalid
            The set has no such structure, or this sample has no mask of it.
        """
        if structure not in self.structures:
            known = ", ".join(self.structures) or "none"
            raise DatasetInvalid(
                f"{self.name} has no masks of {structure!r}; it has: {known}. Choose another layout"
            )
        return self.pixels.mask(index, structure)

    def labels(self) -> NDArray[np.int64]:
        """Give the label of every sample, -1 where there is none."""
        return np.array([-1 if s.label is None else s.label for s in self.samples], dtype=np.int64)

    def patients(self) -> tuple[str, ...]:
        """Give the patients, each once, in order of their first sample."""
        return tuple(dict.fromkeys(sample.patient for sample in self.samples))

    def subset(self, indices: Sequence[int]) -> "LabelledImages":
        """Keep the samples of these indices, in this order."""
        chosen = tuple(int(index) for index in indices)
        return replace(
            self,
            samples=tuple(self.samples[index] for index in chosen),
            pixels=_Chosen(self.pixels, chosen),
        )


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Some of the images of another source."""

    source: PixelSource
    indices: tuple[int, ...]

    def image(self, index: int) -> NDArray[Any]:
        return self.source.image(self.indices[index])

    def mask(self, index: int, structure: str) -> NDArray[np.bool_]:
        return self.source.mask(self.indices[index], structure)
