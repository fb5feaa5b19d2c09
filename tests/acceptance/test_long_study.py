"""A study just short of what is refused: 3,900 slices, from C-STORE to a confirmed report.

Covers: reception, selection, networks, SR, segmentation of all slices, its delivery, the books.
Does not cover: slices of 512 rows, which cost sixteen times the memory of these.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pydicom
import pytest

from models.phantom import Pattern, PhantomSpec, make_phantom
from screener.demo.pacs import DemoPacs
from screener.demo.series_writer import write_series
from screener.demo.synthetic_identity import SyntheticIdentity
from screener.domain import StudyState
from tests.acceptance.conftest import SENDER_AE_TITLE, Pacs, running_site
from tests.chaos.modality import ChaosStudy, Modality
from tests.integration.processes import wait_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(5400)]

N_SLICES, N_OF_ONE = 3900, 130  #: slices, and how many are drawn from one of the phantom
COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
#: Longest screening on a busy machine, in seconds.
LIMIT_S = 3600.0


def write_long_study(folder: Path) -> ChaosStudy:
    """Write a chest of 300 mm in slices of a thirteenth of a millimetre."""
    n_drawn = N_SLICES // N_OF_ONE
    spec = PhantomSpec(
        seed=901,
        pattern=Pattern.COVID_19,
        n_slices=n_drawn,
        slice_spacing_mm=300 / n_drawn,
        rows=128,
        columns=128,
        pixel_spacing_mm=3.0,
        severity=0.6,
    )
    drawn = make_phantom(spec)
    phantom = replace(
        drawn,
        volume_hu=np.repeat(drawn.volume_hu, N_OF_ONE, axis=0),
        lung_labels=np.repeat(drawn.lung_labels, N_OF_ONE, axis=0),
        lesion_mask=np.repeat(drawn.lesion_mask, N_OF_ONE, axis=0),
        spacing_mm=(drawn.spacing_mm[0] / N_OF_ONE, *drawn.spacing_mm[1:]),
    )
    identity = SyntheticIdentity(name="long", study_at=datetime.now(UTC))
    files = write_series(phantom, folder, identity)
    return ChaosStudy(identity.study_instance_uid, tuple(files))


def test_study_of_3900_slices_is_reported(tmp_path: Path) -> None:
    """Every slice is received, screened and in the segmentation; the PACS confirms the report."""
    study = write_long_study(tmp_path / "study")
    url = f"sqlite:///{tmp_path / 'data' / 'screener.sqlite3'}"
    with (
        DemoPacs(tmp_path / "pacs", "TESTPACS") as pacs,
        running_site(tmp_path, url, "", Pacs("pacs", "TESTPACS", pacs.port)) as site,
    ):
        modality = Modality(SENDER_AE_TITLE, site.port)
        parts = [study.files[start::4] for start in range(4)]
        for thread in [modality.send_in_background(study, part) for part in parts]:
            thread.join()
        assert len(modality.acknowledged) == N_SLICES

        def state() -> str:
            status = site.status(study.study_instance_uid)
            # A pause within the sending made a run of a part: all have arrived, it has no say.
            if status is None or status.state is StudyState.RECEIVING or status.run is None:
                return ""
            return status.run.state.value

        wait_until(lambda: state() in {"confirmed", "failed"}, "the run has ended", LIMIT_S)
        assert state() == "confirmed"
        newest = {one.sop_class_uid: one.path for one in pacs.received()}
        report = pydicom.dcmread(newest[COMPREHENSIVE_3D_SR])
        [evidence] = report.CurrentRequestedProcedureEvidenceSequence
        n_named = [len(one.ReferencedSOPSequence) for one in evidence.ReferencedSeriesSequence]
        assert sorted(n_named) == [1, N_SLICES]  # the segmentation, the slices
        lungs = pydicom.dcmread(newest[SEGMENTATION], stop_before_pixels=True)
        assert int(lungs.NumberOfFrames) > N_SLICES  # two lungs in most of them
        books = site.screener("doctor", "--accounting")
        assert books.returncode == 0, books.stdout + books.stderr
