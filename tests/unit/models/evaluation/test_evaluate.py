"""One model on one data set, end to end: figures by hand, leaks refused, files written."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.datasets import read_dataset
from models.datasets.image_csv import read_image_csv
from models.errors import DatasetInvalid, LeakingSplit
from models.evaluation.card import card_text
from models.evaluation.class_names import match_classes
from models.evaluation.evaluate import EvaluationSettings, evaluate
from models.evaluation.flattery import measure_flattery
from models.evaluation.page import render_page, write_folder
from models.evaluation.patients import VoteOutcome
from models.evaluation.report import read_metrics
from models.manifest import HuWindow, Metric
from tests import dataset_factories as factories
from tests.model_factories import write_air_model, write_brightness_model, write_density_model

QUICK = EvaluationSettings(with_cost=False, n_resamples=100)


def write_pictures(
    folder: Path, greys: dict[str, int], rows: list[str], name: str = "labels.csv"
) -> Path:
    """Write constant pictures and a CSV; give the CSV."""
    for file, grey in greys.items():
        factories.save(np.full((8, 8), grey, np.uint8), folder / file)
    (folder / name).write_text("\n".join(["file,label,patient", *rows]) + "\n", "utf-8")
    return folder / name


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Six pictures of six people: bright ones are ill, but one is dark and one well one bright."""
    greys = {"a.png": 60, "b.png": 80, "c.png": 130, "d.png": 70, "e.png": 140, "f.png": 150}
    labels = {"a.png": 0, "b.png": 0, "c.png": 0, "d.png": 1, "e.png": 1, "f.png": 1}
    names = ("normal", "covid-19")
    rows = [f"{file},{names[label]},p{file[0]}" for file, label in labels.items()]
    write_pictures(tmp_path / "pictures", greys, rows)
    return tmp_path / "pictures"


def test_brightness_model_gets_its_hand_worked_figures(pictures: Path, tmp_path: Path) -> None:
    """Two of three of each class are right; the probability is the logistic of the mean."""
    folder = write_brightness_model(tmp_path / "model")
    one = evaluate(folder, read_image_csv(pictures), QUICK)
    assert one.report.images is not None
    assert one.report.images.accuracy.value == pytest.approx(4 / 6)
    assert one.report.images.confusion == ((2, 1), (1, 2))
    # pairs of ill above well: d (70) above a; e and f above all three: 7 of 9
    assert one.report.images.classes[1].auc.value == pytest.approx(7 / 9)
    assert one.probabilities is not None
    assert one.probabilities[0, 1] == pytest.approx(1 / (1 + np.exp(4.0)), rel=1e-4)


def test_validation_data_choose_threshold_and_temperature(pictures: Path, tmp_path: Path) -> None:
    """Where validation data say that illness begins at 60, the picture of 70 is ill."""
    folder = write_brightness_model(tmp_path / "model")
    greys = {"v1.png": 20, "v2.png": 51, "v3.png": 65, "v4.png": 160, "v5.png": 62}
    rows = ["v1.png,normal,q1", "v2.png,normal,q2", "v3.png,covid-19,q3", "v4.png,covid-19,q4"]
    chosen_on = read_image_csv(
        pictures, write_pictures(pictures, greys, [*rows, "v5.png,normal,q5"], "validation.csv")
    )
    report = evaluate(folder, read_image_csv(pictures), replace(QUICK, validation=chosen_on)).report
    assert report.decision is not None
    assert report.decision.rule == "youden"
    assert report.decision.chosen_on == "pictures (validation)"
    assert report.images is not None
    assert report.images.confusion == ((1, 2), (0, 3))
    assert report.temperature is not None
    assert report.temperature.value != 1.0


def test_validation_data_that_leak_are_refused(pictures: Path, tmp_path: Path) -> None:
    """The same person, or the same picture under another name, cannot choose the threshold."""
    folder = write_brightness_model(tmp_path / "model")
    data = read_image_csv(pictures)
    rows = ["v1.png,normal,pa", "v2.png,covid-19,q2"]
    same_person = write_pictures(pictures, {"v1.png": 10, "v2.png": 250}, rows, "v.csv")
    with pytest.raises(LeakingSplit, match=r"patients .* pa"):
        evaluate(folder, data, replace(QUICK, validation=read_image_csv(pictures, same_person)))
    rows = ["v1.png,normal,q1", "v2.png,covid-19,q2"]
    same_picture = write_pictures(pictures, {"v1.png": 60, "v2.png": 250}, rows, "w.csv")
    validation = read_image_csv(pictures, same_picture)
    with pytest.raises(LeakingSplit, match=r"a\.png = v1\.png"):
        evaluate(folder, data, replace(QUICK, validation=validation))
    allowed = replace(QUICK, validation=validation, allow_leaks_because="to show the effect")
    assert evaluate(folder, data, allowed).report.data.assumptions == (
        "leaks allowed: to show the effect",
    )


