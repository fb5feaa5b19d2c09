"""Former names of :mod:`models.datasets.lung_slices`."""

from models.datasets.lung_slices import HELD_OUT_CASE, LungSlices, PatientSplit, read_lctsc
from models.errors import DatasetInvalid as TrainingDataInvalid

__all__ = ["HELD_OUT_CASE", "LungSlices", "PatientSplit", "TrainingDataInvalid", "read_lctsc"]
