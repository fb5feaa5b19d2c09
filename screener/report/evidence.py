"""What the results are about: the source header and the instances that may be cited.

An instance can be cited only if its SOP Instance UID says which one it is. Published series carry
one UID on all slices, or none: such a UID is listed once as evidence (or not at all), and no
slice is cited by it, because the reader would be shown another slice.
"""

from __future__ import annotations

import logging
import warnings
from collections import defaultdict
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import CTImageStorage

from screener.errors import ReportError
from screener.report.header import normalise_header

if TYPE_CHECKING:
    from screener.domain import Screening, SliceSource, SpooledInstance, SpooledStudy

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class InstanceReference:
    """One citable SOP Instance of the study."""

    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str

    def item(self) -> Dataset:
        """Write it as an item of a reference sequence (PS3.3 10.8, 10.3)."""
        item = Dataset()
        item.ReferencedSOPClassUID = self.sop_class_uid
        item.ReferencedSOPInstanceUID = self.sop_instance_uid
        return item


@dataclass(frozen=True, slots=True)
class SliceReference:
    """One citable slice: an instance, and the frame (from 1) in multi-frame instances."""

    instance: InstanceReference
    frame_number: int | None

    @property
    def frame_numbers(self) -> list[int] | None:
        """The frame as the list that Referenced Frame Number (0008,1160) is."""
        return None if self.frame_number is None else [self.frame_number]

    def item(self) -> Dataset:
        """Write it as an item of a reference sequence, with its frame where it has one."""
        item = self.instance.item()
        if self.frame_number is not None:
            item.ReferencedFrameNumber = self.frame_number
        return item


@dataclass(frozen=True, slots=True)
class StudyEvidence:
    """The header that results inherit from, and what of the study may be cited."""

    header: Dataset = field(repr=False)
    header_notes: tuple[str, ...]
    modality: str
    character_set: str | tuple[str, ...]  #: as the source declares it, empty where it does not
    instances: tuple[InstanceReference, ...]  #: each SOP Instance UID once per series
    ambiguous_uids: frozenset[str]  #: SOP Instance UIDs that name several contents

    def copy_header(self) -> Dataset:
        """Give a header of one's own: data sets share elements when they are merely updated."""
        return deepcopy(self.header)

    def cite(self, source: SliceSource) -> SliceReference | None:
        """Give the reference to a slice, None where no reference would name this slice alone."""
        uid = source.instance.sop_instance_uid
        if not uid or uid in self.ambiguous_uids:
            return None
        instance = InstanceReference(
            source.instance.series_instance_uid, source.instance.sop_class_uid, uid
        )
        return SliceReference(instance, source.frame_number)


def gather_evidence(screening: Screening, study: SpooledStudy) -> StudyEvidence:
    """Open one header of the study and list what may be cited.

    Raises
    ------
    ReportError
        The study has no instance, or no header of it can be read.
    """
    source = _read_first_header(_in_order_of_trust(screening, study))
    declared = _declared_character_set(source)
    header, notes = normalise_header(source)
    header.StudyInstanceUID = study.study_instance_uid
    # Stand-ins that highdicom asks for and that are never written: it looks up the modules to
    # inherit by SOP class, and knows no private ones.
    header.SOPClassUID = CTImageStorage
    header.SOPInstanceUID = header.SeriesInstanceUID = "1"
    return StudyEvidence(
        header=header,
        header_notes=notes,
        modality=str(source.get("Modality") or ""),
        character_set=declared,
        instances=_list_instances(study),
        ambiguous_uids=_find_ambiguous_uids(study),
    )


def _declared_character_set(source: Dataset) -> str | tuple[str, ...]:
    declared = source.get("SpecificCharacterSet") or ""
    return declared if isinstance(declared, str) else tuple(map(str, declared))


def _in_order_of_trust(screening: Screening, study: SpooledStudy) -> list[SpooledInstance]:
    """Order instances: screened slices first, then the rest by series and digest."""
    selected = screening.ranking.selected_series_instance_uid
    used = [one.instance for one in screening.volume.slices[:1]] if screening.volume else []
    rest = sorted(
        study.instances,
        key=lambda one: (
            one.series_instance_uid != selected,
            one.series_instance_uid,
            one.content_digest,
        ),
    )
    return used + rest


def _read_first_header(instances: list[SpooledInstance]) -> Dataset:
    for instance in instances:
        try:
            # `force` because a folder may hold data sets without a Part 10 preamble.
            with warnings.catch_warnings():
                # A declared character set that does not exist is said in a note on the header.
                warnings.simplefilter("ignore")
                header = dcmread(instance.path, stop_before_pixels=True, force=True)
        except (InvalidDicomError, OSError, EOFError, ValueError, KeyError) as error:
            _log.warning("header unreadable, trying the next: %s", type(error).__name__)
            continue
        if "StudyInstanceUID" in header:
            return header
    raise ReportError(f"none of {len(instances)} instances has a header that can be read")


def _list_instances(study: SpooledStudy) -> tuple[InstanceReference, ...]:
    references = {
        InstanceReference(one.series_instance_uid, one.sop_class_uid, one.sop_instance_uid)
        for one in study.instances
        if one.sop_instance_uid and one.sop_class_uid and one.series_instance_uid
    }
    return tuple(
        sorted(references, key=lambda one: (one.series_instance_uid, one.sop_instance_uid))
    )


def _find_ambiguous_uids(study: SpooledStudy) -> frozenset[str]:
    digests: dict[str, set[str]] = defaultdict(set)
    for instance in study.instances:
        digests[instance.sop_instance_uid].add(instance.content_digest)
    return frozenset(uid for uid, contents in digests.items() if len(contents) > 1)
