"""Networks look where they should; exported graphs compute what torch computes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from models.manifest import HuWindow, read_manifest  # noqa: E402
from models.registry import SHIPPED_MODELS, open_model_folder, verify_model  # noqa: E402
from models.session import LungSegmenter, Provider, SliceClassifier  # noqa: E402
from models.training.manifest_writer import manifest_text, write_manifest  # noqa: E402
from models.training.networks import (  # noqa: E402
    N_QUANTITIES,
    InputGrid,
    LungGraph,
    SliceGraph,
    SliceNetwork,
    TwoAnswerUNet,
    choose_answer,
    crop_boxes,
    measure_maps,
    normalise_hu,
)
from models.training.package import package_lungs, package_slices  # noqa: E402

WINDOW = HuWindow(-1000.0, 200.0)


def test_normalised_hu_span_minus_one_to_one() -> None:
    """The window's ends become -1 and 1; beyond is clipped."""
    hu = torch.tensor([-3000.0, -1000.0, -400.0, 200.0, 3000.0])
    assert normalise_hu(hu, WINDOW).tolist() == [-1.0, -1.0, 0.0, 1.0, 1.0]


def test_crop_of_even_box_is_its_block_mean() -> None:
    """A box of twice the grid gives the mean of 2 by 2 pixels, exactly."""
    image = torch.arange(64.0).view(1, 1, 8, 8)
    crop = crop_boxes(image, torch.tensor([[2.0, 0.0, 6.0, 8.0]]), 4)
    columns = image[0, 0, 2:6].reshape(4, 4, 2).mean(dim=2)
    assert torch.allclose(crop[0, 0], columns, atol=1e-4)


def test_crop_of_box_beyond_the_image_repeats_its_border() -> None:
    """A jittered box may reach outside; the border pixel stands for what is there."""
    image = torch.full((1, 1, 8, 8), 3.0)
    crop = crop_boxes(image, torch.tensor([[-4.0, -4.0, 12.0, 12.0]]), 4)
    assert torch.allclose(crop, torch.full((1, 1, 4, 4), 3.0))


def test_quantities_do_not_tell_left_from_right() -> None:
    """Which lung is affected is no hint at the cause."""
    maps = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    quantities = measure_maps(maps)
    assert quantities.shape == (2, N_QUANTITIES)
    assert torch.allclose(quantities, measure_maps(maps.flip(3)), atol=1e-5)


def test_quantities_grow_with_the_lesion() -> None:
    """More of the lung affected, and consolidated, gives larger shares."""
    maps = torch.zeros(2, 3, 24, 24)
    maps[:, 2, 4:20, 2:22] = 1.0
    maps[0, 0, 10:12, 4:6] = 1.0
    maps[1, :2, 8:16, 4:12] = 1.0
    small, large = measure_maps(maps)
    assert small[0] < large[0]  # affected share
    assert small[8] < large[8]  # consolidated share of the lesion


def test_lesion_map_is_taught_by_lesion_masks_alone() -> None:
    """The class loss reaches neither the maps nor the features below them."""
    network = SliceNetwork((4, 8, 8))
    classes, _ = network(torch.randn(2, 1, 32, 32))
    classes.sum().backward()
    assert network.maps.weight.grad is None
    assert network.stem[1][0].weight.grad is None
    assert network.affected[1].weight.grad is not None


def test_class_logits_ask_two_questions() -> None:
    """Disease together has the odds of the first head, its causes those of the second."""
    network = SliceNetwork((4, 8, 8)).eval()
    image = torch.randn(3, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    classes, maps = network(image)
    evidence = measure_maps(torch.sigmoid(maps))
    probabilities = classes.softmax(dim=1)
    affected = torch.sigmoid(network.affected(evidence))[:, 0]
    assert torch.allclose(1.0 - probabilities[:, 0], affected, atol=1e-5)
    cause = torch.sigmoid(network.cause(evidence))[:, 0]
    assert torch.allclose(probabilities[:, 1], affected * cause, atol=1e-5)


def test_expected_prevalence_moves_the_odds_of_an_affected_slice_alone() -> None:
    """Bayes: odds of 1.5 in training and of 0.5 in practice are a factor of a third."""
    network = SliceNetwork((4, 8, 8)).eval()
    image = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(2))
    before = network(image)[0].softmax(dim=1)
    network.expect_prevalence(1.0 / 3.0, trained=0.6)
    after = network(image)[0].softmax(dim=1)
    odds = [(1.0 - one[:, 0]) / one[:, 0] for one in (before, after)]
    assert torch.allclose(odds[1] / odds[0], torch.full((2,), 1.0 / 3.0), atol=1e-5)
    causes = [one[:, 1] / one[:, 2] for one in (before, after)]
    assert torch.allclose(causes[0], causes[1], rtol=1e-4)


