"""COVID-19-CT-Seg as PNG slices with masks of lungs and infection.

```text
ct/CASE_NNNN.png, lungs/CASE_NNNN.png, covid/CASE_NNNN.png
```

The pictures are 8 bit after CLAHE: no HU. The ten cases from Radiopaedia (10 to 19 of the
collection) stand upside down, spine on top; they are turned here, rows only, which keeps right and
left. Their names are radiopaedia_CASE_STUDY_SERIES; series of one study are one patient: 10_85902
has two.
"""

import re
from pathlib import Path

from models.datasets.contract import LabelledImages, PatientSource, Sample, Unit
from models.datasets.grey_files import GreyFiles, picture_files, read_picture_mask
from models.errors import DatasetInvalid

CLASSES = ("normal", "covid-19")
_NAME = re.compile(r"(?P<case>radiopaedia_\d+_\d+|\w+?_\d+)(?:_\d+)?_(?P<number>\d+)")
_UPSIDE_DOWN = "radiopaedia"


def read_covid_19_ct_seg(folder: Path) -> LabelledImages:
    """Read slices, masks, and whether a slice is infected (it has one pixel of infection).

    Raises
    ------
    DatasetInvalid
        No pictures, a name of another scheme, or a slice without its two masks.
    """
    paths = picture_files(folder / "ct")
    if not paths:
        raise DatasetInvalid(
            f"{folder}/ct holds no pictures; point at the folder with ct, lungs and covid"
        )
    lungs = tuple(_mask(folder / "lungs" / path.name) for path in paths)
    infection = tuple(_mask(folder / "covid" / path.name) for path in paths)
    samples = tuple(
        _sample(path.relative_to(folder), is_infected=bool(read_picture_mask(mask).any()))
        for path, mask in zip(paths, infection, strict=True)
    )
    turned = frozenset(n for n, one in enumerate(samples) if one.patient.startswith(_UPSIDE_DOWN))
    return LabelledImages(
        name="COVID-19-CT-Seg",
        layout="covid-19-ct-seg",
        unit=Unit.GREY,
        classes=CLASSES,
        structures=("lung", "infection"),
        samples=samples,
        licence="CC BY-NC-SA 4.0 (believed)",
        citation="Ma et al. 2021, Med Phys, 10.1002/mp.14676",
        patient_source=PatientSource.FILE_NAME,
        pixels=GreyFiles(paths, {"lung": lungs, "infection": infection}, turned),
    )


def _mask(path: Path) -> Path:
    if not path.is_file():
        raise DatasetInvalid(f"{path} is missing; every slice needs masks in lungs and covid")
    return path


def _sample(name: Path, *, is_infected: bool) -> Sample:
    match = _NAME.fullmatch(name.stem)
    if match is None:
        raise DatasetInvalid(f"{name} is not CASE_NUMBER.png; rename or remove it")
    return Sample(
        name=name.as_posix(),
        patient=match["case"],
        label=int(is_infected),
        slice_number=int(match["number"]),
        patient_label=1,
    )
