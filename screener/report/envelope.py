"""What every result object shares: its identity, its equipment, its fixed times, its bytes.

A rebuild of the same run must give the same bytes, so nothing here reads a clock or draws a
random number: all dates are the start of the run, and what highdicom fills from the clock or at
random is overwritten before encoding.
"""

from __future__ import annotations

import logging
import re
import warnings
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from highdicom import SOPClass
from pydicom import config, dcmwrite
from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    ParametricMapStorage,
    RLELossless,
    SegmentationStorage,
)
from pydicom.valuerep import DA, DT, TM

from screener.domain import ResultKind, ResultObject
from screener.errors import ReportError
from screener.report.algorithms import contributing_equipment, list_algorithms, product_of
from screener.report.header import UNICODE
from screener.report.options import Charset
from screener.report.uids import instance_uid, result_series_uid
from screener.version import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from highdicom.base_content import ContributingEquipment
    from pydicom import Dataset

    from screener.domain import Screening
    from screener.report.algorithms import Algorithm
    from screener.report.evidence import StudyEvidence
    from screener.report.options import ReportOptions

_log = logging.getLogger(__name__)

#: Label Map Segmentation Storage; the library has no name for it yet (PS3.4 Table B.5-1).
LABEL_MAP_SEGMENTATION_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.66.7"

#: SOP class of each kind, as the defaults of a site make it.
SOP_CLASSES: Final[dict[ResultKind, str]] = {
    ResultKind.STRUCTURED_REPORT: Comprehensive3DSRStorage,
    ResultKind.SEGMENTATION: SegmentationStorage,
    ResultKind.KEY_OBJECT_SELECTION: KeyObjectSelectionDocumentStorage,
    ResultKind.OVERLAY: MultiFrameTrueColorSecondaryCaptureImageStorage,
    ResultKind.ENCAPSULATED_PDF: EncapsulatedPDFStorage,
    ResultKind.PRESENTATION_STATE: GrayscaleSoftcopyPresentationStateStorage,
    ResultKind.VIEWER_REPORT: Comprehensive3DSRStorage,
    ResultKind.PARAMETRIC_MAP: ParametricMapStorage,
    ResultKind.LABEL_MAP: LABEL_MAP_SEGMENTATION_STORAGE,
}

#: Series Number (0020,0011) of each kind: high, so that results sort behind the images.
SERIES_NUMBERS: Final[dict[ResultKind, int]] = {
    ResultKind.STRUCTURED_REPORT: 9000,
    ResultKind.SEGMENTATION: 9001,
    ResultKind.KEY_OBJECT_SELECTION: 9002,
    ResultKind.OVERLAY: 9003,
    ResultKind.PRESENTATION_STATE: 9004,
    ResultKind.PARAMETRIC_MAP: 9005,
    ResultKind.ENCAPSULATED_PDF: 9006,
    ResultKind.VIEWER_REPORT: 9007,
    ResultKind.LABEL_MAP: 9008,
}

#: What follows the product name in Series Description (0008,103E): AI and unverified, always.
SERIES_DESCRIPTIONS: Final[dict[ResultKind, str]] = {
    ResultKind.STRUCTURED_REPORT: "AI result (unverified)",
    ResultKind.SEGMENTATION: "lungs (AI)",
    ResultKind.KEY_OBJECT_SELECTION: "key images (AI)",
    ResultKind.OVERLAY: "overlay (AI, not for diagnosis)",
    ResultKind.ENCAPSULATED_PDF: "page (AI, not for diagnosis)",
    ResultKind.PRESENTATION_STATE: "marks (AI, not for diagnosis)",
    ResultKind.VIEWER_REPORT: "regions (AI, unverified)",
    ResultKind.PARAMETRIC_MAP: "lesion map (AI, unverified)",
    ResultKind.LABEL_MAP: "lungs, label map (AI)",
}