def test_grey_pictures_need_a_window_for_a_model_of_hu(pictures: Path, tmp_path: Path) -> None:
    """The window is stated, not guessed; it stands in the report."""
    folder = write_density_model(tmp_path / "model")
    with pytest.raises(DatasetInvalid, match="--window"):
        evaluate(folder, read_image_csv(pictures), QUICK)
    settings = replace(QUICK, window=HuWindow(-1000.0, 20.0))
    one = evaluate(folder, read_image_csv(pictures), settings)
    assert one.predictions is not None
    assert one.predictions.logits[0, 1] == pytest.approx((-1000 + 60 * 4 + 500) / 100)
    assert one.report.data.assumptions == ("pictures show -1000 to 20 HU",)


def test_classes_that_do_not_fit_are_named_and_mapped(pictures: Path, tmp_path: Path) -> None:
    """A class of the data that the model does not know is mended by a map."""
    folder = write_brightness_model(tmp_path / "model", ("non-covid-19", "covid-19"))
    with pytest.raises(DatasetInvalid, match="--map normal=CLASS"):
        evaluate(folder, read_image_csv(pictures), QUICK)
    settings = replace(QUICK, class_map={"normal": "non-covid-19"})
    report = evaluate(folder, read_image_csv(pictures), settings).report
    assert report.data.assumptions == ("normal counts as non-covid-19",)
    assert report.images is not None
    assert report.images.accuracy.value == pytest.approx(4 / 6)


def test_usual_names_of_classes_are_understood() -> None:
    """COVID, CT_COVID and 1 are the second class; an unknown name is refused."""
    want = ("non-covid-19", "covid-19")
    assert match_classes(("COVID", "NonCOVID"), want) == (1, 0)
    assert match_classes(("CT_COVID", "CT_NonCOVID"), want) == (1, 0)
    assert match_classes(("0", "1"), want) == (0, 1)
    with pytest.raises(DatasetInvalid, match="'flu'"):
        match_classes(("flu",), want)


