"""A destination that does not take the newest report class gets the same report in an older one.

Covers the way down the classes, what is stored before it is sent, what the story says, retries,
and two destinations that differ. Does not cover whether variants are valid: see the conformance
tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydicom import dcmread
from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage

from screener.audit.story import why
from screener.audit.telling import render_story
from screener.daemon.deliveries import deliver
from screener.daemon.site import open_site
from screener.domain import DeliveryState, ResultKind
from tests.audit_factories import STUDY
from tests.integration.real_results import delivery_of, report_for_real
from tests.integration.receivers import SEGMENTATION, SYNTAXES, scripted, settings_for

if TYPE_CHECKING:
    from pathlib import Path

    from pynetdicom.events import Event

pytestmark = pytest.mark.integration


REPORT_AND_LUNGS = (ResultKind.STRUCTURED_REPORT, ResultKind.SEGMENTATION)


@pytest.mark.parametrize("taken", [ComprehensiveSRStorage, EnhancedSRStorage])
def test_report_goes_down_the_classes_until_one_is_taken(tmp_path: Path, taken: str) -> None:
    """The archive gets the tree in its class, from a file and a row that were there before."""
    arrived: dict[str, Any] = {}
    noted: list[bool] = []

    def on_store(event: Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        arrived[uid] = event.dataset
        objects = why(site.database, STUDY).runs[0].objects
        noted.append(any(one.sop_instance_uid == uid for one in objects))
        return 0x0000

    contexts = ((taken, SYNTAXES), (SEGMENTATION, SYNTAXES))
    with scripted(*contexts, EVT_C_STORE=on_store) as port:
        site = open_site(settings_for(tmp_path, port, confirm="none"))
        run_id, delivery_id = report_for_real(site, tmp_path / "run", REPORT_AND_LUNGS)
        deliver(site, delivery_id)
    assert delivery_of(site, run_id).state is DeliveryState.SENT
    assert noted == [True, True]
    by_class = {str(one.SOPClassUID): one for one in arrived.values()}
    assert set(by_class) == {taken, SEGMENTATION}
    [original] = [path for path in (tmp_path / "run").glob("sr-*.dcm") if is_original(path)]
    sent, first = by_class[taken], dcmread(original)
    assert sent.ContentSequence == first.ContentSequence
    assert sent.SOPInstanceUID != first.SOPInstanceUID
    assert sent.SeriesInstanceUID != first.SeriesInstanceUID
    told = render_story(why(site.database, STUDY))
    assert (
        f"replaced (no answer yet): The node does not accept SOP class {first.SOPClassUID}" in told
    )
    assert f"{taken} instead of" in told
    assert "variant stored (pacs)" in told


def is_original(path: Path) -> bool:
    return bool(dcmread(path).SOPClassUID == Comprehensive3DSRStorage)


def test_report_that_no_class_fits_is_dead_and_says_so(tmp_path: Path) -> None:
    """Three classes were offered; the lungs alone are no delivery."""
    with scripted((SEGMENTATION, SYNTAXES), EVT_C_STORE=lambda _: 0) as port:
        site = open_site(settings_for(tmp_path, port, confirm="none"))
        run_id, delivery_id = report_for_real(site, tmp_path / "run", REPORT_AND_LUNGS)
        deliver(site, delivery_id)
    one = delivery_of(site, run_id)
    assert one.state is DeliveryState.DEAD
    assert one.detail is not None
    assert EnhancedSRStorage in one.detail


def test_extra_that_is_not_taken_is_skipped_with_its_reason(tmp_path: Path) -> None:
    """Key objects, pictures, marks: the delivery goes on without them, and the story says why."""
    with scripted((Comprehensive3DSRStorage, SYNTAXES), EVT_C_STORE=lambda _: 0) as port:
        site = open_site(settings_for(tmp_path, port, confirm="none"))
        run_id, delivery_id = report_for_real(site, tmp_path / "run", tuple(ResultKind))
        deliver(site, delivery_id)
    assert delivery_of(site, run_id).state is DeliveryState.SENT
    (story,) = why(site.database, STUDY).runs
    answers = {one.kind: one.answers[0] for one in story.objects}
    reports = {ResultKind.STRUCTURED_REPORT, ResultKind.VIEWER_REPORT}
    assert {kind for kind, one in answers.items() if one.outcome == "stored"} == reports
    for kind in set(answers) - reports:
        assert answers[kind].outcome == "skipped"
        assert "does not accept SOP class" in (answers[kind].comment or "")


def test_retry_sends_the_variant_at_once(tmp_path: Path) -> None:
    """What was learnt at the first attempt holds: the same variant, and no original offered."""
    proposed: list[set[str]] = []
    statuses = iter([0xA700, 0x0000])
    stored: list[str] = []

    def on_requested(event: Event) -> None:
        contexts = event.assoc.requestor.requested_contexts
        proposed.append({str(context.abstract_syntax) for context in contexts})

    def on_store(event: Event) -> int:
        stored.append(str(event.request.AffectedSOPInstanceUID))
        return next(statuses)

    with scripted(
        (ComprehensiveSRStorage, SYNTAXES), EVT_REQUESTED=on_requested, EVT_C_STORE=on_store
    ) as port:
        site = open_site(settings_for(tmp_path, port, confirm="none"))
        kinds = (ResultKind.STRUCTURED_REPORT,)
        run_id, delivery_id = report_for_real(site, tmp_path / "run", kinds)
        while delivery_of(site, run_id).state is not DeliveryState.SENT:
            deliver(site, delivery_id)
    assert proposed[-1] == {ComprehensiveSRStorage}
    assert len(stored) == 2
    assert stored[0] == stored[1]