#: Kinds that are not written in Explicit VR Little Endian: a label map is some fifty times smaller.
TRANSFER_SYNTAXES: Final[dict[ResultKind, str]] = {ResultKind.LABEL_MAP: RLELossless}

#: Offsets that Timezone Offset From UTC allows (PS3.3 C.12.1.1.8).
_LEAST_SHIFT: Final = timedelta(hours=-12)
_GREATEST_SHIFT: Final = timedelta(hours=14)


@dataclass(frozen=True, slots=True)
class Envelope:
    """The header values of one kind of result of one run."""

    kind: ResultKind
    sop_class_uid: str  #: of every kind but reports, whose class is an option
    sop_instance_uid: str
    series_instance_uid: str
    at: datetime  #: start of the run, in the zone of the source where it names one, else the site's
    has_source_zone: bool
    algorithms: tuple[Algorithm, ...]
    character_sets: tuple[str | tuple[str, ...], ...]  #: to be tried in this order
    arguments: dict[str, Any] = field(repr=False)  #: what every highdicom constructor takes


def make_envelope(
    screening: Screening, evidence: StudyEvidence, options: ReportOptions, kind: ResultKind
) -> Envelope:
    """Collect the header values of one kind of result."""
    run = screening.run
    screened = screening.ranking.selected_series_instance_uid or ""
    zone = _zone_of(evidence.header)
    # By name, UTC would need a list of time zones, which a small machine has not.
    site_zone = ZoneInfo(options.time_zone) if options.time_zone else UTC
    at = run.started_at.astimezone(zone or site_zone)
    product = product_of(list_algorithms(screening, options))
    sop_instance_uid = instance_uid(run, screened, kind, options.digest)
    series_instance_uid = result_series_uid(run, screened, kind)
    arguments = {
        "series_instance_uid": series_instance_uid,
        "series_number": SERIES_NUMBERS[kind],
        "sop_instance_uid": sop_instance_uid,
        "instance_number": run.version,
        "manufacturer": product.manufacturer,
        "manufacturer_model_name": product.name,
        "software_versions": product.version,
        "device_serial_number": run.settings_digest[:16],
        "institution_name": options.institution_name or None,
        "series_description": f"{product.name[:32]} {SERIES_DESCRIPTIONS[kind]}",
        "content_date": DA(at.date()),
        "content_time": TM(at.time()),
        "specific_character_set": UNICODE,
        "transfer_syntax_uid": TRANSFER_SYNTAXES.get(kind, ExplicitVRLittleEndian),
        "contributing_equipment": _equipment(screening, options, at),
    }
    return Envelope(
        kind=kind,
        sop_class_uid=SOP_CLASSES[kind],
        sop_instance_uid=sop_instance_uid,
        series_instance_uid=series_instance_uid,
        at=at,
        has_source_zone=zone is not None,
        algorithms=list_algorithms(screening, options),
        character_sets=_character_sets(evidence, options),
        arguments=arguments,
    )


def start_document(evidence: StudyEvidence, envelope: Envelope, modality: str) -> SOPClass:
    """Start an object without a class in highdicom: patient, study, series, equipment.

    Content Date and Time are left to the caller, since some objects have none.
    """
    header = evidence.header
    arguments = {**envelope.arguments}
    equipment = arguments.pop("contributing_equipment")
    del arguments["content_date"], arguments["content_time"]
    document = SOPClass(
        study_instance_uid=header.StudyInstanceUID,
        sop_class_uid=envelope.sop_class_uid,
        modality=modality,
        **arguments,
    )
    document.copy_patient_and_study_information(evidence.copy_header())
    document.ContributingEquipmentSequence = equipment
    return document


@contextmanager
def tolerate_source_values() -> Iterator[None]:
    """Let identifiers of the source pass as they are; an archive matches on them.

    Our own values are checked by the conformance tests, not by pydicom at run time.
    """
    with config.disable_value_validation(), warnings.catch_warnings():
        # highdicom doubts names without a caret, and quotes them: they may not reach a log.
        warnings.filterwarnings("ignore", message="The string .* is unlikely to represent")
        yield


