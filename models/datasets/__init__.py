"""Data sets that people have, read into one form: samples with labels, patients, and pixels.

`read_dataset` knows the layouts; `splits` divides by patient and refuses a split that leaks. No
torch here.
"""

from models.datasets.contract import (
    OUT_OF_FOLD,
    TEST,
    TRAINING,
    VALIDATION,
    LabelledImages,
    PatientSource,
    PixelSource,
    Sample,
    Unit,
)
from models.datasets.reading import LAYOUTS, read_dataset
from models.datasets.splits import (
    Leak,
    Split,
    absent_classes,
    cross_validation,
    find_leaks,
    split_by_lists,
    split_by_patient,
)

__all__ = [
    "LAYOUTS",
    "OUT_OF_FOLD",
    "TEST",
    "TRAINING",
    "VALIDATION",
    "LabelledImages",
    "Leak",
    "PatientSource",
    "PixelSource",
    "Sample",
    "Split",
    "Unit",
    "absent_classes",
    "cross_validation",
    "find_leaks",
    "read_dataset",
    "split_by_lists",
    "split_by_patient",
]
