"""Ask a DICOMweb service what it holds: QIDO-RS (PS3.18 10.6).

The same questions as `query.py` asks by C-FIND. Answers come in pages; a list is read to its end
or is an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pydicom import dcmread

from screener.deliver.dicom_json import integer_of, text_of, texts_of
from screener.deliver.query import plain_text
from screener.deliver.web import connected
from screener.deliver.web_errors import broken_off
from screener.domain import PacsStudy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import date

    from screener.deliver.scu import DeliverableObject
    from screener.deliver.web import WebSession
    from screener.domain import WebNode

#: Matches that are asked for in one page; a service may give fewer.
PAGE = 500
#: Pages of one list; a service that has more is not believed.
MOST_PAGES = 200

#: Resources that are asked (PS3.18 10.6, 10.4).
STUDIES = "/studies"
SERIES_OF_STUDY = "/studies/{study}/series"
INSTANCES_OF_SERIES = "/studies/{study}/series/{series}/instances"
SERIES = "/studies/{study}/series/{series}"

_STUDY_DATE = "00080020"
_MODALITY = "00080060"
_MODALITIES_IN_STUDY = "00080061"
_SOP_INSTANCE_UID = "00080018"
_STUDY_INSTANCE_UID = "0020000D"
_SERIES_INSTANCE_UID = "0020000E"
_NUMBER_OF_STUDY_RELATED_INSTANCES = "00201208"


def find_studies(node: WebNode, study_date: date, modality: str = "CT") -> tuple[PacsStudy, ...]:
    """List the studies of one day that have series of `modality`; see `query.find_studies`.

    Raises
    ------
    DestinationUnavailable, DestinationRefused
        The service cannot be asked now, or not this.
    """
    question = {
        "StudyDate": study_date.strftime("%Y%m%d"),
        "ModalitiesInStudy": modality,
        "includefield": (_MODALITIES_IN_STUDY, _NUMBER_OF_STUDY_RELATED_INSTANCES),
    }
    with connected(node) as session:
        answers = _pages(session, STUDIES, question, _STUDY_INSTANCE_UID)
        studies = [_study_of(answer) for answer in answers]
    return tuple(one for one in studies if not one.modalities or modality in one.modalities)


def count_instances(node: WebNode, study_instance_uid: str) -> int | None:
    """Ask how many instances a study has; None where the service does not say or know it.

    Raises
    ------
    DestinationUnavailable, DestinationRefused
        As `find_studies`.
    """
    question = {
        "StudyInstanceUID": study_instance_uid,
        "includefield": _NUMBER_OF_STUDY_RELATED_INSTANCES,
        "limit": 2,
    }
    with connected(node) as session:
        answers = _answers(session, STUDIES, question)
    counts = [
        integer_of(answer, _NUMBER_OF_STUDY_RELATED_INSTANCES)
        for answer in answers
        if text_of(answer, _STUDY_INSTANCE_UID) == study_instance_uid
    ]
    return counts[0] if counts else None


def find_series(node: WebNode, study_instance_uid: str) -> tuple[tuple[str, str], ...]:
    """List Series Instance UID and Modality of every series of a study.

    Raises
    ------
    DestinationUnavailable, DestinationRefused
        As `find_studies`.
    """
    path = resource(SERIES_OF_STUDY, study_instance_uid)
    with connected(node) as session:
        return tuple(
            (text_of(answer, _SERIES_INSTANCE_UID), text_of(answer, _MODALITY))
            for answer in _pages(session, path, {}, _SERIES_INSTANCE_UID)
        )


def confirm_objects(node: WebNode, objects: Sequence[DeliverableObject]) -> frozenset[str]:
    """Ask for each object by name; gives the SOP Instance UIDs that the service says it holds.

    Raises
    ------
    DestinationUnavailable, DestinationRefused
        As `find_studies`.
    """
    confirmed: set[str] = set()
    with connected(node) as session:
        for one in objects:
            header = dcmread(one.path, specific_tags=["StudyInstanceUID", "SeriesInstanceUID"])
            path = resource(
                INSTANCES_OF_SERIES,
                plain_text(header, "StudyInstanceUID"),
                plain_text(header, "SeriesInstanceUID"),
            )
            answers = _answers(session, path, {"SOPInstanceUID": one.sop_instance_uid})
            if one.sop_instance_uid in {text_of(answer, _SOP_INSTANCE_UID) for answer in answers}:
                confirmed.add(one.sop_instance_uid)
    return frozenset(confirmed)


def instances_of(
    session: WebSession, study_instance_uid: str, series_instance_uid: str
) -> frozenset[str]:
    """Give the SOP Instance UIDs of a series; empty where the service does not know it."""
    path = resource(INSTANCES_OF_SERIES, study_instance_uid, series_instance_uid)
    return frozenset(
        text_of(answer, _SOP_INSTANCE_UID)
        for answer in _pages(session, path, {}, _SOP_INSTANCE_UID)
    )


def ask_anything(node: WebNode) -> None:
    """Ask for one study, whichever, to see whether the service answers at all.

    Raises
    ------
    DestinationUnavailable, DestinationRefused
        It does not, or something else does.
    """
    with connected(node) as session:
        _answers(session, STUDIES, {"limit": 1})


def resource(template: str, study_instance_uid: str, series_instance_uid: str = "") -> str:
    """Give the path of a resource; UIDs may be any text."""
    study, series = (quote(uid, safe="") for uid in (study_instance_uid, series_instance_uid))
    return template.format(study=study, series=series)


def _pages(
    session: WebSession, path: str, question: dict[str, Any], key: str
) -> Iterator[dict[str, Any]]:
    """Give every match once, page by page, until a page brings nothing new.

    A service may give fewer than it is asked for, or ignore where the page is to begin.
    """
    seen: set[str] = set()
    n_given = 0
    for _ in range(MOST_PAGES):
        page = _answers(session, path, question | {"limit": PAGE, "offset": n_given})
        n_given += len(page)
        fresh = {text_of(answer, key): answer for answer in page if text_of(answer, key)}
        fresh = {uid: answer for uid, answer in fresh.items() if uid not in seen}
        if not fresh:
            return
        seen |= set(fresh)
        yield from fresh.values()
    raise broken_off(session.node, f"lists more than {MOST_PAGES} pages")


def _answers(session: WebSession, path: str, question: dict[str, Any]) -> list[dict[str, Any]]:
    # Below a study or series a missing path means that it has none of it.
    document = session.get_json(path, question, may_be_absent=path != STUDIES)
    if document is None:
        return []
    if not isinstance(document, list) or not all(isinstance(one, dict) for one in document):
        raise broken_off(session.node, "answered JSON that is no list of matches")
    return document


def _study_of(answer: dict[str, Any]) -> PacsStudy:
    return PacsStudy(
        study_instance_uid=text_of(answer, _STUDY_INSTANCE_UID),
        study_date=text_of(answer, _STUDY_DATE),
        modalities=tuple(one for one in texts_of(answer, _MODALITIES_IN_STUDY) if one),
        n_instances=integer_of(answer, _NUMBER_OF_STUDY_RELATED_INSTANCES),
    )
