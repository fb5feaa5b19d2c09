"""The journey as a whole, with stand-ins for the models: what comes out, what is told, in order."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from screener.classify import ClassifyRules
from screener.domain import (
    Decision,
    DefectCode,
    NotAnalysed,
    NotAnalysedReason,
    PatientClass,
    Screening,
    SpooledStudy,
    VotePolicy,
    VoteRule,
)
from screener.errors import ModelFailure
from screener.facts import (
    Fact,
    LungsSegmented,
    NotAnalysedBecause,
    PatientDecided,
    SeriesSelected,
    SlicesClassified,
    StudyAssembled,
    VolumeAssembled,
)
from screener.journey import Tools
from screener.pipeline import screen_study
from tests.chest_models import MeanHuClassifier, ThresholdSegmenter, chest_hu
from tests.ct_factories import only_study, run_of, write_series

POSITIONS_MM = [5.0 * n for n in range(48)]
WHOLE_JOURNEY = [
    StudyAssembled,
    SeriesSelected,
    VolumeAssembled,
    LungsSegmented,
    SlicesClassified,
    PatientDecided,
]


def ticking() -> Callable[[], float]:
    """Make a clock that advances by one second each time it is read."""
    seconds = count()
    return lambda: float(next(seconds))


def tools(**values: Any) -> Tools:
    made = Tools(
        segmenter=ThresholdSegmenter(),
        classifier=MeanHuClassifier(),
        models=(),
        policy=VotePolicy("test", VoteRule.AFFECTED_FRACTION),
        classification=ClassifyRules(least_lung_area_mm2=1500.0),
        clock=ticking(),
    )
    return replace(made, **values)


def write_volume(folder: Path, hu: NDArray[np.int16], **attributes: Any) -> Path:
    """Write a volume of 64 x 64 slices as a CT series, caudal slice first."""
    pixels = {
        n: {"PixelData": (one.astype(np.int32) + 1024).astype("<u2").tobytes()}
        for n, one in enumerate(hu)
    }
    values = {"Rows": 64, "Columns": 64, "PixelSpacing": [4.0, 4.0], **attributes}
    return write_series(folder, POSITIONS_MM[: len(hu)], per_slice=pixels, **values)


def screen(study: SpooledStudy, **values: Any) -> tuple[Screening, list[Fact]]:
    facts: list[Fact] = []
    return screen_study(study, run_of(study), tools(**values), facts.append), facts


def with_lesions(hu: NDArray[np.int16], n_slices: int) -> NDArray[np.int16]:
    """Make the lungs of some slices in the middle dense."""
    ill = hu.copy()
    middle = len(hu) // 2
    for one in ill[middle : middle + n_slices]:
        one[(one == -850)] = -100
        one[30:32, 14] = -850
        one[30:32, 48] = -850
    return ill


def test_normal_chest_is_decided_normal(tmp_path: Path) -> None:
    """From files to a decision; the screening holds all the evidence."""
    study = only_study(write_volume(tmp_path, chest_hu()))
    screening, facts = screen(study)
    assert isinstance(screening.outcome, Decision)
    assert screening.outcome.patient_class is PatientClass.NORMAL
    assert screening.n_instances == 48
    assert screening.defects == ()
    assert screening.volume is not None
    assert (screening.volume.volume_hu == chest_hu().clip(-1024)).all()
    assert screening.lungs is not None
    assert screening.probabilities is not None
    assert len(screening.probabilities.slice_indices) == screening.outcome.n_slices_analysed
    assert [type(fact) for fact in facts] == WHOLE_JOURNEY


def test_seconds_are_counted_per_step(tmp_path: Path) -> None:
    """Every step of the journey stands with its time."""
    screening, _ = screen(only_study(write_volume(tmp_path, chest_hu())))
    assert screening.seconds_by_step == tuple(
        (step, 1.0) for step in ("assemble", "segment", "classify", "vote")
    )


def test_same_study_gives_the_same_screening(tmp_path: Path) -> None:
    """Two runs over the same bytes: the same decision, mask and probabilities."""
    study = only_study(write_volume(tmp_path, chest_hu()))
    (one, _), (two, _) = screen(study), screen(study)
    assert one.outcome == two.outcome
    assert one.ranking == two.ranking
    assert one.lungs is not None
    assert two.lungs is not None
    assert (one.lungs.labels == two.lungs.labels).all()


def test_shared_sop_instance_uid_loses_no_slice(tmp_path: Path) -> None:
    """One UID on all slices: 48 slices are screened and the defect is told."""
    study = only_study(write_volume(tmp_path, chest_hu(), SOPInstanceUID=""))
    screening, facts = screen(study)
    assert isinstance(screening.outcome, Decision)
    assert screening.volume is not None
    assert len(screening.volume.slices) == 48
    codes = [defect.code for defect in screening.defects]
    assert DefectCode.SHARED_SOP_INSTANCE_UID in codes
    assert isinstance(facts[0], StudyAssembled)
    assert any("shared-sop-instance-uid" in text for text in facts[0].defects)


def test_localizer_only_study_is_not_analysed(tmp_path: Path) -> None:
    """A refusal is a result: reason, detail and ranking are all there."""
    study = only_study(
        write_volume(tmp_path, chest_hu()[:2], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    )
    screening, facts = screen(study)
    assert isinstance(screening.outcome, NotAnalysed)
    assert screening.outcome.reason is NotAnalysedReason.LOCALIZER_ONLY
    assert screening.volume is None
    assert screening.ranking.candidates[0].refusal is NotAnalysedReason.LOCALIZER_ONLY
    assert [type(fact) for fact in facts] == [StudyAssembled, SeriesSelected, NotAnalysedBecause]


def test_next_series_is_tried_when_the_best_shows_no_chest(tmp_path: Path) -> None:
    """The abdomen scores higher by its headers; the chest beside it is screened."""
    abdomen = chest_hu()
    abdomen[abdomen == -850] = 40
    write_volume(tmp_path / "abdomen", abdomen)
    write_volume(tmp_path / "chest", chest_hu(), series="1.2.9", ConvolutionKernel="B80f")
    screening, facts = screen(only_study(tmp_path))
    assert isinstance(screening.outcome, Decision)
    assert screening.ranking.selected_series_instance_uid == "1.2.9"
    refused = [one for one in screening.ranking.candidates if one.refusal is not None]
    assert [one.refusal for one in refused] == [NotAnalysedReason.NOT_A_CHEST]
    assert screening.volume is not None
    assert screening.volume.series_instance_uid == "1.2.9"
    assert [type(fact) for fact in facts].count(SeriesSelected) == 2


def test_abdomen_alone_is_not_a_chest(tmp_path: Path) -> None:
    """No second series: the reason of the pixel gate speaks for the study."""
    abdomen = chest_hu()
    abdomen[abdomen == -850] = 40
    screening, facts = screen(only_study(write_volume(tmp_path, abdomen)))
    assert isinstance(screening.outcome, NotAnalysed)
    assert screening.outcome.reason is NotAnalysedReason.NOT_A_CHEST
    assert screening.ranking.selected_series_instance_uid is None
    assert screening.lungs is None
    assert isinstance(facts[-1], NotAnalysedBecause)


def test_two_patients_in_one_study_are_not_analysed(tmp_path: Path) -> None:
    """Nobody can tell whose lungs they are."""
    write_volume(tmp_path / "a", chest_hu())
    write_volume(tmp_path / "b", chest_hu(), series="1.2.9", PatientID="P2")
    screening, _ = screen(only_study(tmp_path))
    assert isinstance(screening.outcome, NotAnalysed)
    assert screening.outcome.reason is NotAnalysedReason.CONFLICTING_PATIENTS


def test_damaged_pixels_are_not_analysed(tmp_path: Path) -> None:
    """One slice is cut short: no decision on a volume with a hole nobody noticed."""
    write_volume(tmp_path, chest_hu())
    files = sorted(tmp_path.iterdir())
    files[20].write_bytes(files[20].read_bytes()[:-100])
    screening, _ = screen(only_study(tmp_path))
    assert isinstance(screening.outcome, NotAnalysed)
    assert screening.outcome.reason is NotAnalysedReason.UNREADABLE_PIXELS


def test_too_few_lung_bearing_slices_are_not_analysed(tmp_path: Path) -> None:
    """The evidence that is there stays in the screening."""
    study = only_study(write_volume(tmp_path, chest_hu()))
    screening, _ = screen(study, policy=VotePolicy("strict", VoteRule.MAJORITY, least_slices=1000))
    assert isinstance(screening.outcome, NotAnalysed)
    assert screening.outcome.reason is NotAnalysedReason.TOO_FEW_SLICES
    assert screening.probabilities is not None


def test_affected_slices_change_the_decision(tmp_path: Path) -> None:
    """Twelve dense slices of about forty: affected beyond the threshold."""
    study = only_study(write_volume(tmp_path, with_lesions(chest_hu(), 12)))
    screening, _ = screen(study, segmenter=GenerousSegmenter())
    assert isinstance(screening.outcome, Decision)
    assert screening.outcome.patient_class is PatientClass.COVID_19
    assert len(screening.outcome.affected_slice_indices) == 12
    assert min(screening.outcome.affected_slice_indices) == 24


class GenerousSegmenter(ThresholdSegmenter):
    """Knows where the lungs are, dense or not: as a trained network does."""

    def logits(self, hu: NDArray[np.int16]) -> NDArray[np.float32]:
        logits = super().logits(hu)
        logits[hu == -100] = 1.0
        return logits


class BrokenSegmenter(ThresholdSegmenter):
    """Gives a mask of another size."""

    def mask(self, logits: NDArray[np.float32]) -> NDArray[np.bool_]:
        return super().mask(logits)[:, :-1]


def test_failing_model_is_no_result(tmp_path: Path) -> None:
    """A broken model must fail the run: "not analysed" would blame the patient's study."""
    study = only_study(write_volume(tmp_path, chest_hu()))
    with pytest.raises(ModelFailure):
        screen(study, segmenter=BrokenSegmenter())
