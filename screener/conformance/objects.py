"""What a folder holds: result objects to check, and the sources they are checked against."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from pydicom import config, dcmread

from screener.assemble.folder import read_folder
from screener.assemble.part10 import PARSE_ERRORS, quiet_parser
from screener.errors import WrongUse

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom import Dataset

    from screener.domain import SpooledInstance

COMPREHENSIVE_3D_SR: Final = "1.2.840.10008.5.1.4.1.1.88.34"
KEY_OBJECT_SELECTION: Final = "1.2.840.10008.5.1.4.1.1.88.59"
SEGMENTATION: Final = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP_SEGMENTATION: Final = "1.2.840.10008.5.1.4.1.1.66.7"
PARAMETRIC_MAP: Final = "1.2.840.10008.5.1.4.1.1.30"
#: Every Structured Report, the key object selection included (PS3.4 B.5).
_REPORT_ROOT: Final = "1.2.840.10008.5.1.4.1.1.88."
_PRESENTATION_STATE_ROOT: Final = "1.2.840.10008.5.1.4.1.1.11."
_RESULT_ROOTS: Final = (
    _REPORT_ROOT,
    _PRESENTATION_STATE_ROOT,
    "1.2.840.10008.5.1.4.1.1.66.",  # registrations, segmentations
    "1.2.840.10008.5.1.4.1.1.7.",  # multi-frame secondary captures
    "1.2.840.10008.5.1.4.1.1.104.",  # encapsulated documents
)
_RESULT_CLASSES: Final = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture Image
        PARAMETRIC_MAP,
    }
)
#: Attributes of a source that its results repeat or refer to.
_SOURCE_KEYWORDS: Final = (
    "SpecificCharacterSet",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "StudyDescription",
    "AccessionNumber",
    "ReferringPhysicianName",
    "IssuerOfPatientID",
    "OtherPatientIDs",
    "ImagePositionPatient",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "PatientComments",
    "DeidentificationMethod",
    "EthnicGroup",
    "AdmittingDiagnosesDescription",
)


@dataclass(frozen=True, slots=True)
class DicomObject:
    """One file with its data set: whole for results, a few attributes for sources."""

    path: Path
    name: str  #: relative to the folder
    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    dataset: Dataset

    @property
    def is_report(self) -> bool:
        """Whether it holds a content tree."""
        return self.sop_class_uid.startswith(_REPORT_ROOT)

    @property
    def is_measurement_report(self) -> bool:
        """Whether its tree is an Imaging Measurement Report (TID 1500)."""
        titles = self.dataset.get("ConceptNameCodeSequence") or []
        return self.is_report and bool(titles) and titles[0].get("CodeValue") == "126000"

    @property
    def is_segmentation(self) -> bool:
        """Whether it holds segments."""
        return self.sop_class_uid in {SEGMENTATION, LABEL_MAP_SEGMENTATION}

    @property
    def is_map(self) -> bool:
        """Whether it holds measured values as pixels."""
        return self.sop_class_uid == PARAMETRIC_MAP

    @property
    def is_presentation_state(self) -> bool:
        """Whether it says how to show images."""
        return self.sop_class_uid.startswith(_PRESENTATION_STATE_ROOT)


@dataclass(frozen=True, slots=True)
class FolderObjects:
    """What is checked, and what it is checked against."""

    results: tuple[DicomObject, ...]
    sources: tuple[DicomObject, ...]
    unreadable: tuple[tuple[str, str], ...]  #: name of a DICOM file and why it is no instance
    unread_sources: tuple[str, ...]  #: names of sources whose identity cannot be read
    n_ignored: int  #: files that are no DICOM, and copies

    def sources_of(self, result: DicomObject) -> tuple[DicomObject, ...]:
        """Give the sources of the study of a result."""
        study = result.study_instance_uid
        return tuple(one for one in self.sources if one.study_instance_uid == study)


def read_objects(folder: Path) -> FolderObjects:
    """Read a folder, recursively, with any file names.

    Raises
    ------
    WrongUse
        There is no such folder, or it holds no result object.
    """
    contents = read_folder(folder, datetime.now(UTC))
    root = folder if folder.is_dir() else folder.parent
    unreadable = [
        (_name(path, root), reason)
        for path, reason in contents.ignored
        if _is_dicom(path) and not reason.startswith(("same content as", "a DICOMDIR"))
    ]
    n_ignored = len(contents.ignored) - len(unreadable)
    results: list[DicomObject] = []
    sources: list[DicomObject] = []
    unread_sources: list[str] = []
    for instance in (one for study in contents.studies for one in study.instances):
        is_result = _is_result(instance.sop_class_uid)
        try:
            dataset = _read(instance, is_result=is_result)
        except PARSE_ERRORS as error:
            name = _name(instance.path, root)
            if is_result:
                unreadable.append((name, f"cannot be parsed ({type(error).__name__})"))
            else:
                unread_sources.append(name)
            continue
        (results if is_result else sources).append(_object(instance, root, dataset))
    if not results and not unreadable:
        raise WrongUse(
            f"{folder} holds no result object (report, segmentation, key objects, presentation "
            f"state, secondary capture, document) among {contents.n_files} files"
        )
    in_order = [tuple(sorted(one, key=lambda held: held.name)) for one in (results, sources)]
    return FolderObjects(
        results=in_order[0],
        sources=in_order[1],
        unreadable=tuple(sorted(unreadable)),
        unread_sources=tuple(sorted(unread_sources)),
        n_ignored=n_ignored,
    )


def _is_result(sop_class_uid: str) -> bool:
    return sop_class_uid in _RESULT_CLASSES or sop_class_uid.startswith(_RESULT_ROOTS)


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _read(instance: SpooledInstance, *, is_result: bool) -> Dataset:
    keywords = None if is_result else list(_SOURCE_KEYWORDS)
    with config.disable_value_validation(), quiet_parser():
        dataset = dcmread(
            instance.path, force=True, stop_before_pixels=True, specific_tags=keywords
        )
        # Elements are decoded on access: what cannot be decoded must be found here.
        dataset.decode()
        for _ in dataset.iterall():
            pass
    return dataset


def _object(instance: SpooledInstance, root: Path, dataset: Dataset) -> DicomObject:
    return DicomObject(
        path=instance.path.resolve(),
        name=_name(instance.path, root),
        sop_class_uid=instance.sop_class_uid,
        sop_instance_uid=instance.sop_instance_uid,
        study_instance_uid=instance.study_instance_uid,
        dataset=dataset,
    )


def _name(path: Path, root: Path) -> str:
    return str(path.relative_to(root))