def say_without_identity(error: Exception, header: Dataset) -> str:
    """Say what a library complained about, unless its words quote the patient."""
    text = str(error)
    for keyword in ("PatientName", "PatientID", "PatientBirthDate"):
        value = str(header.get(keyword) or "")
        if value and value in text:
            return f"{type(error).__name__} on a value of the patient"
    return f"{type(error).__name__}: {text}"


def encode(document: SOPClass, envelope: Envelope) -> ResultObject:
    """Fix the times of a document and write it as a Part 10 file.

    Raises
    ------
    ReportError
        The document cannot be written, or text would be replaced by question marks.
    """
    _pin(document, envelope.at)
    if envelope.has_source_zone:
        # Re-dates the inherited study time too, so it is never written unless the source has it.
        document.TimezoneOffsetFromUTC = f"{envelope.at:%z}"
    encoded = _write(document, envelope)
    return ResultObject(
        kind=envelope.kind,
        sop_class_uid=str(document.SOPClassUID),
        sop_instance_uid=envelope.sop_instance_uid,
        series_instance_uid=envelope.series_instance_uid,
        encoded=encoded,
    )


def _write(document: SOPClass, envelope: Envelope) -> bytes:
    """Write a document in the first character set that holds all its text."""
    *preferred, last = envelope.character_sets
    for character_set in preferred:
        # A copy, because names keep the bytes of an attempt; a list, because pydicom fills an
        # empty first value in place.
        attempt = deepcopy(document)
        attempt.SpecificCharacterSet = (
            character_set if isinstance(character_set, str) else list(character_set)
        )
        try:
            return _write_strictly(attempt)
        except (UserWarning, UnicodeError, LookupError) as error:
            _log.warning("character set of the source is not used: %s", type(error).__name__)
    document.SpecificCharacterSet = last
    try:
        return _write_strictly(document)
    except (UserWarning, UnicodeError, ValueError, TypeError) as error:
        reason = say_without_identity(error, document)
        raise ReportError(f"{envelope.kind.value} cannot be written: {reason}") from error


def _write_strictly(document: SOPClass) -> bytes:
    buffer = BytesIO()
    with warnings.catch_warnings():
        # pydicom only warns where it writes "????" for text that the character set cannot hold.
        warnings.filterwarnings("error", message=".*encod.*")
        dcmwrite(buffer, document, enforce_file_format=True)
    return buffer.getvalue()


def _character_sets(
    evidence: StudyEvidence, options: ReportOptions
) -> tuple[str | tuple[str, ...], ...]:
    if options.charset is Charset.SOURCE and evidence.character_set:
        return evidence.character_set, UNICODE
    return (UNICODE,)


def _equipment(
    screening: Screening, options: ReportOptions, at: datetime
) -> list[ContributingEquipment]:
    return [contributing_equipment(one, at) for one in list_algorithms(screening, options)]


def _pin(document: SOPClass, at: datetime) -> None:
    document.InstanceCreationDate = DA(at.date())
    document.InstanceCreationTime = TM(at.time())
    for item in document.ContributingEquipmentSequence:
        if item.get("ManufacturerModelName") == "highdicom":
            item.ContributionDateTime = DT(at)
    document.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    document.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME


def _zone_of(header: Dataset) -> timezone | None:
    """Read Timezone Offset From UTC (0008,0201), None where the source has none that is valid."""
    offset = str(header.get("TimezoneOffsetFromUTC") or "")
    if re.fullmatch(r"[+-]\d{4}", offset) is None:
        return None
    size = timedelta(hours=int(offset[1:3]), minutes=int(offset[3:]))
    shift = -size if offset[0] == "-" else size
    return timezone(shift) if _LEAST_SHIFT <= shift <= _GREATEST_SHIFT else None
