"""Every layout is read completely, in grey or HU, with its patients; wrong folders are refused.

Real data lie outside the project (``SCREENER_TEST_DATA``); their tests skip where they are absent.
"""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from models.datasets import LAYOUTS, PatientSource, Unit, read_dataset
from models.datasets.dicom_files import read_hu
from models.datasets.image_csv import read_image_csv
from models.errors import DatasetInvalid
from tests import dataset_factories as factories
from tests.ct_factories import read_hu_as_the_node_does

PROJECT = Path(__file__).resolve().parents[4]
TEST_DATA = Path(os.environ.get("SCREENER_TEST_DATA", PROJECT.parent / "shared" / "data"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_reader_accepts_its_layout(layout: str, tmp_path: Path) -> None:
    """Names are unique, nobody is without patient, and image and masks have one shape."""
    data = read_dataset(layout, factories.write_dataset(layout, tmp_path))
    assert data.layout == layout
    assert len({sample.name for sample in data.samples}) == len(data) > 0
    assert all(sample.patient for sample in data.samples)
    image = data.image(0)
    assert image.dtype == (np.uint8 if data.unit is Unit.GREY else np.int16)
    assert image.shape == (factories.SIZE, factories.SIZE)
    for structure in data.structures:
        assert data.mask(0, structure).shape == image.shape
        assert data.mask(0, structure).any()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("other", ["empty", "image-csv", "dicom-csv"])
def test_reader_refuses_another_layout(layout: str, other: str, tmp_path: Path) -> None:
    """The message names the folder or the table; nothing is read in part."""
    is_general = layout == "spgc" and other == "dicom-csv"  # any folders of DICOM are patients
    if layout == other or is_general:
        pytest.skip("this folder is of the layout")
    if other != "empty":
        factories.write_dataset(other, tmp_path)
    with pytest.raises(DatasetInvalid, match=str(tmp_path)):
        read_dataset(layout, tmp_path)


def test_reader_of_unknown_layout_lists_the_known(tmp_path: Path) -> None:
    """A misspelt layout is answered with the names that exist."""
    with pytest.raises(DatasetInvalid, match="covid-ct, spgc"):
        read_dataset("covidct", tmp_path)
    with pytest.raises(DatasetInvalid, match="no folder"):
        read_dataset("covid-ct", tmp_path / "absent")


def test_covid_ct_takes_parts_from_the_lists(tmp_path: Path) -> None:
    """Images that no list names belong to no part."""
    factories.write_dataset("covid-ct", tmp_path)
    (tmp_path / "Data-split" / "COVID" / "testCT_COVID.txt").unlink()
    data = read_dataset("covid-ct", tmp_path)
    parts = Counter(sample.part for sample in data.samples)
    assert parts == {"training": 6, "validation": 6, "test": 3, "": 3}


def test_covid_ct_groups_papers_figures_and_runs(tmp_path: Path) -> None:
    """Panels of one figure are together, consecutive numbers too, and 33 is not figure 33."""
    for name in ("33.png", "34.png", "36.png", "33%0.png", "33%1.png"):
        factories.save(np.zeros((4, 4), np.uint8), tmp_path / "NonCOVID" / name)
    for name in ("2020.03.01.1-p3-7.png", "2020.03.01.1-p12-9%2.png"):
        factories.save(np.zeros((4, 4), np.uint8), tmp_path / "CT_COVID" / name)
    patients = {Path(s.name).name: s.patient for s in read_dataset("covid-ct", tmp_path).samples}
    assert patients["33.png"] == patients["34.png"] == "run 33"
    assert patients["36.png"] == "run 36"
    assert patients["33%0.png"] == patients["33%1.png"] == "figure 33"
    assert patients["2020.03.01.1-p3-7.png"] == patients["2020.03.01.1-p12-9%2.png"]


def test_covid_ct_lists_without_pictures_are_refused(tmp_path: Path) -> None:
    """Lists of another version would leave every image without a part."""
    factories.write_dataset("covid-ct", tmp_path)
    for path in (tmp_path / "Data-split").rglob("*.txt"):
        path.write_text("elsewhere.png\n", "utf-8")
    with pytest.raises(DatasetInvalid, match="none of them is there"):
        read_dataset("covid-ct", tmp_path)


def test_spgc_labels_run_from_cranial_to_caudal(tmp_path: Path) -> None:
    """The first label belongs to the highest slice, whatever the files are called."""
    for number in range(3):
        hu = np.full((8, 8), number, np.int16)
        factories.write_dicom_slice(
            tmp_path / "CAP" / "c1" / f"{number}.dcm", hu, 10.0 * number, ""
        )
    (tmp_path / "Index.csv").write_text(
        "Label Index,Diagnosis,Relative Path,Folder/ID\n0,CAP,./CAP/,c1\n", "utf-8"
    )
    np.save(tmp_path / "Slice-level-labels.npy", np.array([[1, 0, 0, 0]]))
    data = read_dataset("spgc", tmp_path)
    assert [sample.label for sample in data.samples] == [2, 0, 0]
    assert [int(data.image(n)[0, 0]) for n in range(3)] == [2, 1, 0]
    assert [sample.slice_number for sample in data.samples] == [0, 1, 2]


def test_spgc_without_labels_leaves_slices_of_ill_patients_unlabelled(tmp_path: Path) -> None:
    """What nobody has looked at has no label; a normal patient has normal slices."""
    factories.write_dataset("spgc", tmp_path)
    (tmp_path / "Index.csv").unlink()
    data = read_dataset("spgc", tmp_path)
    labels = {(s.patient_label, s.label) for s in data.samples}
    assert labels == {(0, 0), (1, None), (2, None)}


def test_spgc_labels_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    """An infected slice beyond the last slice means that slices are missing."""
    factories.write_dataset("spgc", tmp_path)
    labels = np.load(tmp_path / "Slice-level-labels.npy")
    labels[:, -1] = 1
    np.save(tmp_path / "Slice-level-labels.npy", labels)
    with pytest.raises(DatasetInvalid, match="not complete"):
        read_dataset("spgc", tmp_path)


def test_sars_cov_2_ct_blocks_hold_neighbours(tmp_path: Path) -> None:
    """No patient is invented: the set says that blocks stand for patients."""
    data = read_dataset("sars-cov-2-ct", factories.write_dataset("sars-cov-2-ct", tmp_path))
    assert data.patient_source is PatientSource.BLOCK
    assert Counter(s.patient for s in data.samples)["covid-19 block 1"] == 3
    assert len(data.patients()) == 8


def test_covid_19_ct_seg_turns_radiopaedia_upright(tmp_path: Path) -> None:
    """Picture and masks are turned alike, rows only; two series of a study are one patient."""
    data = read_dataset("covid-19-ct-seg", factories.write_dataset("covid-19-ct-seg", tmp_path))
    last = len(data) - 1
    assert data.samples[last].patient == "radiopaedia_4_85506"
    expected = factories.slice_grey(factories.COVID_19, 2, factories.N_SLICES - 1)
    assert np.array_equal(data.image(last), expected)
    lungs = factories.lung_mask(factories.COVID_19, factories.N_SLICES - 1)
    assert np.array_equal(data.mask(last, "lung"), lungs)


def test_lctsc_grey_values_become_hu(tmp_path: Path) -> None:
    """0 is -1024 HU and 255 is 400 HU."""
    for number, grey in enumerate((0, 255)):
        name = f"Case_000_{number:03d}.png"
        factories.save(np.full((4, 4), grey, np.uint8), tmp_path / "img" / name)
        factories.save(np.ones((4, 4), np.bool_), tmp_path / "lung" / name)
    data = read_dataset("lctsc", tmp_path)
    assert [int(data.image(n)[0, 0]) for n in range(2)] == [-1024, 400]


def test_lctsc_masks_of_dicom_run_from_caudal_to_cranial(tmp_path: Path) -> None:
    """The first mask of the array belongs to the lowest slice."""
    masks = np.zeros((3, 8, 8), np.uint8)
    for number in range(3):
        masks[number, : number + 1] = 1
        hu = np.full((8, 8), number, np.int16)
        factories.write_dicom_slice(
            tmp_path / "Case_9_x" / f"{9 - number}.dcm", hu, 5.0 * number, ""
        )
    np.savez(tmp_path / "Case_9_lungmask.npz", masks=masks)
    data = read_dataset("lctsc", tmp_path)
    assert [int(data.image(n)[0, 0]) for n in range(3)] == [0, 1, 2]
    assert [int(data.mask(n, "lung").sum()) for n in range(3)] == [8, 16, 24]


def test_large_slice_set_keeps_unlisted_pictures_together(tmp_path: Path) -> None:
    """A picture without row is not lost and does not become a patient of its own."""
    factories.write_dataset("large-slice-set", tmp_path)
    extra = tmp_path / "curated_data" / "curated_data" / "3CAP"
    for name in ("x1.png", "x2.png"):
        factories.save(np.zeros((4, 4), np.uint8), extra / name)
    data = read_dataset("large-slice-set", tmp_path)
    patients = Counter(sample.patient for sample in data.samples)
    assert patients["community-acquired-pneumonia without patient"] == 2
    assert patients["normal 0"] == factories.N_SLICES


def test_radiograph_mask_gets_the_size_of_its_image(tmp_path: Path) -> None:
    """Nearest neighbour, by the centres of pixels."""
    data = read_dataset("radiography", factories.write_dataset("radiography", tmp_path))
    halved = factories.lung_mask(factories.NORMAL, 0)[::2, ::2]
    assert np.array_equal(data.mask(0, "lung"), halved.repeat(2, axis=0).repeat(2, axis=1))


def test_dicom_csv_with_a_folder_labels_the_patient(tmp_path: Path) -> None:
    """A label of a folder is no label of its slices."""
    factories.write_dataset("dicom-csv", tmp_path)
    (tmp_path / "labels.csv").write_text("file,label\nnormal-0,normal\ncovid-19-1,ill\n", "utf-8")
    data = read_dataset("dicom-csv", tmp_path)
    assert {(s.patient, s.label, s.patient_label) for s in data.samples} == {
        ("normal-0", None, 1),
        ("covid-19-1", None, 0),
    }
    assert data.samples[0].slice_number == 0
    assert np.array_equal(
        data.image(0), factories.slice_hu(factories.COVID_19, 1, factories.N_SLICES - 1)
    )


@pytest.mark.parametrize(
    ("table", "match"),
    [
        ("file\na.png\n", "needs label"),
        ("file,label\n", "no rows"),
        ("file,label\nabsent.png,1\n", "absent.png"),
        ("file,label\na.png,1\na.png,0\n", "twice"),
        ("file,label\n../a.png,1\n", "relative"),
        ("file,label,part\na.png,1,train\n", "training, validation or test"),
        ("file,label,patient\na.png,1,\n", "no patient"),
        ("file,label\na.png,1,2\n", "3 cells"),
    ],
)
def test_image_csv_with_a_wrong_cell_is_refused(table: str, match: str, tmp_path: Path) -> None:
    """The message names table, cell and mend."""
    factories.save(np.zeros((4, 4), np.uint8), tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text(table, "utf-8")
    with pytest.raises(DatasetInvalid, match=match):
        read_dataset("image-csv", tmp_path)


def test_image_csv_without_its_folder_is_refused(tmp_path: Path) -> None:
    """A wrong path of the pictures is named as such, not as the first picture that is missing."""
    (tmp_path / "labels.csv").write_text("file,label\na.png,1\n", "utf-8")
    with pytest.raises(DatasetInvalid, match="absent is no folder"):
        read_image_csv(tmp_path / "absent", labels=tmp_path / "labels.csv")


def real(folder: str) -> Path:
    path = TEST_DATA / folder
    if not path.is_dir():
        pytest.skip(f"{path} is not there; set SCREENER_TEST_DATA")
    return path


def test_real_covid_ct_has_its_official_parts() -> None:
    """425 for training and 118 for validation; the test is held out."""
    data = read_dataset("covid-ct", real("train/covid-ct"))
    assert Counter((s.part, s.label) for s in data.samples) == {
        ("training", 1): 191,
        ("training", 0): 234,
        ("validation", 1): 60,
        ("validation", 0): 58,
    }


def test_real_spgc_labels_fall_on_the_listed_slices() -> None:
    """133 slices under one SOP Instance UID are 133 slices; labels follow Slice Location."""
    data = read_dataset("spgc", real("dicom/ctmd"))
    counts = Counter((s.patient, s.label) for s in data.samples)
    assert counts["COVID_P002", 0] + counts["COVID_P002", 1] == 133
    assert counts["COVID_P002", 1] == 68
    assert counts["CAP_cap002", 2] == 9
    assert counts["NORMAL_normal001", 0] == 64
    of_p002 = [s for s in data.samples if s.patient == "COVID_P002"]
    assert of_p002[0].name.endswith("IM0001.dcm")


def test_real_covid_19_ct_seg_stands_upright() -> None:
    """In every case the lungs are widest towards the back, beside the spine."""
    data = read_dataset("covid-19-ct-seg", real("train/covid19ctseg256"))
    assert len(data.patients()) == 12
    for patient in data.patients():
        of_patient = [n for n, s in enumerate(data.samples) if s.patient == patient]
        middle = of_patient[len(of_patient) // 2]
        lungs = data.mask(middle, "lung")
        rows = np.flatnonzero(lungs.any(axis=1))
        widest = int(lungs.sum(axis=1).argmax())
        assert widest >= rows[0] + 0.4 * (rows[-1] - rows[0]), patient


def test_real_slices_read_as_the_node_reads_them() -> None:
    """The door of the data sets and the door of the node give the same HU (ADR 19)."""
    for name in ("dicom/ctmd/COVID_P002", "dicom/lctsc/Case_005_jpegls", "dicom/nysbu"):
        for path in sorted(real(name).glob("*.dcm"))[:4]:
            assert np.array_equal(read_hu(path), read_hu_as_the_node_does(path)), path
