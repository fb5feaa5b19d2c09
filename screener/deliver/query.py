"""Ask a node by C-FIND what it holds: the studies of a day, their size, our own results.

Study Root model (PS3.4 C.6.2). Answers are read tolerantly: nodes leave out what they do not
count, and UIDs may be UUID text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pydicom.config
from pydicom import dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pynetdicom.presentation import build_context

from screener.deliver.association import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    associated,
    describe,
)
from screener.domain import PacsStudy
from screener.errors import DestinationRefused, DestinationUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from datetime import date

    from pynetdicom.association import Association

    from screener.deliver.scu import DeliverableObject
    from screener.domain import DimseNode

#: Study Root Query/Retrieve Information Model, FIND (PS3.4 Table C.6.2.3-1).
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"

_SUCCESS = 0x0000
_PENDING = frozenset({0xFF00, 0xFF01})
#: Out of resources, and "cannot process now" (PS3.4 Table C.4-1).
TRANSIENT = frozenset({0xA700, 0xA701, 0xA702, 0xFE00})


def find_studies(node: DimseNode, study_date: date, modality: str = "CT") -> tuple[PacsStudy, ...]:
    """List the studies of one day that have series of `modality`.

    A node that does not say which modalities a study has is believed to have matched them.

    Raises
    ------
    DestinationUnavailable
        The node cannot be asked now.
    DestinationRefused
        The node does not answer such questions.
    """
    question = {
        "QueryRetrieveLevel": "STUDY",
        "StudyDate": study_date.strftime("%Y%m%d"),
        "ModalitiesInStudy": modality,
        "StudyInstanceUID": "",
        "NumberOfStudyRelatedInstances": "",
    }
    studies: dict[str, PacsStudy] = {}
    with _asking(node) as assoc:
        for answer in _find(node, assoc, question):
            study = _study_of(answer)
            if study.study_instance_uid and (not study.modalities or modality in study.modalities):
                studies[study.study_instance_uid] = study
    return tuple(studies.values())


def count_instances(node: DimseNode, study_instance_uid: str) -> int | None:
    """Ask how many instances a study has; None where the node does not say or know it.

    Raises
    ------
    DestinationUnavailable, DestinationRefused
        As `find_studies`.
    """
    question = {
        "QueryRetrieveLevel": "STUDY",
        "StudyInstanceUID": study_instance_uid,
        "NumberOfStudyRelatedInstances": "",
    }
    with _asking(node) as assoc:
        counts = [
            _study_of(answer).n_instances
            for answer in _find(node, assoc, question)
            if plain_text(answer, "StudyInstanceUID") == study_instance_uid
        ]
    return counts[0] if counts else None


def find_series(node: DimseNode, study_instance_uid: str) -> tuple[tuple[str, str], ...]:
    """List Series Instance UID and Modality of every series of a study.

    Raises
    ------
    DestinationUnavailable, DestinationRefused
        As `find_studies`.
    """
    question = {
        "QueryRetrieveLevel": "SERIES",
        "StudyInstanceUID": study_instance_uid,
        "SeriesInstanceUID": "",
        "Modality": "",
    }
    with _asking(node) as assoc:
        return tuple(
            (series_instance_uid, plain_text(answer, "Modality"))
            for answer in _find(node, assoc, question)
            if (series_instance_uid := plain_text(answer, "SeriesInstanceUID"))
        )


def confirm_objects(node: DimseNode, objects: Sequence[DeliverableObject]) -> frozenset[str]:
    """Ask for each object by name; gives the SOP Instance UIDs that the node says it holds.

    Raises
    ------
    DestinationUnavailable, DestinationRefused
        As `find_studies`.
    """
    confirmed: set[str] = set()
    with _asking(node) as assoc:
        for one in objects:
            header = dcmread(one.path, specific_tags=["StudyInstanceUID", "SeriesInstanceUID"])
            question = {
                "QueryRetrieveLevel": "IMAGE",
                "StudyInstanceUID": plain_text(header, "StudyInstanceUID"),
                "SeriesInstanceUID": plain_text(header, "SeriesInstanceUID"),
                "SOPInstanceUID": one.sop_instance_uid,
            }
            answers = [
                plain_text(answer, "SOPInstanceUID") for answer in _find(node, assoc, question)
            ]
            if one.sop_instance_uid in answers:
                confirmed.add(one.sop_instance_uid)
    return frozenset(confirmed)


def _asking(node: DimseNode) -> AbstractContextManager[Association]:
    context = build_context(STUDY_ROOT_FIND, [EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN])
    return associated(node, [context])


def _find(node: DimseNode, assoc: Association, question: dict[str, str]) -> Iterator[Dataset]:
    """Give the matching answers; an unfinished list is an error, never a short list."""
    if not assoc.accepted_contexts:
        raise DestinationRefused(node.name, f"{describe(node)} answers no study-root C-FIND")
    if not assoc.is_established:
        raise DestinationUnavailable(f"{node.name}: {describe(node)} ended the association")
    for status, answer in assoc.send_c_find(identifier_of(question), STUDY_ROOT_FIND):
        if "Status" not in status:
            raise DestinationUnavailable(
                f"{node.name}: {describe(node)} stopped answering within {node.timeout_s:g} s"
            )
        code = int(status.Status)
        if code == _SUCCESS:
            return
        if code in _PENDING:
            if answer is not None:
                yield answer
        elif code in TRANSIENT:
            raise DestinationUnavailable(
                f"{node.name}: {describe(node)} cannot answer now (0x{code:04X})"
            )
        else:
            raise DestinationRefused(
                node.name, f"{describe(node)} refused the question (0x{code:04X})", code
            )


def identifier_of(question: dict[str, str]) -> Dataset:
    """Build an identifier (PS3.4 C.4.1.1.3); its values are not judged."""
    identifier = Dataset()
    for keyword, value in question.items():
        tag = tag_for_keyword(keyword)
        if tag is None:
            raise ValueError(f"{keyword} is no DICOM keyword")
        identifier[tag] = DataElement(
            tag,
            dictionary_VR(tag),
            value,
            # A study's UID may be UUID text; it is asked for as it is.
            validation_mode=pydicom.config.IGNORE,
        )
    return identifier


def _study_of(answer: Dataset) -> PacsStudy:
    count = plain_text(answer, "NumberOfStudyRelatedInstances")
    modalities = plain_text(answer, "ModalitiesInStudy")
    return PacsStudy(
        study_instance_uid=plain_text(answer, "StudyInstanceUID"),
        study_date=plain_text(answer, "StudyDate"),
        modalities=tuple(part.strip() for part in modalities.split("\\") if part.strip()),
        n_instances=int(count) if count.isdecimal() else None,
    )


def plain_text(answer: Dataset, keyword: str) -> str:
    """Read a value as text without judging it."""
    element = answer.get_item(keyword) if keyword in answer else None
    if element is None or element.value is None:
        return ""
    if isinstance(element, RawDataElement):
        return (element.value or b"").decode("latin-1").strip(" \x00")
    value = element.value
    is_single = isinstance(value, str) or not hasattr(value, "__iter__")
    return str(value).strip() if is_single else "\\".join(str(part) for part in value)