def test_solid_lung_is_believed_where_it_is_much_of_a_slice() -> None:
    """A slice whose second answer adds little keeps the first, one where it adds half does not."""
    first = torch.full((2, 1, 8, 8), -9.0)
    first[:, :, :4] = 9.0
    second = first.clone()
    second[0, :, 4:5] = 9.0  # a fifth of what the second answer finds
    second[1, :, 4:8] = 9.0  # half of it
    second[1, :, 0] = -9.0  # what the first finds is never lost
    chosen = choose_answer(torch.cat([first, second], dim=1))
    assert torch.equal(chosen[0], first[0])
    assert bool((chosen[1] > 0).all())


def test_packaged_lungs_compute_what_torch_computes(tmp_path: Path) -> None:
    """Export, pin, open and compare; the folder holds nothing from training."""
    torch.manual_seed(3)
    network = TwoAnswerUNet((4, 8, 8))
    template = SHIPPED_MODELS / "lung_segmentation"
    largest = package_lungs(network, InputGrid(WINDOW, 64), template=template, folder=tmp_path)
    assert largest < 1e-4
    folder = open_model_folder(tmp_path)
    assert verify_model(folder) == folder.manifest.sha256
    assert folder.manifest.hu_window == WINDOW
    assert sorted(one.name for one in tmp_path.iterdir()) == ["manifest.toml", "model.onnx"]
    content = folder.graph.read_bytes()
    assert b"models/training" not in content
    assert b".py" not in content
    hu = np.random.default_rng(0).integers(-1100, 300, (3, 90, 70)).astype(np.int16)
    session = LungSegmenter(folder, provider=Provider.CPU, threads=1)
    with torch.inference_mode():
        lung, whole, sums = LungGraph(network, InputGrid(WINDOW, 64)).eval()(torch.from_numpy(hu))
    np.testing.assert_allclose(session.logits(hu), lung.numpy(), atol=1e-4)
    answers = session.answers(hu)
    np.testing.assert_allclose(answers.sums, sums.numpy(), rtol=1e-3)
    cut = float(np.log(0.55 / 0.45))
    sure = np.abs(lung.numpy() - cut) > 1e-3
    assert ((answers.codes >= 128) == (lung.numpy() > cut))[sure].all()
    in_eighths = (answers.codes & 127).astype(np.float32) / 8.0 - 8.0
    np.testing.assert_allclose(in_eighths, whole.numpy().clip(-8.0, 7.875), atol=0.063)


def test_packaged_slices_compute_what_torch_computes(tmp_path: Path) -> None:
    """Class logits and lesion map agree at a size that the export did not see."""
    torch.manual_seed(4)
    network = SliceNetwork((4, 4, 8, 8))
    template = SHIPPED_MODELS / "slice_classifier"
    grid = InputGrid(WINDOW, 32)
    assert package_slices(network, grid, template=template, folder=tmp_path) < 1e-4
    session = SliceClassifier(open_model_folder(tmp_path), provider=Provider.CPU, threads=1)
    hu = np.random.default_rng(1).integers(-1100, 300, (1, 90, 70)).astype(np.int16)
    boxes = np.float32([[5, 6, 77.5, 60]])
    with torch.inference_mode():
        classes, lesion = SliceGraph(network, grid).eval()(
            torch.from_numpy(hu), torch.from_numpy(boxes)
        )
    np.testing.assert_allclose(session.logits(hu, boxes), classes.numpy(), atol=1e-4)
    np.testing.assert_allclose(session.lesion_logits(hu, boxes), lesion.numpy(), atol=1e-4)


@pytest.mark.parametrize("name", ["lung_segmentation", "slice_classifier"])
def test_manifest_written_reads_back_the_same(name: str, tmp_path: Path) -> None:
    """Quotes, backslashes and signs survive the way through TOML."""
    manifest = replace(
        read_manifest(SHIPPED_MODELS / name), summary='A "quoted" \\ path, α ≥ 0.7 – done'
    )
    (tmp_path / "model.onnx").write_bytes(b"any bytes")
    written = write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == written
    assert replace(written, sha256=manifest.sha256) == manifest
    assert manifest_text(written) == (tmp_path / "manifest.toml").read_text(encoding="utf-8")
