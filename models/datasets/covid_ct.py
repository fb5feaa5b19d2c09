"""COVID-CT: pictures cut out of papers, with the official split lists.

```text
Data-split/COVID/{train,val,test}CT_COVID.txt, Data-split/NonCOVID/{train,val,test}CT_NonCOVID.txt
Images-processed/CT_COVID/*.png, CT_NonCOVID/*   or   train/COVID/*, val/NonCOVID/* ...
```

Patients are not stated with the pictures. COVID-19 pictures are named after the preprint they come
from: one preprint is kept together. Of the others, panels of one figure (``29%0``, ``29%1``) are
kept together, and so are runs of consecutive plain numbers, which are often neighbouring slices of
one patient: half of them correlate above 0.58 at 48 by 48 pixels, a tenth above 0.9, against 0.36
and 0.002 of all pairs. ``33`` and ``33%0`` are different people.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from models.datasets.contract import (
    TEST,
    TRAINING,
    VALIDATION,
    LabelledImages,
    PatientSource,
    Sample,
    Unit,
)
from models.datasets.grey_files import PICTURE_ENDINGS, GreyFiles
from models.errors import DatasetInvalid

CLASSES = ("non-covid-19", "covid-19")
_FOLDERS = {"NonCOVID": 0, "CT_NonCOVID": 0, "COVID": 1, "CT_COVID": 1}
_LIST_FOLDERS = ("NonCOVID", "COVID")  # in the order of CLASSES
_PARTS = {"train": TRAINING, "val": VALIDATION, "test": TEST}
_PAPER = re.compile(r"(?P<paper>.+?)-p\d+\b")
_PANEL = re.compile(r"(?P<figure>\d+)%\d+")


def read_covid_ct(folder: Path) -> LabelledImages:
    """Read COVID-CT; an image that no list names has an empty part.

    Raises
    ------
    DatasetInvalid
        No pictures in class folders, two of one name, or lists that name no picture at all.
    """
    found = dict(sorted(_find(folder).items()))
    parts = _parts(folder, found)
    labels = [label for label, _ in found]
    patients = _patients([(label, Path(name).stem) for label, name in found])
    samples = tuple(
        Sample(
            name=path.relative_to(folder).as_posix(),
            patient=patient,
            label=label,
            part=parts.get((label, path.name), ""),
        )
        for label, patient, path in zip(labels, patients, found.values(), strict=True)
    )
    return LabelledImages(
        name="COVID-CT",
        layout="covid-ct",
        unit=Unit.GREY,
        classes=CLASSES,
        structures=(),
        samples=samples,
        licence="none stated; research use",
        citation="Zhao et al. 2020, arXiv:2003.13865",
        patient_source=PatientSource.FILE_NAME,
        pixels=GreyFiles(tuple(found.values())),
    )


def _find(folder: Path) -> dict[tuple[int, str], Path]:
    """Give every picture below a class folder by class and file name."""
    found: dict[tuple[int, str], Path] = {}
    for path in sorted(folder.rglob("*")):
        label = _FOLDERS.get(path.parent.name)
        if label is None or path.suffix.lower() not in PICTURE_ENDINGS:
            continue
        key = (label, path.name)
        if key in found:
            raise DatasetInvalid(
                f"{path} and {found[key]} have one name, and the split lists go by name; remove one"
            )
        found[key] = path
    if not found:
        raise DatasetInvalid(
            f"{folder} has no pictures in folders COVID and NonCOVID (or CT_COVID and "
            "CT_NonCOVID); point at the folder that holds Data-split"
        )
    return found


def _parts(folder: Path, found: Iterable[tuple[int, str]]) -> Mapping[tuple[int, str], str]:
    """Give the part of every listed picture; by endings too, since copies may be PNG alone."""
    stems = {(label, Path(name).stem): (label, name) for label, name in found}
    parts: dict[tuple[int, str], str] = {}
    listed = 0
    for label, class_name in enumerate(_LIST_FOLDERS):
        for prefix, part in _PARTS.items():
            path = folder / "Data-split" / class_name / f"{prefix}CT_{class_name}.txt"
            if not path.is_file():
                continue
            names = [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
            listed += len(names)
            for name in names:
                key = stems.get((label, Path(name).stem))
                if key is not None:
                    parts[key] = part
    if listed and not parts:
        raise DatasetInvalid(
            f"{folder}/Data-split names {listed} pictures and none of them is there; unpack the "
            "images of the data set beside the lists"
        )
    return parts


def _patients(named: list[tuple[int, str]]) -> list[str]:
    """Name the group of each picture, given class and file name without ending."""
    plain = sorted({int(stem) for label, stem in named if label == 0 and stem.isdecimal()})
    run_starts: dict[int, int] = {}
    for number in plain:
        run_starts[number] = run_starts.get(number - 1, number)
    groups = []
    for label, stem in named:
        paper, panel = _PAPER.match(stem), _PANEL.fullmatch(stem)
        if label == 1 and paper is not None:
            groups.append(f"paper {paper['paper']}")
        elif label == 0 and panel is not None:
            groups.append(f"figure {panel['figure']}")
        elif label == 0 and stem.isdecimal():
            groups.append(f"run {run_starts[int(stem)]}")
        else:
            groups.append(f"image {stem}")
    return groups
