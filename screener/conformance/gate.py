"""The gate: every validator that is installed, and our own rules, on the results in a folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from screener.assemble.part10 import PARSE_ERRORS, quiet_parser
from screener.conformance.device_rules import describe_devices, device_violations
from screener.conformance.frame_rules import map_violations, place_violations
from screener.conformance.identity_rules import identity_violations, text_violations
from screener.conformance.judgement import judge
from screener.conformance.masks import read_map, read_segments
from screener.conformance.objects import read_objects
from screener.conformance.programs import find_program
from screener.conformance.rules import report_violations
from screener.conformance.segment_rules import (
    pair_violations,
    volume_violations,
    voxel_violations,
)
from screener.conformance.tree import find, value_of
from screener.conformance.validators import (
    ENTITY_VALIDATOR,
    MAXIMUM_SOURCES,
    VALIDATORS,
    ask_about_entities,
)
from screener.conformance.verdict import Check, CheckState, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from screener.conformance.device_rules import Description
    from screener.conformance.objects import DicomObject, FolderObjects

#: Names under which our own checks stand among the validators.
OUR_RULES: Final = "rules"
OUR_READER: Final = "reader"


def check_folder(folder: Path, find_on: Callable[[str], Path | None] = find_program) -> Verdict:
    """Check the result objects in a folder, against their sources where those are there too.

    Parameters
    ----------
    folder
        Read recursively, with any file names; nothing is written into it.
    find_on
        Gives the path of an installed program, None where there is none.

    Returns
    -------
    :
        One check per validator and object. A validator that is not installed is "not run".

    Raises
    ------
    WrongUse
        There is no such folder, or it holds no result object.
    """
    objects = read_objects(folder)
    devices = describe_devices(one.dataset for one in objects.results)
    gate = _Gate(objects, find_on, devices)
    return Verdict(
        folder=str(folder),
        n_results=len(objects.results),
        n_sources=len(objects.sources),
        n_ignored=objects.n_ignored,
        checks=tuple(gate.checks()),
        notes=tuple(gate.notes()),
    )


@dataclass(frozen=True, slots=True)
class _Gate:
    """One pass over one folder."""

    objects: FolderObjects
    find_on: Callable[[str], Path | None]
    devices: Mapping[str, frozenset[Description]]

    def checks(self) -> Iterator[Check]:
        for name, reason in self.objects.unreadable:
            yield Check(OUR_READER, name, CheckState.FINDINGS, (reason,))
        for one in self.objects.results:
            yield from self._ask_programs(one)
            yield self._ask_rules(one)
        for uid in dict.fromkeys(one.study_instance_uid for one in self.objects.results):
            yield from self._ask_about_study(uid)

    def notes(self) -> Iterator[str]:
        for name in self.objects.unread_sources:
            yield f"{name}: this source cannot be read and was not compared"
        held = {one.sop_instance_uid for one in self.objects.results}
        for report in (one for one in self.objects.results if one.is_measurement_report):
            n_sources = len(self.objects.sources_of(report))
            if not n_sources:
                yield f"{report.name}: no source of its study is here to compare it with"
            if n_sources > MAXIMUM_SOURCES:
                yield (
                    f"{report.name}: {ENTITY_VALIDATOR} saw {MAXIMUM_SOURCES} of "
                    f"{n_sources} sources"
                )
            for uid in sorted(_cited_segmentations(report) - held):
                yield f"{report.name}: its segmentation {uid} is not here and was not compared"

    def _ask_programs(self, one: DicomObject) -> Iterator[Check]:
        for validator in VALIDATORS:
            if not validator.applies(one):
                continue
            program = self.find_on(validator.name)
            if program is None:
                yield Check(validator.name, one.name, CheckState.NOT_RUN)
                continue
            remarks = validator.ask(program, one)
            sources = self.objects.sources_of(one)
            yield judge(validator.name, one.name, remarks, (one,), sources)

    def _ask_rules(self, one: DicomObject) -> Check:
        """Apply our own rules; an object too broken for them breaks them."""
        try:
            with quiet_parser():
                violations = self._violations(one)
        except PARSE_ERRORS as error:
            violations = [f"its content cannot be read ({type(error).__name__})"]
        state = CheckState.FINDINGS if violations else CheckState.PASSED
        return Check(OUR_RULES, one.name, state, tuple(violations))

    def _violations(self, one: DicomObject) -> list[str]:
        sources = self.objects.sources_of(one)
        headers = [source.dataset for source in sources]
        found = [
            *identity_violations(one.dataset, headers),
            *text_violations(one.dataset, headers),
            *_missing_sources(one, sources),
            *device_violations(one.dataset, self.devices),
            *place_violations(one.dataset, headers),
        ]
        if one.is_measurement_report:
            found += report_violations(one.dataset)
        if one.is_segmentation:
            found += self._segmentation_violations(one)
        if one.is_map:
            found += map_violations(one.dataset, read_map(one.path))
        return found

    def _segmentation_violations(self, one: DicomObject) -> list[str]:
        segments = read_segments(one.path)
        found = voxel_violations(one.dataset, segments)
        for report in self.objects.results:
            if one.sop_instance_uid in _cited_segmentations(report):
                found += pair_violations(report.dataset, one.dataset)
                found += volume_violations(report.dataset, one.sop_instance_uid, segments)
        return found

    def _ask_about_study(self, study_instance_uid: str) -> Iterator[Check]:
        results = [
            one for one in self.objects.results if one.study_instance_uid == study_instance_uid
        ]
        sources = self.objects.sources_of(results[0])
        if len(results) + len(sources) == 1:
            return
        subject = f"study {study_instance_uid}"
        program = self.find_on(ENTITY_VALIDATOR)
        if program is None:
            yield Check(ENTITY_VALIDATOR, subject, CheckState.NOT_RUN)
            return
        remarks = ask_about_entities(program, results, sources)
        yield judge(ENTITY_VALIDATOR, subject, remarks, results, sources)


def _cited_segmentations(report: DicomObject) -> set[str]:
    if not report.is_measurement_report:
        return set()
    try:
        cited = [value_of(item) for item in find(report.dataset, "121191")]
        return {str(item.get("ReferencedSOPInstanceUID") or "") for item in cited}
    except PARSE_ERRORS:
        return set()  # the rules say that the tree cannot be read


def _missing_sources(one: DicomObject, sources: tuple[DicomObject, ...]) -> list[str]:
    """Every instance that a result cites is among the sources, where its series is here at all."""
    here = {source.sop_instance_uid for source in sources}
    series_here = {str(source.dataset.get("SeriesInstanceUID") or "") for source in sources}
    listings = [one.dataset, *(one.dataset.get("CurrentRequestedProcedureEvidenceSequence") or [])]
    cited = {
        str(instance.get("ReferencedSOPInstanceUID") or "")
        for listing in listings
        for series in listing.get("ReferencedSeriesSequence") or []
        if series.get("SeriesInstanceUID") in series_here
        for keyword in ("ReferencedSOPSequence", "ReferencedInstanceSequence")
        for instance in series.get(keyword) or []
    }
    return [f"cites {uid}, which its series does not hold" for uid in sorted(cited - here)]