def test_slice_model_on_volumes_votes_on_patients(tmp_path: Path) -> None:
    """Slices with lungs are judged, each patient is voted on, and files say it all."""
    lungs = write_air_model(tmp_path / "lungs")
    slices = write_density_model(tmp_path / "slices")
    data = read_dataset("spgc", factories.write_dataset("spgc", tmp_path / "data"))

    def by_mean(
        classes: tuple[str, ...], indices: np.ndarray, table: np.ndarray, spacing_mm: float
    ) -> VoteOutcome:
        assert spacing_mm == factories.SLICE_MM
        assert (np.diff(indices) > 0).all()
        means = table.mean(axis=0)
        return VoteOutcome(classes[int(means.argmax())], float(means.max()))

    settings = replace(QUICK, lungs=lungs, votes={"by mean": by_mean}, with_whole_image=True)
    one = evaluate(slices, data, settings)
    report = one.report
    assert one.predictions is not None
    n_judged, n_left_out = len(one.predictions.indices), len(one.predictions.without_lungs)
    assert n_judged + n_left_out == len(data)
    assert n_judged > len(data) / 2
    assert report.affected is not None
    assert report.whole_image is not None
    assert report.whole_image.n_images == n_judged
    (policy,) = report.patients
    assert policy.n_patients == 6
    assert policy.n_right + policy.n_wrong == 6
    assert any("rough" in remark for remark in report.remarks)
    written = {path.relative_to(tmp_path / "out") for path in write_folder(one, tmp_path / "out")}
    assert Path("folders/COVID-19 subjects.csv") in written
    with (tmp_path / "out" / "folders" / "CAP subjects.csv").open(encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    assert [row[0] for row in rows] == ["folder", "cap001", "cap002"]


def test_lung_model_is_measured_beside_the_threshold_method(tmp_path: Path) -> None:
    """Both find the lungs of two small chests, each with the same clean-up as in the node."""
    folder = write_air_model(tmp_path / "lungs")
    (tmp_path / "data").mkdir()
    factories.write_lctsc_dicom(tmp_path / "data")
    data = read_dataset("lctsc", tmp_path / "data")
    report = evaluate(folder, data, QUICK).report
    assert report.masks is not None
    assert report.masks.mean is not None
    assert report.masks.mean.value > 0.8
    assert report.baseline_masks is not None
    assert len(report.masks.patients) == len(report.baseline_masks.patients) == 2


def test_lung_model_on_grey_pictures_is_measured_one_by_one(tmp_path: Path) -> None:
    """Pictures that form no volume have no clean-up; Dice is pooled by patient."""
    folder = write_air_model(tmp_path / "lungs")
    data = read_dataset("image-csv", factories.write_dataset("image-csv", tmp_path / "data"))
    report = evaluate(folder, data, replace(QUICK, window=HuWindow(-1024.0, 400.0))).report
    assert report.masks is not None
    assert len(report.masks.patients) == 6
    assert report.baseline_masks is None


def test_written_page_needs_no_other_file(pictures: Path, tmp_path: Path) -> None:
    """One page with its plots inside; metrics.json reads back; each picture has its row."""
    folder = write_brightness_model(tmp_path / "model")
    one = evaluate(folder, read_image_csv(pictures), replace(QUICK, with_cost=True))
    write_folder(one, tmp_path / "out")
    page = (tmp_path / "out" / "evaluation.html").read_text("utf-8")
    assert page.count("data:image/png;base64,") == 3
    assert "http" not in page
    assert "0.667" in page
    document = read_metrics(tmp_path / "out" / "metrics.json")
    assert document["images"]["confusion"] == [[2, 1], [1, 2]]
    assert document["cost"]["graph"]["n_macs"] == 2
    with (tmp_path / "out" / "predictions.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["decision"] for row in rows].count("covid-19") == 3
    assert float(rows[0]["p_covid-19"]) == pytest.approx(1 / (1 + np.exp(4.0)), rel=1e-3)


def test_page_shows_the_publication_of_the_recipe(pictures: Path, tmp_path: Path) -> None:
    """A model that follows a published system stands beside its figure."""
    folder = write_brightness_model(tmp_path / "model")
    one = evaluate(folder, read_image_csv(pictures), QUICK)
    assert "published:" not in render_page(one, ())
    model = replace(one.report.model, recipe="covid-ct-mobile")
    page = render_page(replace(one, report=replace(one.report, model=model)), ())
    assert "published: covid-ct-mobile" in page
    assert "0.810" in page
    assert "Published figures are those of their publication" in page


def test_data_that_a_model_has_learnt_from_are_pointed_out(pictures: Path, tmp_path: Path) -> None:
    """Its own data set flatters it; the test part of that set does not."""
    folder = write_brightness_model(tmp_path / "model")
    (source,) = folder.manifest.training_data
    own = replace(read_image_csv(pictures), name=source.name)
    assert any("has learnt from" in one for one in evaluate(folder, own, QUICK).report.remarks)
    for other in (
        evaluate(folder, own, replace(QUICK, part="test")),
        evaluate(folder, read_image_csv(pictures), QUICK),
    ):
        assert not any("has learnt from" in one for one in other.report.remarks)


def test_figures_on_every_image_of_a_training_are_called_meaningless(
    pictures: Path, tmp_path: Path
) -> None:
    """A model of folds has learnt from all of its data; what it was worth stands in its card."""
    folder = write_brightness_model(tmp_path / "model")
    (source,) = folder.manifest.training_data
    place = f"{source.name}, out of fold, 6 images; interval over patients"
    metrics = (Metric("accuracy", 0.7, 0.5, 0.9, place, 6),)
    folder = replace(folder, manifest=replace(folder.manifest, metrics=metrics))
    own = replace(read_image_csv(pictures), name=source.name)
    remarks = evaluate(folder, own, QUICK).report.remarks
    assert any("mean nothing" in one for one in remarks)
    assert not any("tuned on" in one for one in remarks)


def test_metrics_of_another_form_are_refused(tmp_path: Path) -> None:
    """An old file is not misread."""
    (tmp_path / "metrics.json").write_text(json.dumps({"schema_version": 0}), "utf-8")
    with pytest.raises(DatasetInvalid, match="evaluate the model again"):
        read_metrics(tmp_path / "metrics.json")


def test_split_by_images_flatters_where_patients_resemble_themselves(tmp_path: Path) -> None:
    """Labels by coin toss per patient: a new patient is a guess, a seen one is recognised."""
    rng = np.random.default_rng(1)
    rows = ["file,label,patient"]
    for patient in range(24):
        pattern = rng.integers(0, 255, (32, 32))
        for number in range(4):
            noisy = np.clip(pattern + rng.normal(0, 8, pattern.shape), 0, 255).astype(np.uint8)
            factories.save(noisy, tmp_path / f"{patient}-{number}.png")
            rows.append(f"{patient}-{number}.png,{patient % 2},{patient}")
    (tmp_path / "labels.csv").write_text("\n".join(rows), "utf-8")
    found = measure_flattery(read_image_csv(tmp_path))
    assert found.by_image > 0.95
    assert found.by_patient < 0.75
    assert found.same_patient == 1.0


def test_folds_are_measured_each_on_their_own_patients(tmp_path: Path) -> None:
    """Two models, two patients; a patient in two folds is refused."""
    folder = write_air_model(tmp_path / "lungs")
    (tmp_path / "data").mkdir()
    factories.write_lctsc_dicom(tmp_path / "data")
    data = read_dataset("lctsc", tmp_path / "data")
    folds = [(folder, ("Case_000",)), (folder, ("Case_001",))]
    report = evaluate(folder, data, replace(QUICK, lung_folds=folds)).report
    assert report.masks is not None
    assert [one.patient for one in report.masks.patients] == ["Case_000", "Case_001"]
    assert report.masks.mean is not None
    assert "2 models" in report.remarks[0]
    text = card_text(report)
    assert text.count("[[metrics]]") == 3
    assert f"value = {report.masks.mean.value:.4f}" in text
    twice = [(folder, ("Case_000",)), (folder, ("Case_000",))]
    with pytest.raises(DatasetInvalid, match="two folds"):
        evaluate(folder, data, replace(QUICK, lung_folds=twice))
