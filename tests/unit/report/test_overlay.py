"""The picture: that it shows what was found, where it was found."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from screener.domain import DefectCode, NotAnalysed, NotAnalysedReason, PatientClass, SourceDefect
from screener.report import render_overlay_png
from screener.report.overlay import HEIGHT, WIDTH, _spread
from screener.report.palette import CLASS_COLOURS, LUNG_COLOURS, NOT_ANALYSED, make_legible
from screener.report.planes import crop_around_lungs, render_projection, render_slice
from tests.report_factories import make_refusal, make_screening, write_study

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from screener.domain import Screening


@pytest.fixture
def screening(tmp_path: Path) -> Screening:
    return make_screening(write_study(tmp_path, 12))


def pixels_of(screening: Screening) -> NDArray[np.uint8]:
    picture = Image.open(BytesIO(render_overlay_png(screening)))
    assert picture.format == "PNG"
    assert picture.size == (WIDTH, HEIGHT)
    return np.asarray(picture)


def count(pixels: NDArray[np.uint8], colour: tuple[int, int, int]) -> int:
    return int((pixels == np.array(colour, np.uint8)).all(axis=-1).sum())


@pytest.mark.parametrize("patient_class", PatientClass)
def test_head_line_has_the_colour_of_the_answer(
    screening: Screening, patient_class: PatientClass
) -> None:
    """Each answer is announced in its own colour."""
    assert screening.outcome is not None
    outcome = replace(screening.outcome, patient_class=patient_class)  # type: ignore[type-var]
    pixels = pixels_of(replace(screening, outcome=outcome))
    assert tuple(pixels[2, WIDTH // 2]) == CLASS_COLOURS[patient_class]


def test_both_lungs_are_outlined(screening: Screening) -> None:
    """Right and left contours are drawn in their colours."""
    pixels = pixels_of(screening)
    for colour in LUNG_COLOURS.values():
        assert count(pixels, colour) > 1000


def test_picture_of_equal_screenings_is_equal(screening: Screening) -> None:
    """Nothing of the clock and nothing random goes into the picture."""
    assert render_overlay_png(screening) == render_overlay_png(screening)


def test_picture_holds_no_identity(screening: Screening) -> None:
    """Another study UID and another series give the same picture: neither is burned in."""
    assert screening.volume is not None
    other = replace(
        screening,
        run=replace(screening.run, study_instance_uid="9.9.9", run_id="other"),
        volume=replace(screening.volume, series_instance_uid="8.8.8"),
    )
    assert render_overlay_png(other) == render_overlay_png(screening)


def test_defects_of_the_source_change_the_picture(screening: Screening) -> None:
    """What is wrong with the source is shown, however much of it there is."""
    defects = tuple(
        SourceDefect(DefectCode.SLICE_GAP, f"{n} slices are missing near the lung base.", n)
        for n in range(1, 40)
    )
    shown = pixels_of(replace(screening, defects=defects))
    assert (shown != pixels_of(screening)).any()


def test_refusal_without_volume_is_drawn(tmp_path: Path) -> None:
    """A study that was not analysed has its page, in the colour of no answer."""
    refusal = make_refusal(write_study(tmp_path, 1), NotAnalysedReason.NO_IMAGES)
    pixels = pixels_of(refusal)
    assert tuple(pixels[2, 2]) == NOT_ANALYSED
    assert count(pixels, NOT_ANALYSED) > WIDTH * 8


def test_refusal_with_volume_shows_planes_without_lungs(screening: Screening) -> None:
    """What a refused study holds is shown, but nothing in it is called a lung."""
    refusal = make_refusal_of(screening)
    pixels = pixels_of(refusal)
    assert count(pixels, LUNG_COLOURS[1]) == 0
    assert count(pixels[170:900, :1080], (0, 0, 0)) < 700 * 1000


def make_refusal_of(screening: Screening) -> Screening:
    return replace(
        screening,
        outcome=NotAnalysed(NotAnalysedReason.NOT_A_CHEST, "No two lungs were found."),
        probabilities=None,
    )


def test_slice_is_drawn_in_place(screening: Screening) -> None:
    """Columns stay columns: the right lung's box lies left of the left lung's in the picture."""
    assert screening.volume is not None
    size = (200, 160)
    crop = crop_around_lungs(screening.volume, screening.lungs, size[0] / size[1])
    picture = np.asarray(render_slice(screening.volume, screening.lungs, 3, crop, size))
    columns = {
        label: np.flatnonzero((picture == np.array(colour)).all(axis=-1).any(axis=0)).mean()
        for label, colour in LUNG_COLOURS.items()
    }
    assert columns[1] < columns[2]


def test_crop_has_the_aspect_of_the_picture_in_millimetres(screening: Screening) -> None:
    """Pixels that are not square do not stretch the anatomy."""
    assert screening.volume is not None
    crop = crop_around_lungs(screening.volume, screening.lungs, 1.25)
    width_mm = (crop.right - crop.left) * 1.25
    height_mm = (crop.bottom - crop.top) * 1.5
    assert width_mm / height_mm == pytest.approx(1.25)


def test_projection_has_the_head_up(screening: Screening) -> None:
    """The last slice is the one nearest the head and stands in the top row."""
    assert screening.volume is not None
    volume_hu = screening.volume.volume_hu.copy()
    volume_hu[-1] = 600
    volume_hu[:-1] = -900
    projection = render_projection(replace(screening.volume, volume_hu=volume_hu), 120, 200)
    grey = np.asarray(projection.convert("L"))
    assert grey[0].mean() > grey[-1].mean() + 100
    assert projection.width <= 120
    assert projection.height <= 200


def test_rows_of_letters_keep_their_distance_inside_the_span() -> None:
    """Letters of neighbouring slices stay apart, and stay beside the picture."""
    assert _spread([10, 12, 14], (8, 200)) == [10, 27, 44]
    assert _spread([190, 195, 199], (8, 200)) == [166, 183, 200]


@pytest.mark.parametrize(
    ("text", "legible"),
    [("63 cm²", "63 cm2"), ("−5 – 3 ≥ x", "-5 - 3 >= x"), ("Größe 5°", "Grosse 5°"), ("山", "?")],
)
def test_signs_the_face_lacks_are_replaced(text: str, legible: str) -> None:
    """No empty boxes in the picture."""
    assert make_legible(text) == legible
