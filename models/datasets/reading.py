"""Every layout by its name."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from models.datasets.contract import LabelledImages
from models.datasets.covid_19_ct_seg import read_covid_19_ct_seg
from models.datasets.covid_ct import read_covid_ct
from models.datasets.dicom_csv import read_dicom_csv
from models.datasets.image_csv import read_image_csv
from models.datasets.large_slice_set import read_large_slice_set
from models.datasets.lctsc import read_lctsc_images
from models.datasets.numbered_folders import read_radiography, read_sars_cov_2_ct
from models.datasets.spgc import read_spgc
from models.errors import DatasetInvalid

#: Readers by the name of the layout they read.
LAYOUTS: Final[Mapping[str, Callable[[Path], LabelledImages]]] = {
    "covid-ct": read_covid_ct,
    "spgc": read_spgc,
    "large-slice-set": read_large_slice_set,
    "sars-cov-2-ct": read_sars_cov_2_ct,
    "covid-19-ct-seg": read_covid_19_ct_seg,
    "lctsc": read_lctsc_images,
    "radiography": read_radiography,
    "dicom-csv": read_dicom_csv,
    "image-csv": read_image_csv,
}


def read_dataset(layout: str, folder: Path) -> LabelledImages:
    """Read a folder that has one of the known layouts.

    Parameters
    ----------
    layout
        A key of ``LAYOUTS``.
    folder
        The root of the data.

    Raises
    ------
    DatasetInvalid
        No such layout or folder, or the folder is of another layout; the message says which.
    """
    if layout not in LAYOUTS:
        raise DatasetInvalid(f"no layout {layout!r}; there are: {', '.join(LAYOUTS)}")
    if not folder.is_dir():
        raise DatasetInvalid(f"{folder} is no folder; point at the data")
    return LAYOUTS[layout](folder)
